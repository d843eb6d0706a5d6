"""ONNX files in OpenVINO on the CPU, float or QDQ INT8."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.errors import InputError
from edgeq.runtime.face import as_input_shape, check_features, missing, unreadable

_METADATA = "framework"


_PRECISIONS = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
"""What OpenVINO calls them."""


class OpenVinoRuntime:
    """An ONNX model with one float32 input (n, ...), as (components, mels, frames), and one output (n, classes).

    It is compiled for one window, with which it is fastest; several are taken one after another.
    """

    name = "openvino"
    int8 = False

    def __init__(self, path: Path, where: str, threads: int, precision: str = "float32") -> None:
        """Load and compile a model.

        Raises InputError where OpenVINO is missing, does not take the file, or computes in another precision here: what
        is asked of it is a hint, and of a processor without units for float16 it makes bfloat16.
        """
        try:
            import openvino
        except ImportError as error:
            raise missing("openvino", "pip install openvino") from error
        self._where = where
        try:
            model = openvino.Core().read_model(path)
            inputs, outputs = model.inputs, model.outputs
            taken, given = (
                [_size(axis) for port in ports for axis in port.partial_shape] for ports in (inputs, outputs)
            )
        except Exception as error:  # its exceptions share no base of their own
            raise unreadable(where, self.name, error) from error
        if len(inputs) != 1 or len(outputs) != 1 or len(given) != 2 or inputs[0].element_type.to_string() != "f32":
            raise InputError(f"{where}: expected one float32 input and one output: not one of edgeq's models")
        self.input_shape = as_input_shape(where, tuple(taken[1:]), "CHW")
        self.classes: int = given[1] or 0
        if not self.classes:
            raise InputError(f"{where}: gives outputs of shape {outputs[0].partial_shape}, expected (n, classes)")
        self.metadata: Mapping[str, str] = _metadata(model)
        try:
            model.reshape([1, *self.input_shape])
            # Always said: on a processor with units for bfloat16 it would round to that of itself.
            settings = {
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": 1,
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
            }
            compiled = openvino.Core().compile_model(model, "CPU", settings)
            taken_for = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
            self._request = compiled.create_infer_request()
        except Exception as error:  # as above
            raise unreadable(where, self.name, error) from error
        if taken_for != _PRECISIONS[precision]:
            raise InputError(f"openvino computes in {taken_for} on this processor where {precision} is asked of it")

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Probabilities of windows, as `Runtime.predict`."""
        check_features(features, self.input_shape)
        windows = np.ascontiguousarray(features)
        outputs = np.zeros((len(features), self.classes), np.float32)
        try:
            for index in range(len(features)):
                outputs[index] = self._request.infer([windows[index : index + 1]])[0][0]
        except Exception as error:  # as above
            raise unreadable(self._where, self.name, error) from error
        return outputs


def _size(axis: Any) -> int | None:
    """Of an axis; None where it is free."""
    return int(axis.get_length()) if axis.is_static else None


def _metadata(model: Any) -> dict[str, str]:
    """What the exporter wrote beside the network: OpenVINO keeps it under the framework's name."""
    known = model.get_rt_info()
    if _METADATA not in known:
        return {}
    return {str(key): str(value.value) for key, value in known[_METADATA].items()}
