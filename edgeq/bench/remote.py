"""A worker on another machine, reached by the system's OpenSSH client."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from edgeq import bundle
from edgeq import runtime as runtimes
from edgeq.bench import local, remote_end
from edgeq.bench.address import Address, address
from edgeq.bench.local import OnProgress
from edgeq.bench.source import source
from edgeq.bench.worker import PACKAGES, Job
from edgeq.errors import CheckFailed, InputError
from edgeq.graph import model_file
from edgeq.manifest import MANIFEST
from edgeq.progress import progress

LEAST_PYTHON = (3, 11)
"""What the worker's source needs."""

_PATIENCE = 60.0
"""Seconds that another machine may take to start Python."""

_FAREWELL = 10.0
"""Seconds in which another machine has to end and clean up what ran there."""

_OPTIONS = (
    "BatchMode=yes",  # no questions: what would be asked is told as an error with its mend
    "ConnectTimeout=10", "ServerAliveInterval=10", "ServerAliveCountMax=3",
    "ControlMaster=no",  # a master that outlives this connection would hold on to its pipes
    "ClearAllForwardings=yes", "ForwardAgent=no", "ForwardX11=no",
)  # fmt: skip

_CHUNK = 1 << 20
_SOURCE = "source.zip"
_MODULES = sorted({"numpy", "onnx", "safetensors", *(module.partition(".")[0] for _, module in PACKAGES.values())})


def run(host: str, job: Job, on_progress: OnProgress | None = None) -> dict[str, Any]:
    """What a worker on another machine measures, see `bench.worker`; nothing of it stays there.

    host: as `Address`. job: paths are of this machine. Of a bundle the one file goes there that is run; where neither
    stage nor runtime is asked for, it is the first in the order of `runtime.choose_stage` that a runtime there takes.
    The other machine needs Python 3.11 with NumPy and a runtime, and a login without a password.
    Raises InputError where the machine cannot be reached or lacks something, the connection is lost, or the worker
    there says no; CheckFailed where it ended without a result.
    """
    there = address(host)
    with _connected(there) as (process, modules):
        chosen = [_choose(there, asked, job["precision"], modules) for asked in job["models"]]
        files: dict[str, Path | bytes] = {}
        models = []
        for index, (asked, choice) in enumerate(zip(job["models"], chosen, strict=True)):
            path, more = choice.files(f"model-{index}")
            inputs = None if asked["inputs"] is None else f"inputs-{index}.npy"
            files |= more if inputs is None else {**more, inputs: Path(asked["inputs"])}
            models.append({"path": path, "stage": choice.asked_stage, "runtime": choice.runtime, "inputs": inputs})
        code = source(torch=any(choice.runtime.startswith("torch") for choice in chosen))
        task = {"run": ["-m", "edgeq.bench.worker"], "stdin": json.dumps({**job, "models": models}) + "\n"}
        _send(there, process, task, {_SOURCE: code, **files})
        return _listen(there, process, on_progress)


@dataclass(frozen=True)
class _Choice:
    """What of a model runs: a file of its own, or a bundle as a whole, which torch needs."""

    path: Path
    stage: str
    runtime: str

    @property
    def asked_stage(self) -> str | None:
        return self.stage if self.path.is_dir() else None

    def files(self, folder: str) -> tuple[str, dict[str, Path | bytes]]:
        """Where the model lies there, below a folder; and what is sent: places there to files here."""
        if not self.path.is_dir():
            place = f"{folder}/{self.path.name}"
            return place, {place: model_file.checked(self.path)}
        opened = bundle.read(self.path)
        return folder, {f"{folder}/{name}": self.path / name for name in (MANIFEST, *opened.files)}


