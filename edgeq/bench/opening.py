"""What it takes to make a model ready: time, and memory, each in a fresh copy of the process."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np

from edgeq import runtime as runtimes
from edgeq.bench.worker import Job
from edgeq.errors import InputError
from edgeq.runtime import Runtime, onnx_runtime


def opening(asked: Mapping[str, Any], job: Job) -> dict[str, Any]:
    """{"load_ms", "memory_bytes"} to make a model ready and call it once, above what its runtime's packages take.

    asked: one of a job's models. memory_bytes: None where the system does not tell (Linux does).
    Raises InputError where the model cannot be opened, and on systems that cannot copy a process.
    """
    if not hasattr(os, "fork"):
        raise InputError("edgeq bench times models on POSIX systems alone (Linux, macOS); on Windows run it in WSL")
    return in_a_child(partial(_opening, asked, job))


def open_model(asked: Mapping[str, Any], job: Job) -> tuple[str, Runtime]:
    """The stage that was chosen, and the model ready to run; whether a single .tflite file is INT8 it says itself."""
    stage, name = runtimes.form(asked["path"], asked["stage"], asked["runtime"])
    ready = runtimes.open(
        asked["path"], asked["stage"], name, job["threads"], job["precision"], job["cuda_graphs"]
    )  # fmt: skip
    return "tflite-int8" if stage == "tflite" and ready.int8 else stage, ready


def in_a_child(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a copy of this process finds: a second model would be opened where the first one has left its memory.

    Raises InputError as the work did there, or where the copy died.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            found: dict[str, Any] = work()
        except InputError as error:
            found = {"error": str(error)}
        except MemoryError as error:
            found = {"error": f"out of memory ({error}); give a smaller --batch, or run it on a larger machine"}
        except BaseException as error:
            found = {"error": f"{type(error).__name__}: {error}"}
        with suppress(OSError):
            os.write(writing, json.dumps(found).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if not said:
        raise InputError(
            f"the process that opened the model died ({os.waitstatus_to_exitcode(status)}): out of memory?"
        )
    answer: dict[str, Any] = json.loads(said)
    if "error" in answer:
        raise InputError(answer["error"])
    return answer


def peak_memory(reset: bool = False) -> int | None:
    """Peak resident bytes of this process; reset: the peak begins again at what is resident now. Linux only."""
    try:
        if reset:
            with open("/proc/self/clear_refs", "w") as handle:  # noqa: PTH123
                handle.write("5")
        with open("/proc/self/status") as handle:  # noqa: PTH123
            return next(int(line.split()[1]) * 1024 for line in handle if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return None


def import_packages(asked: Mapping[str, Any], job: Job) -> None:
    """Import what opening and calling the model imports: torch brings some only then, in seconds."""
    _, name = runtimes.form(asked["path"], asked["stage"], asked["runtime"])
    if name.startswith("onnxruntime") and job["precision"] != "float16":
        onnx_runtime.load()  # brings all at once, and TensorRT takes minutes to open a model
        return
    for module in in_a_child(partial(_imports, asked, job))["modules"]:
        with suppress(Exception):  # not every module's name can be imported
            importlib.import_module(module)


def _opening(asked: Mapping[str, Any], job: Job) -> dict[str, Any]:
    import_packages(asked, job)
    before = peak_memory(reset=True)
    begin = time.perf_counter()
    _, ready = open_model(asked, job)
    seconds = time.perf_counter() - begin
    ready.predict(np.zeros((job["batch"], *ready.input_shape), np.float32))
    after = peak_memory()
    return {
        "load_ms": 1e3 * seconds,
        "memory_bytes": None if before is None or after is None else max(0, after - before),
    }


def _imports(asked: Mapping[str, Any], job: Job) -> dict[str, Any]:
    """The modules that opening and calling a model adds, in order."""
    before = set(sys.modules)
    _, ready = open_model(asked, job)
    ready.predict(np.zeros((job["batch"], *ready.input_shape), np.float32))
    return {"modules": [name for name in sys.modules if name not in before]}
