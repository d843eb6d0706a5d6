"""One face for every runtime: `open(model).predict(features)` gives probabilities, whatever runs underneath."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgeq import bundle
from edgeq.bundle import Bundle
from edgeq.errors import InputError
from edgeq.graph import model_file
from edgeq.runtime.face import Runtime

__all__ = ["GPU_RUNTIMES", "RUNTIMES", "STAGES", "Runtime", "choose_stage", "form", "open"]

RUNTIMES: dict[str, tuple[str, ...]] = {
    "onnxruntime": ("onnx", "onnx-int8"),
    "litert": ("tflite", "tflite-int8"),
    "litert-reference": ("tflite", "tflite-int8"),
    "tflite-runtime": ("tflite", "tflite-int8"),
    "torch": ("torch",),
    "c": ("c-int8", "tflite-int8"),
    "openvino": ("onnx", "onnx-int8"),
    "onnxruntime-cuda": ("onnx", "onnx-int8"),
    "onnxruntime-tensorrt": ("onnx", "onnx-int8"),
    "torch-cuda": ("torch",),
}
"""What each runtime can run; the first that knows a stage runs it where none is asked for."""

GPU_RUNTIMES = ("onnxruntime-cuda", "onnxruntime-tensorrt", "torch-cuda")
"""Those that run on an NVIDIA GPU."""

STAGES = ("torch", "onnx", "onnx-int8", "tflite", "tflite-int8", "c-int8")
"""Forms of one network, from what was trained to what is deployed."""

_FILES = {".onnx": "onnx", ".tflite": "tflite"}
_FLOAT_FIRST = ("onnx", "tflite", "tflite-int8", "onnx-int8", "torch", "c-int8")
_INT8 = ("tflite-int8", "onnx-int8", "c-int8")


def open(
    source: Bundle | Path | str, stage: str | None = None, runtime: str | None = None, threads: int = 1
) -> Runtime:
    """Make a model ready to run.

    source: a bundle or its folder, or an .onnx or .tflite file. stage: which form of a bundle, of STAGES; by default
    the first it has in the order of `choose_stage`. runtime: a key of RUNTIMES, by default the first that takes the
    stage. threads: how many the runtime may use, at least 1.
    Raises InputError where the model is none, the stage is missing, the runtime does not take it or is not installed.
    """
    if threads < 1:
        raise InputError(f"threads {threads}: expected at least 1")
    found, name = form(source, stage, runtime)
    if _is_file(source):
        path = Path(str(source))
        return _start(name, found, str(path), lambda: model_file.checked(path), None, threads)
    opened = source if isinstance(source, Bundle) else bundle.read(str(source))
    where = f"{opened.folder} ({found})"
    file = "tflite-int8" if found == "c-int8" else found  # of which the C was made
    return _start(name, found, where, lambda: opened.checked(opened.exported(file)), opened, threads)


def form(source: Bundle | Path | str, stage: str | None = None, runtime: str | None = None) -> tuple[str, str]:
    """The stage and the runtime that `open` would take. Raises InputError where they do not fit."""
    _check_name(runtime)
    if _is_file(source):
        if stage is not None:
            raise InputError(f"{source}: a single file has no stage {stage!r}; give its bundle's folder instead")
        suffix, where = Path(str(source)).suffix, str(source)
        found = "tflite-int8" if (suffix, runtime) == (".tflite", "c") else _FILES[suffix]
    else:
        opened = source if isinstance(source, Bundle) else bundle.read(str(source))
        found = stage or choose_stage(opened, runtime)
        where = f"{opened.folder} ({found})"
    name = runtime or _default(found)
    if found not in RUNTIMES[name]:
        raise InputError(f"{where}: {name} does not run {found}; it runs {' and '.join(RUNTIMES[name])}")
    return found, name


def choose_stage(opened: Bundle, runtime: str | None = None, int8: bool = False) -> str:
    """The form of a bundle to run: float before INT8 and files before torch, or INT8 where it is asked for.

    Raises InputError where the bundle has no form that fits.
    """
    _check_name(runtime)
    wanted = _INT8 if int8 else _FLOAT_FIRST
    takes = STAGES if runtime is None else RUNTIMES[runtime]
    if not set(wanted) & set(takes):
        raise InputError(f"{runtime} does not run INT8; it runs {' and '.join(takes)}: leave out --int8")
    for stage in wanted:
        if stage in takes and (stage == "torch" or stage in opened.exports):
            return stage
    kind = "INT8 export" if int8 else "export"
    suited = f" that {runtime} runs" if runtime else ""
    option = " --int8" if int8 else ""
    raise InputError(f"{opened.folder}: has no {kind}{suited}; run: edgeq export {opened.folder}{option}")


def _is_file(source: Bundle | Path | str) -> bool:
    return not isinstance(source, Bundle) and Path(source).suffix in _FILES and not Path(source).is_dir()


def _check_name(runtime: str | None) -> None:
    if runtime is not None and runtime not in RUNTIMES:
        raise InputError(f"runtime {runtime!r}: expected one of {', '.join(RUNTIMES)}")


def _default(stage: str) -> str:
    for name, stages in RUNTIMES.items():
        if stage in stages:
            return name
    raise InputError(f"stage {stage!r}: expected one of {', '.join(STAGES)}")


def _start(
    name: str, stage: str, where: str, checked: Callable[[], Path], opened: Bundle | None, threads: int
) -> Runtime:
    if name in ("torch", "torch-cuda"):
        from edgeq.runtime.torch import TorchRuntime

        assert opened is not None  # a single file is never the stage torch
        return TorchRuntime(opened, threads, name)
    if name in ("onnxruntime", "onnxruntime-cuda", "onnxruntime-tensorrt"):
        from edgeq.runtime.onnx_runtime import OnnxRuntime

        return OnnxRuntime(checked(), where, threads, name)
    if name == "openvino":
        from edgeq.runtime.openvino_runtime import OpenVinoRuntime

        return OpenVinoRuntime(checked(), where, threads)
    if name == "tflite-runtime":
        from edgeq.runtime.tflite_runtime import tflite_runtime

        return tflite_runtime(checked(), where, threads)
    if name == "c":
        from edgeq.runtime.c_host import CRuntime

        return CRuntime(checked(), where, opened if stage == "c-int8" else None)
    from edgeq.runtime.litert import litert

    return litert(checked(), where, threads, reference=name == "litert-reference")
