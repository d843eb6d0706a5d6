"""TFLite files in LiteRT: its fast kernels, or the reference kernels that define what INT8 means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeq import quiet
from edgeq.errors import InputError, naming
from edgeq.graph import from_tflite
from edgeq.graph.ir import Quantization
from edgeq.graph.reference import dequantize, quantize
from edgeq.runtime.face import as_input_shape, channels_last, check_features, missing, unreadable


def litert(path: Path, where: str, threads: int, reference: bool = False) -> TFLiteRuntime:
    """Load a .tflite file in ai-edge-litert; reference: without delegates, in its BUILTIN_REF kernels.

    Raises InputError where ai-edge-litert is missing, or does not take the file.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError as error:
        raise missing("ai-edge-litert", "pip install ai-edge-litert") from error
    kernels = OpResolverType.BUILTIN_REF if reference else OpResolverType.AUTO

    def create() -> Any:
        return Interpreter(model_path=str(path), num_threads=threads, experimental_op_resolver_type=kernels)

    return TFLiteRuntime("litert-reference" if reference else "litert", create, path, where)


class TFLiteRuntime:
    """A .tflite model with one input (1, ...), as (mels, frames, components), and one output (1, classes).

    Each is float32 or int8: of others' models some take int8 and give float32. Codes are made and read here, by
    `graph.reference`. The Interpreter's interface is the same in ai-edge-litert and tflite-runtime.
    """

    def __init__(self, name: str, create: Callable[[], Any], path: Path, where: str) -> None:
        """Build the interpreter that `create` makes of the file. Raises InputError where it does not take it."""
        self.name, self._path = name, path
        try:
            with quiet.native_stderr():
                self._interpreter = create()
                self._interpreter.allocate_tensors()
        except Exception as error:  # ValueError, RuntimeError, SystemError: whatever the binding lets through
            raise unreadable(where, name, error) from error
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise InputError(f"{where}: {len(inputs)} inputs, {len(outputs)} outputs, expected one of each")
        self._where, self._input, self._output = where, inputs[0], outputs[0]
        kinds = [np.dtype(details["dtype"]) for details in (inputs[0], outputs[0])]
        if not set(kinds) <= {np.dtype(np.int8), np.dtype(np.float32)}:
            raise InputError(f"{where}: takes {kinds[0]} and gives {kinds[1]}, expected float32 or int8 each")
        self.int8 = kinds[0] == np.int8
        shapes = [tuple(int(size) for size in details["shape"]) for details in (inputs[0], outputs[0])]
        if shapes[0][:1] != (1,) or len(shapes[1]) != 2 or shapes[1][0] != 1:
            raise InputError(f"{where}: shapes {shapes[0]} and {shapes[1]}, expected a batch of 1 and (1, classes)")
        self._taken, self._given = (_quantization(where, details) for details in (inputs[0], outputs[0]))
        self.input_shape = as_input_shape(where, shapes[0][1:], "HWC")
        self.classes: int = shapes[1][1]

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the exporter wrote beside the network. Raises InputError where `from_tflite` does not read the file."""
        with naming(self._where):
            return from_tflite.read(self._path).metadata

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Probabilities of windows, as `Runtime.predict`."""
        check_features(features, self.input_shape)
        windows = channels_last(features)
        if self._taken is not None:
            windows = quantize(self._taken, windows)
        if len(windows) == 1:
            return self._run(windows)[None]
        outputs = np.zeros((len(windows), self.classes), np.float32)
        for index in range(len(windows)):
            outputs[index] = self._run(windows[index : index + 1])
        return outputs

    def _run(self, window: np.ndarray) -> np.ndarray:
        try:
            self._interpreter.set_tensor(self._input["index"], window)
            self._interpreter.invoke()
            output = self._interpreter.get_tensor(self._output["index"])[0]
        except (RuntimeError, ValueError) as error:
            raise unreadable(self._where, self.name, error) from error
        return output if self._given is None else dequantize(self._given, output)


def _quantization(where: str, details: dict[str, Any]) -> Quantization | None:
    """Of an int8 input or output; None of float32. Raises InputError where it has no scale."""
    if details["dtype"] != np.int8:
        return None
    scale, zero_point = details["quantization"]
    if scale <= 0:
        raise InputError(f"{where}: an int8 input or output without a scale; export it again")
    return Quantization(np.array([scale], np.float32), np.array([zero_point], np.int32))
