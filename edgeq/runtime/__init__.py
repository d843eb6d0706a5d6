"""One face for every runtime: `open(model).predict(features)` gives probabilities, whatever runs underneath."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from edgeq import bundle
from edgeq.batches import batch_size
from edgeq.bundle import Bundle
from edgeq.errors import InputError
from edgeq.graph import model_file
from edgeq.runtime.face import Runtime

__all__ = ["GPU_RUNTIMES", "PRECISIONS", "RUNTIMES", "STAGES", "Runtime", "at_once", "choose_stage", "form", "open"]

RUNTIMES: dict[str, tuple[str, ...]] = {
    "onnxruntime": ("onnx", "onnx-int8"),
    "litert": ("tflite", "tflite-int8"),
    "litert-reference": ("tflite", "tflite-int8"),
    "tflite-runtime": ("tflite", "tflite-int8"),
    "torch": ("torch", "onnx"),
    "c": ("tflite-int8", "c-int8"),
    "openvino": ("onnx", "onnx-int8"),
    "onnxruntime-cuda": ("onnx", "onnx-int8"),
    "onnxruntime-tensorrt": ("onnx", "onnx-int8"),
    "torch-cuda": ("torch", "onnx"),
}
"""What each runtime can run, its usual stage first; the first that knows a stage runs it where none is asked for."""

GPU_RUNTIMES = ("onnxruntime-cuda", "onnxruntime-tensorrt", "torch-cuda")
"""Those that run on an NVIDIA GPU."""

PRECISIONS: dict[str, tuple[str, ...]] = {
    "onnxruntime": ("float32", "float16"),
    "torch": ("float32", "float16", "bfloat16"),
    "openvino": ("float32", "float16", "bfloat16"),
    "onnxruntime-cuda": ("float32", "tfloat32", "float16"),
    "onnxruntime-tensorrt": ("float32", "float16"),
    "torch-cuda": ("float32", "tfloat32", "float16", "bfloat16"),
}
"""What float stages can be computed in; in float32 alone by the others. tfloat32: products of 10 bits on a GPU."""

_BATCHES = ("onnxruntime", "torch")
"""Those of the processor that take several windows at once."""

_GRAPHS = ("onnxruntime-cuda", "torch-cuda")

STAGES = ("torch", "onnx", "onnx-int8", "tflite", "tflite-int8", "c-int8")
"""Forms of one network, from what was trained to what is deployed."""

_FILES = {".onnx": "onnx", ".tflite": "tflite"}
_QUANTIZING = b"QuantizeLinear"
"""What makes codes of activations in an ONNX file, and stands there as it is written here."""

_FLOAT_FIRST = ("onnx", "tflite", "tflite-int8", "onnx-int8", "torch", "c-int8")
_INT8 = ("tflite-int8", "onnx-int8", "c-int8")


def open(
    source: Bundle | Path | str,
    stage: str | None = None,
    runtime: str | None = None,
    threads: int = 1,
    precision: str | None = None,
    cuda_graphs: bool = False,
) -> Runtime:
    """Make a model ready to run.

    source: a bundle or its folder, or an .onnx or .tflite file. stage: which form of a bundle, of STAGES; by default
    the first it has in the order of `choose_stage`. runtime: a key of RUNTIMES, by default the first that takes the
    stage. threads: how many the runtime may use, at least 1. precision: what a float stage is computed in, of
    PRECISIONS; by default float32. Windows and probabilities are float32 all the same. cuda_graphs: record what a call
    does on the GPU and replay it, which spares a small network the time of launching its kernels one by one.
    Raises InputError where the model is none, the stage is missing, the runtime does not take it, has no such precision
    or is not installed.
    """
    if threads < 1:
        raise InputError(f"threads {threads}: expected at least 1")
    found, name = form(source, stage, runtime)
    _check_options(found, name, precision, cuda_graphs)
    options = threads, precision or "float32", cuda_graphs
    if _is_file(source):
        path = Path(str(source))
        return _start(name, found, str(path), lambda: model_file.checked(path), None, *options)
    opened = source if isinstance(source, Bundle) else bundle.read(str(source))
    where = f"{opened.folder} ({found})"
    file = "tflite-int8" if found == "c-int8" else found  # of which the C was made
    return _start(name, found, where, lambda: opened.checked(opened.exported(file)), opened, *options)


def form(source: Bundle | Path | str, stage: str | None = None, runtime: str | None = None) -> tuple[str, str]:
    """The stage and the runtime that `open` would take. Raises InputError where they do not fit."""
    _check_name(runtime)
    if _is_file(source):
        if stage is not None:
            raise InputError(f"{source}: a single file has no stage {stage!r}; give its bundle's folder instead")
        suffix, where = Path(str(source)).suffix, str(source)
        found = "tflite-int8" if (suffix, runtime) == (".tflite", "c") else _FILES[suffix]
        if suffix == ".onnx" and model_file.mapped(Path(str(source))).find(_QUANTIZING) >= 0:
            found = "onnx-int8"
    else:
        opened = source if isinstance(source, Bundle) else bundle.read(str(source))
        found = stage or choose_stage(opened, runtime)
        where = f"{opened.folder} ({found})"
    name = runtime or _default(found)
    if found not in RUNTIMES[name]:
        raise InputError(f"{where}: {name} does not run {found}; it runs {' and '.join(RUNTIMES[name])}")
    return found, name


def at_once(name: str, input_shape: Sequence[int], windows: int) -> int:
    """How many windows a runtime works on at once where `predict` is given so many; input_shape: of one window."""
    if name in GPU_RUNTIMES:
        return windows
    if name not in _BATCHES:
        return 1
    if len(input_shape) != 3:
        return windows
    _, mels, frames = input_shape
    return min(windows, batch_size(mels, frames))


def choose_stage(opened: Bundle, runtime: str | None = None, int8: bool = False) -> str:
    """The form of a bundle to run: float before INT8 and files before torch, or INT8 where it is asked for.

    Raises InputError where the bundle has no form that fits.
    """
    _check_name(runtime)
    takes = _FLOAT_FIRST if runtime is None else RUNTIMES[runtime]
    wanted = [stage for stage in takes if stage in _INT8 or not int8]
    if not wanted:
        raise InputError(f"{runtime} does not run INT8; it runs {' and '.join(takes)}: leave out --int8")
    for stage in wanted:
        if stage == "torch" or stage in opened.exports:
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


def _check_options(stage: str, name: str, precision: str | None, cuda_graphs: bool) -> None:
    known = PRECISIONS.get(name, ("float32",))
    if precision is not None and stage.endswith("int8"):
        raise InputError(f"precision {precision}: {stage} is INT8 throughout; leave it out, or choose a float stage")
    if precision is not None and precision not in known:
        elsewhere = [other for other, some in PRECISIONS.items() if precision in some and stage in RUNTIMES[other]]
        hint = f"; {', '.join(elsewhere)} would" if elsewhere else ""
        raise InputError(f"precision {precision}: {name} computes {stage} in {' or '.join(known)}{hint}")
    if cuda_graphs and name not in _GRAPHS:
        raise InputError(f"CUDA graphs: {name} records none; expected one of {', '.join(_GRAPHS)}")


def _default(stage: str) -> str:
    for name, stages in RUNTIMES.items():
        if stage in stages:
            return name
    raise InputError(f"stage {stage!r}: expected one of {', '.join(STAGES)}")


def _start(
    name: str,
    stage: str,
    where: str,
    checked: Callable[[], Path],
    opened: Bundle | None,
    threads: int,
    precision: str,
    cuda_graphs: bool,
) -> Runtime:
    if name in ("torch", "torch-cuda"):
        from edgeq.runtime.torch import TorchRuntime

        own = opened if stage == "torch" else None
        return TorchRuntime(own or checked(), where, threads, name, precision, cuda_graphs)
    if name in ("onnxruntime", "onnxruntime-cuda", "onnxruntime-tensorrt"):
        from edgeq.runtime.onnx_runtime import OnnxRuntime

        return OnnxRuntime(checked(), where, threads, name, precision, cuda_graphs)
    if name == "openvino":
        from edgeq.runtime.openvino_runtime import OpenVinoRuntime

        return OpenVinoRuntime(checked(), where, threads, precision)
    if name == "tflite-runtime":
        from edgeq.runtime.tflite_runtime import tflite_runtime

        return tflite_runtime(checked(), where, threads)
    if name == "c":
        from edgeq.runtime.c_host import CRuntime

        return CRuntime(checked(), where, opened if stage == "c-int8" else None)
    from edgeq.runtime.litert import litert

    return litert(checked(), where, threads, reference=name == "litert-reference")
