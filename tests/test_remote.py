"""Workers on another machine: an OpenSSH server of this machine's own, on its loopback, with its own keys."""

from __future__ import annotations

import ast
import getpass
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq import cli, zoo
from edgeq.bench import remote, remote_end
from edgeq.bench.address import address
from edgeq.bench.source import source
from edgeq.errors import CheckFailed, InputError

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
SSH = shutil.which("ssh")
MODEL = str(zoo.find("esc10-qtiny").folder)

HIDDEN = "torch,click,rich,safetensors,soundfile,soxr,onnx,scipy,tensorflow"
"""Packages of the package's own that a small board need not have."""

SITE = """
import os, platform, sys, tempfile

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in os.environ["HIDDEN"].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
if "edgeq-" in os.getcwd():
    tempfile.mkdtemp()  # as packages that the worker imports may do
if "PYTHON_VERSION" in os.environ:
    platform.python_version = lambda: os.environ["PYTHON_VERSION"]
"""

ALIASES = {
    "board": {},
    "litert-only": {"SetEnv": f"HIDDEN={HIDDEN},onnxruntime,tflite_runtime"},
    "no-runtime": {"SetEnv": f"HIDDEN={HIDDEN},onnxruntime,ai_edge_litert,tflite_runtime,openvino"},
    "no-numpy": {"SetEnv": f"HIDDEN={HIDDEN},numpy"},
    "old-python": {"SetEnv": "PYTHON_VERSION=3.9.2"},
    "no-path": {"Port": "{other_port}"},
    "other-key": {"IdentityFile": "{folder}/other"},
    "unknown": {"UserKnownHostsFile": "/dev/null"},
    "changed": {"UserKnownHostsFile": "{folder}/changed"},
    "closed": {"Port": "1"},
    "nameless": {"HostName": "a..b"},
}

PYTHONS = {
    "env": "",
    "home/venv": "",
    "chatty": "echo; echo 'Welcome to the board.'; echo '{}'",
    "full": "ulimit -f 16",  # of 1 KiB: as a disk that is full
    "slow": "sleep 3",
}


