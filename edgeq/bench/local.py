"""A worker on this machine, and how any worker is talked to."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from typing import IO, Any

from edgeq.bench.worker import Job
from edgeq.errors import CheckFailed, InputError

OnProgress = Callable[[float, float], None]
"""Told how much of how much is done, in seconds or runs."""


def run(job: Job, on_progress: OnProgress | None = None) -> dict[str, Any]:
    """What a worker on this machine measures, see `bench.worker`. Raises as `converse`."""
    # -P: what lies in the folder that one happens to work in (a signal.py, say) is not imported.
    command = [sys.executable, "-P", "-m", "edgeq.bench.worker"]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        return converse(process, job, errors, on_progress)


def converse(
    process: subprocess.Popen[bytes], job: Job, errors: IO[bytes], on_progress: OnProgress | None = None
) -> dict[str, Any]:
    """Hand a worker its job and wait for the result; the process has ended afterwards, whatever happens.

    errors: the file that its stderr goes to. Raises InputError as the worker did; CheckFailed where it ended without a
    result.
    """
    assert process.stdin is not None and process.stdout is not None
    try:
        with contextlib.suppress(BrokenPipeError):  # it ended before, and what it wrote to stderr says why
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.close()
        said = last(process.stdout, on_progress)
        if "result" in said:
            found: dict[str, Any] = said["result"]
            return found
        if "error" in said:
            raise InputError(said["error"])
        code = process.wait()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    errors.seek(0)
    words = errors.read().decode(errors="replace").strip().splitlines()[-1:] or ["out of memory?"]
    raise CheckFailed(f"the worker ended without a result (exit code {code}): {words[0]}")


def last(lines: Iterable[bytes], on_progress: OnProgress | None) -> dict[str, Any]:
    """What a worker says last, after its progress; nothing where it ended before that, or within a line."""
    for line in lines:
        try:
            said: dict[str, Any] = json.loads(line)
        except ValueError:  # a line that broke off
            continue
        if "progress" not in said:
            return said
        if on_progress is not None:
            on_progress(*said["progress"])
    return {}
