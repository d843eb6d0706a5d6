"""What runs first on another machine: takes the worker's source and files, runs it there, and leaves nothing behind.

`bench.remote` sends this file as text to whatever Python is there: it uses the standard library alone, and says so
itself where that Python is too old. It is asked and answers in JSON lines:

    asked     {"modules": [names]}
    answers   {"edgeq": 1, "python", "executable", "modules": {name: whether it can be imported}}
    asked     {"files": [[path, bytes], ...], "source": path of the one where Python looks for modules first, "run":
              arguments of Python, "stdin": text}, then the content of the files, one after the other
    answers   what the process says, line by line; {"error": "one line"} where the files cannot be written;
              {"ended": exit code, "last": last line of its stderr} where it fails

stdin stays open as long as the asking side wants the answer: where it ends, so does the process. The files lie in a
folder of their own among the system's temporary ones (TMPDIR), where the process works and has its own temporary files.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

_CHUNK = 1 << 16
_LAST_BYTES = 4096


def main() -> None:
    """Answer the one question of stdin."""
    _on_signals(lambda *_: sys.exit(1))
    asked = json.loads(sys.stdin.buffer.readline())
    there = {name: _importable(name) for name in asked["modules"]}
    _say({"edgeq": 1, "python": platform.python_version(), "executable": sys.executable, "modules": there})
    line = sys.stdin.buffer.readline()
    if not line:
        return
    task = json.loads(line)
    try:
        folder = Path(tempfile.mkdtemp(prefix="edgeq-"))
    except OSError as error:
        _say({"error": f"no folder for temporary files ({error}); set TMPDIR there"})
        return
    try:
        _receive(task, folder)
        _run(task, folder)
    finally:
        _on_signals(signal.SIG_IGN)  # a second one would end the cleaning up
        shutil.rmtree(folder, ignore_errors=True)


def _on_signals(action: Any) -> None:
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, action)


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _say(value: Any) -> None:
    sys.stdout.buffer.write(json.dumps(value).encode() + b"\n")
    sys.stdout.buffer.flush()


def _receive(task: Any, folder: Path) -> None:
    try:
        for name, size in task["files"]:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as handle:
                while size:
                    content = sys.stdin.buffer.read(min(size, _CHUNK))
                    if not content:  # the asking side has gone
                        sys.exit(1)
                    handle.write(content)
                    size -= len(content)
    except OSError as error:
        total = sum(size for _, size in task["files"]) / 1e6
        _say({"error": f"{error}; {total:.1f} MB are needed there, or set TMPDIR to another place"})
        sys.exit(1)


def _run(task: Any, folder: Path) -> None:
    paths = [str(folder / task["source"]), os.environ.get("PYTHONPATH", "")]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, paths)), TMPDIR=str(folder))
    with tempfile.TemporaryFile(dir=folder) as errors:
        process = subprocess.Popen(
            [sys.executable, *task["run"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=folder,
            env=environment, start_new_session=True,
        )  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        threading.Thread(target=_watch, args=(process,), daemon=True).start()
        try:
            with contextlib.suppress(BrokenPipeError):  # then what it wrote to stderr says why
                process.stdin.write(task["stdin"].encode())
                process.stdin.close()
            for line in process.stdout:
                sys.stdout.buffer.write(line)
                sys.stdout.buffer.flush()
            code = process.wait()
        finally:
            _end(process)
        if code:
            errors.seek(max(0, errors.seek(0, os.SEEK_END) - _LAST_BYTES))
            lines = errors.read().decode(errors="replace").strip().splitlines()
            _say({"ended": code, "last": lines[-1] if lines else ""})


def _watch(process: subprocess.Popen[bytes]) -> None:
    while os.read(0, 1):
        pass
    _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process, and those that it started."""
    with contextlib.suppress(OSError):  # they have ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    main()