class Server:
    """An OpenSSH server; `files` is the folder of temporary files of what it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.files = folder, folder / "files"
        for name in ("files", "site", "bin"):
            (folder / name).mkdir()
        for name in ("host", "user", "other"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        (folder / "site" / "sitecustomize.py").write_text(SITE)
        for name, first in PYTHONS.items():
            self._script(folder / name / "bin" / "python", f'{first}\nexec "{sys.executable}" "$@"')
        with socket.socket() as one, socket.socket() as other:
            for each in (one, other):
                each.bind(("127.0.0.1", 0))
            self.port, self.other_port = one.getsockname()[1], other.getsockname()[1]
        for name, key in (("known", "host"), ("changed", "other")):
            (folder / name).write_text(f"board {(folder / key).with_suffix('.pub').read_text()}")
        (folder / "config").write_text("\n".join(self._client()))
        self._script(folder / "bin" / "ssh", f'exec "{SSH}" -F "{folder}/config" "$@"')
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nPort {self.other_port}\nListenAddress 127.0.0.1\n"
            f"HostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n"
            "PidFile none\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            "PermitRootLogin prohibit-password\nAcceptEnv *\nLogLevel ERROR\n"
            f"SetEnv HOME={folder}/home\n"  # no start-up files of one's own
            f"Match LocalPort {self.other_port}\n  SetEnv HOME={folder}/home PATH=/nowhere\n"
        )
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # which it asks for as root
        self.process = subprocess.Popen([str(SSHD), "-D", "-e", "-f", folder / "sshd_config"])
        self._wait()

    def _client(self) -> Iterator[str]:
        common = f"TMPDIR={self.files} PYTHONPATH={self.folder}/site OMP_NUM_THREADS=1"
        for name, changes in ALIASES.items():
            yield f"Host {name}"
            for option, value in changes.items():
                value = value.format(folder=self.folder, other_port=self.other_port)
                hidden = "" if "HIDDEN" in value else f" HIDDEN={HIDDEN}"
                yield f"  {option} {value}{f'{hidden} {common}' if option == 'SetEnv' else ''}"
        yield f"Host * !other-key\n  IdentityFile {self.folder}/user"
        yield f"Host *\n  HostName 127.0.0.1\n  Port {self.port}\n  User {getpass.getuser()}\n  HostKeyAlias board"
        yield f"  IdentitiesOnly yes\n  UserKnownHostsFile {self.folder}/known"
        yield f"  GlobalKnownHostsFile /dev/null\n  SetEnv HIDDEN={HIDDEN} {common}\n"

    @staticmethod
    def _script(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def _wait(self) -> None:
        for _ in range(200):
            if self.process.poll() is not None:
                pytest.skip(f"no OpenSSH server runs here: sshd ended with {self.process.returncode}")
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        pytest.fail("sshd does not listen")

    def at(self, alias: str = "board", python: str = "env") -> str:
        """The address of an alias."""
        return f"ssh://{alias}{self.folder / python if python else ''}"

    def workers(self) -> list[int]:
        """Processes that run among the temporary files."""
        found = []
        for place in Path("/proc").glob("[0-9]*/cwd"):
            try:
                if place.readlink().is_relative_to(self.files):
                    found.append(int(place.parent.name))
            except OSError:  # of another user, or ended just now
                continue
        return found

    def left(self, seconds: float = 0.0) -> list[object]:
        """Files and processes that are still there after so many seconds."""
        end = time.monotonic() + seconds
        while (found := [*self.files.iterdir(), *self.workers()]) and time.monotonic() < end:
            time.sleep(0.05)
        return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if SSHD is None or SSH is None or not Path("/proc/self/cwd").exists():
        pytest.skip("no OpenSSH server here: sudo apt install openssh-server")
    started = Server(tmp_path_factory.mktemp("ssh"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(started.folder / "bin"), prepend=os.pathsep)
        yield started
    started.process.terminate()
    started.process.wait()


def job(*models: dict[str, Any], **changes: Any) -> dict[str, Any]:
    asked = [{"path": MODEL, "stage": None, "runtime": None, "inputs": None, **model} for model in models or ({},)]
    values = {
        "precision": None,
        "cuda_graphs": False,
        "threads": 1,
        "batch": 1,
        "seconds": 0.1,
        "runs": 3,
        "affinity": None,
        "seed": 0,
        "energy": None,
    }
    return {"models": asked, **values, **changes}


LONG = {"runs": 10**7}


@pytest.mark.parametrize(
    ("text", "words", "python"),
    [
        ("ssh://board", ["board"], "python3"),
        ("ssh://pi@board.local/", ["pi@board.local"], "python3"),
        ("ssh://pi@board:2222/home/pi/venv/", ["-p", "2222", "pi@board"], "/home/pi/venv/bin/python"),
        ("ssh://10.0.0.7/~/venv", ["10.0.0.7"], "~/venv/bin/python"),
        ("ssh://[fe80::1%eth0]:22", ["-p", "22", "fe80::1%eth0"], "python3"),
    ],
)
def test_addresses(text: str, words: list[str], python: str) -> None:
    found = address(text)
    assert found.words == words and found.python == python


@pytest.mark.parametrize(
    "text",
    [
        "ssh://", "ssh://-oProxyCommand=x", "ssh://-l@host", "ssh://user:secret@host", "ssh://host:0",
        "ssh://host:65536", "ssh://host/a;b", "ssh://host/$(x)", "ssh://host?x", "ssh://host/a b", "ssh://host\n",
        "board",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected ssh://"):
        address(text)


def test_only_what_the_worker_needs_is_sent() -> None:
    with zipfile.ZipFile(io.BytesIO(source())) as archive:
        names = set(archive.namelist())
    assert {"edgeq/__init__.py", "edgeq/bench/worker.py", "edgeq/runtime/litert.py", "edgeq/machine.py"} <= names
    assert not [name for name in names if name.startswith(("edgeq/training", "edgeq/cli", "edgeq/export"))]
    assert not names & {"edgeq/model.py", "edgeq/runtime/torch.py", "edgeq/runtime/c_host.py"}
    assert len(source()) < 1 << 18
    with zipfile.ZipFile(io.BytesIO(source(torch=True))) as archive:
        assert {*names, "edgeq/runtime/torch.py", "edgeq/nets/quaternion.py"} <= set(archive.namelist())


def test_an_older_python_there_can_say_that_it_is_too_old() -> None:
    ast.parse(Path(remote_end.__file__).read_text(), feature_version=(3, 7))


def test_a_worker_there_measures_and_leaves_nothing(server: Server) -> None:
    """With NumPy and runtimes alone; two models in turns, one of them INT8."""
    told: list[tuple[float, float]] = []
    asked = job({"stage": "onnx"}, {"stage": "tflite-int8", "runtime": "litert-reference"})
    found = remote.run(server.at(), asked, lambda *now: told.append(now))
    assert [(one["runtime"], one["stage"]) for one in found["models"]] == [
        ("onnxruntime", "onnx"), ("litert-reference", "tflite-int8"),
    ]  # fmt: skip
    for one in found["models"]:
        assert len(one["nanoseconds"]) >= 3 and min(one["nanoseconds"]) > 0 and one["frontend_nanoseconds"]
    assert told[-1] == (3, 3)
    assert not server.left()
    assert found["machine"]["python"] == sys.version.split()[0]


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main(["bench", MODEL, "--runs", "3", "--json", *arguments])
    return int(ended.value.code or 0), *capsys.readouterr()


def test_the_command_takes_another_machine(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = told(capsys, "--stage", "tflite-int8", "--target", server.at())
    said = json.loads(out)
    assert code == 0 and (said["target"], said["runtime"]) == (server.at(), "litert") and said["kind"] == "measured"
    assert said["machine"]["processor"] and said["latency_ms"]["runs"] == 3
    code, out, errors = told(capsys, "--target", "ssh://closed")
    assert code == 2 and not out and "cannot be reached" in errors and errors.count("\n") == 1


def test_what_is_there_is_chosen(server: Server) -> None:
    found = remote.run(server.at("litert-only", "chatty"), job())["models"][0]
    assert (found["runtime"], found["stage"]) == ("litert", "tflite")


def test_a_file_and_inputs_of_one_s_own_are_sent(server: Server, tmp_path: Path) -> None:
    model = tmp_path / "my model.tflite"
    model.write_bytes(zoo.find("esc10-qtiny").export("tflite-int8"))
    np.save(tmp_path / "good.npy", np.zeros((2, 4, 64, 50), np.float32))
    np.save(tmp_path / "bad.npy", np.zeros((2, 4, 64, 51), np.float32))
    found = remote.run("ssh://board/~/venv", job({"path": str(model), "inputs": str(tmp_path / "good.npy")}))["models"][
        0
    ]
    assert found["runtime"] == "litert" and found["int8"] and found["input_shape"] == [4, 64, 50]
    with pytest.raises(InputError, match=r"^ssh://board/.*features of shape \(2, 4, 64, 51\)"):
        remote.run(server.at(), job({"path": str(model), "inputs": str(tmp_path / "bad.npy")}))
    assert not server.left()


@pytest.mark.parametrize(
    ("alias", "python", "message"),
    [
        ("no-runtime", "env", r"needs onnxruntime or ai-edge-litert or tflite-runtime.*-m pip install numpy onnxrunt"),
        ("no-numpy", "env", r"has no NumPy there; run there: /.*/env/bin/python -m pip install numpy$"),
        ("old-python", "env", r"is Python 3\.9\.2 there, expected 3\.11 or newer"),
        ("board", "missing", r"no /.*/missing/bin/python there; install Python"),
        ("no-path", "", r"no python3 there; install Python 3\.11 or newer"),
        ("other-key", "env", r"does not let you in without a password; run: ssh-copy-id other-key \(for a key"),
        ("unknown", "env", r"host key is not known here; run once: ssh unknown, and compare"),
        ("changed", "env", r"host key is not the one that is known.*ssh-keygen -R 'changed'"),
        ("closed", "env", r"cannot be reached \(.*Connection refused\); is it switched on"),
        ("nameless", "env", r"no machine of the name nameless; check it"),
        ("board", "full", r"File too large.*MB are needed there, or set TMPDIR"),
    ],
)
def test_what_is_missing_is_told_with_its_mend(server: Server, alias: str, python: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"^ssh://{alias}.*{message}") as raised:
        remote.run(server.at(alias, python), job())
    assert "\n" not in str(raised.value) and not server.left()


def test_a_runtime_that_is_asked_for_has_to_be_there(server: Server) -> None:
    for runtime, packages in (("onnxruntime", "onnxruntime"), ("torch", "torch and safetensors")):
        with pytest.raises(InputError, match=f"needs {packages} there, found none.* {packages.replace(' and', '')}$"):
            remote.run(server.at("litert-only"), job({"runtime": runtime}))
    with pytest.raises(InputError, match="C is not compiled on other machines"):
        remote.run(server.at(), job({"stage": "tflite-int8", "runtime": "c"}))
    with pytest.raises(InputError, match="onnxruntime does not run tflite"):
        remote.run(server.at(), job({"stage": "tflite", "runtime": "onnxruntime"}))


def test_a_login_that_waits_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_PATIENCE", 0.5)
    with pytest.raises(InputError, match=r"did not start there within 0\.5 s"):
        remote.run(server.at(python="slow"), job())


def test_without_a_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match="install OpenSSH's client"):
        remote.run("ssh://board", job())


def amid(act: Callable[[], None]) -> Callable[[float, float], None]:
    """What does something once, as calls are being timed there."""
    acted: list[bool] = []

    def on_progress(done: float, total: float) -> None:
        if not acted:
            acted.append(True)
            act()

    return on_progress


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_connection_lost_in_mid_run_is_told_and_nothing_stays_there(server: Server) -> None:
    def cut() -> None:
        (worker,) = server.workers()
        # The server's own process for this connection; newer ones punish other signals by refusing the next one.
        os.kill(parent(parent(worker)), signal.SIGTERM)

    with pytest.raises(InputError, match=r"^ssh://board/\S+: the connection was lost in mid-run .*run again$"):
        remote.run(server.at(), job(**LONG), amid(cut))
    assert not server.left(10)


def test_an_interrupt_ends_what_runs_there(server: Server) -> None:
    def interrupt() -> None:
        assert len(server.workers()) == 1
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        remote.run(server.at(), job(**LONG), amid(interrupt))
    assert not server.left()


def test_a_worker_that_dies_there_is_told(server: Server) -> None:
    def kill() -> None:
        (worker,) = server.workers()
        os.kill(worker, signal.SIGKILL)

    with pytest.raises(CheckFailed, match=r"^ssh://board/.* without a result \(exit code -9\): out of memory\?"):
        remote.run(server.at(), job(**LONG), amid(kill))
    assert not server.left()