def _choose(there: Address, asked: Mapping[str, Any], precision: str | None, modules: Mapping[str, bool]) -> _Choice:
    """Raises InputError where no runtime there takes the model."""
    path, stage, runtime = Path(asked["path"]), asked["stage"], asked["runtime"]
    runtimes.form(path, stage, runtime)  # what makes no sense anywhere
    if runtime == "c" or stage == "c-int8":
        raise InputError(f"{there.text}: C is not compiled on other machines; copy the exported C there, and build it")
    opened = bundle.read(path) if path.is_dir() else None
    lacking: list[tuple[str, ...]] = []
    usual = [name for name in PACKAGES if name not in runtimes.GPU_RUNTIMES]
    for name in usual if runtime is None else [runtime]:
        try:
            found, _ = runtimes.form(opened or path, stage, name)
        except InputError:
            continue
        package, module = PACKAGES[name]
        needed = {package: module.partition(".")[0]}
        if found == "torch":
            needed["safetensors"] = "safetensors"
        elif name.startswith("torch") or (name.startswith("onnxruntime") and precision == "float16"):
            needed["onnx"] = "onnx"  # which reads the file
        absent = tuple(distribution for distribution, module in needed.items() if not modules[module])
        if absent:
            lacking.append(absent)
        elif opened is None or found == "torch":
            return _Choice(path, found, name)
        else:
            return _Choice(opened.checked(opened.exported(found)), found, name)
    wanted = " or ".join(dict.fromkeys(map(" and ".join, lacking)))
    raise InputError(f"{there.text}: {path} needs {wanted} there, found none; {there.install(*lacking[0])}")


@contextlib.contextmanager
def _connected(there: Address) -> Iterator[tuple[subprocess.Popen[bytes], Mapping[str, bool]]]:
    """Python started on another machine, waiting for its task, and which modules it has.

    The process, and what runs there, have ended afterwards. Raises InputError where that cannot be had.
    """
    script = Path(remote_end.__file__).read_bytes()
    command = f'{there.python} -uc "import sys;exec(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())))"'
    options = [word for option in _OPTIONS for word in ("-o", option)]
    with tempfile.TemporaryFile() as errors:
        try:
            # A group of its own: an interrupt is for this process, which then closes the connection in good order.
            process = subprocess.Popen(
                ["ssh", "-T", *options, *there.words[:-1], "--", there.words[-1], command],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, process_group=0,
            )  # fmt: skip
        except FileNotFoundError:
            raise InputError(
                "ssh: no such command; install OpenSSH's client: sudo apt install openssh-client"
            ) from None
        assert process.stdin is not None and process.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(b"%d\n%s" % (len(script), script))
                process.stdin.write(json.dumps({"modules": _MODULES}).encode() + b"\n")
                process.stdin.flush()
            yield process, _hello(there, process)
        except _Lost as lost:
            raise InputError(f"{there.text}: {_reason(there, process, errors, str(lost))}") from None
        finally:
            _close(process)


class _Lost(Exception):
    """The connection ended before its time; says when that was."""


_BEFORE, _AMID = "before it began", "in mid-run"


def _hello(there: Address, process: subprocess.Popen[bytes]) -> Mapping[str, bool]:
    """Which modules the machine has, once Python has started there; what its login prints before is passed over."""
    assert process.stdout is not None
    timer = threading.Timer(_PATIENCE, process.kill)
    timer.start()
    try:
        for line in process.stdout:
            with contextlib.suppress(ValueError):
                said = json.loads(line)
                if isinstance(said, dict) and "edgeq" in said:
                    break
        else:
            raise _Lost(_BEFORE)
    finally:
        timer.cancel()
    if tuple(map(int, said["python"].split(".")[:2])) < LEAST_PYTHON:
        raise InputError(
            f"{there.text}: {said['executable']} is Python {said['python']} there, expected "
            f"{'.'.join(map(str, LEAST_PYTHON))} or newer; name an environment of one, as in ssh://host/~/venv"
        )
    modules: dict[str, bool] = said["modules"]
    if not modules["numpy"]:
        raise InputError(f"{there.text}: {said['executable']} has no NumPy there; {there.install('numpy')}")
    return modules


