"""A worker on this machine, and how any worker is talked to."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import IO, Any

from edgeq.bench.worker import Job
from edgeq.errors import CheckFailed, InputError

OnProgress = Callable[[float, float], None]
"""Told how much of how much is done, in seconds or runs."""


def run(job: Job, on_progress: OnProgress | None = None) -> dict[str, Any]:
    """What a worker on this machine measures, see `bench.worker`. Raises as `converse`."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "edgeq.bench.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        )
        return converse(process, job, errors, "the worker", on_progress)


def converse(
    process: subprocess.Popen[bytes],
    job: Job,
    errors: IO[bytes],
    worker: str,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Hand a worker its job and wait for the result; the process has ended afterwards, whatever happens.

    errors: the file that its stderr goes to. worker: what it is called in errors.
    Raises InputError as the worker did; CheckFailed where it ended without a result.
    """
    assert process.stdin is not None and process.stdout is not None
    try:
        try:
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.close()
        except BrokenPipeError:
            pass  # it ended before it had read its job, and what it wrote to stderr says why
        for line in process.stdout:
            said = json.loads(line)
            if "error" in said:
                raise InputError(said["error"])
            if "result" in said:
                found: dict[str, Any] = said["result"]
                return found
            if on_progress is not None:
                on_progress(*said["progress"])
        code = process.wait()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    errors.seek(0)
    last = errors.read().decode(errors="replace").strip().splitlines()[-1:] or [""]
    raise CheckFailed(f"{worker} ended without a result (exit code {code}): {last[0] or 'out of memory?'}")