def _send(
    there: Address, process: subprocess.Popen[bytes], task: Mapping[str, Any], files: Mapping[str, Path | bytes]
) -> None:
    """Hand over what is to run, and its files."""
    sizes = {name: len(file) if isinstance(file, bytes) else file.stat().st_size for name, file in files.items()}
    assert process.stdin is not None
    with progress(f"{there.text}: sending, MiB", sum(-(-size // _CHUNK) for size in sizes.values())) as advance:
        with contextlib.suppress(BrokenPipeError):  # what it said last says why
            process.stdin.write(json.dumps({**task, "source": _SOURCE, "files": list(sizes.items())}).encode() + b"\n")
            for name, file in files.items():
                for piece in _pieces(file, sizes[name]):
                    process.stdin.write(piece)
                    advance(1)
            process.stdin.flush()


def _pieces(file: Path | bytes, size: int) -> Iterator[bytes]:
    """All of a file, so many bytes: another size than was told would be taken for something else."""
    with io.BytesIO(file) if isinstance(file, bytes) else file.open("rb") as handle:
        while size:
            piece = handle.read(min(size, _CHUNK))
            if not piece:
                raise InputError(f"{file!s}: became shorter while it was sent; leave it alone, and run again")
            yield piece
            size -= len(piece)


def _listen(there: Address, process: subprocess.Popen[bytes], on_progress: OnProgress | None) -> dict[str, Any]:
    """The result, once it comes."""
    assert process.stdout is not None
    said = local.last(process.stdout, on_progress)
    if "error" in said:
        raise InputError(f"{there.text}: {said['error']}")
    if "ended" in said:
        last = said["last"] or "out of memory?"
        raise CheckFailed(f"{there.text}: the worker ended without a result (exit code {said['ended']}): {last}")
    if "result" not in said:
        raise _Lost(_AMID)
    found: dict[str, Any] = said["result"]
    return found


def _reason(there: Address, process: subprocess.Popen[bytes], errors: IO[bytes], when: str) -> str:
    """Why a connection ended, and the mend, by ssh's exit code and what it wrote."""
    _close(process)
    errors.seek(0)
    said = errors.read().decode(errors="replace")
    last = (said.strip().splitlines() or [""])[-1].strip() or "it says nothing"
    if process.returncode == 255 and when == _AMID:
        return f"the connection was lost in mid-run ({last}); nothing of the run is kept: run again"
    if process.returncode == 255:
        return next((mend for words, mend in _refusals(there) if words in said), "") or (
            f"cannot be reached ({last}); is it switched on, in this network, and does it run an SSH server?"
        )
    if process.returncode == -signal.SIGKILL:
        return f"Python did not start there within {_PATIENCE:g} s; does a login there wait for something?"
    if process.returncode in (126, 127):
        return (
            f"no {there.python} there; install Python {'.'.join(map(str, LEAST_PYTHON))} or newer (sudo apt install "
            "python3-venv), or name the folder of an environment, as in ssh://host/~/venv"
        )
    return f"Python there ended {when} (exit code {process.returncode}): {last}"


def _refusals(there: Address) -> Iterable[tuple[str, str]]:
    """What OpenSSH writes where it does not connect, and what to do; the first that fits."""
    login = " ".join(there.words)
    known = there.host if there.port is None else f"[{there.host}]:{there.port}"
    return (
        (
            "HOST IDENTIFICATION HAS CHANGED",
            "its host key is not the one that is known: another machine answers, or it was set up anew; where you know "
            f"that it was: ssh-keygen -R '{known}'",
        ),
        (
            "Host key verification failed",
            f"its host key is not known here; run once: ssh {login}, and compare the fingerprint with the machine's",
        ),
        (
            "Permission denied",
            f"does not let you in without a password; run: ssh-copy-id {login} (for a key with a passphrase: ssh-add)",
        ),
        ("Could not resolve hostname", f"no machine of the name {there.host}; check it, or give its address"),
    )


def _close(process: subprocess.Popen[bytes]) -> None:
    """End the connection: what runs there ends as its stdin does, and takes its files with it."""
    assert process.stdin is not None and process.stdout is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(_FAREWELL)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
