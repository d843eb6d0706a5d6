"""ONNX files in onnxruntime, float or QDQ INT8."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.batches import batches
from edgeq.errors import InputError
from edgeq.runtime.face import as_input_shape, check_features, missing, unreadable


def load() -> Any:
    """The package onnxruntime, kept from reporting to its makers. Raises InputError where it is missing.

    From 1.29 on its packages for Linux, too, send what they know of the models they open, unless they are told not to
    before they are loaded; ORT_DISABLE_TELEMETRY=0 in the environment lets them.
    Source: github.com/microsoft/onnxruntime, pull request 27379, "Behavior and controls".
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise missing("onnxruntime", "pip install onnxruntime") from error
    return onnxruntime


PROVIDERS = {
    "onnxruntime": ("CPUExecutionProvider",),
    "onnxruntime-cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "onnxruntime-tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
}
"""What executes a model, by runtime: an operator that the first does not know falls to the next."""


class OnnxRuntime:
    """An ONNX model with one float32 input (n, components, mels, frames) and one output (n, classes)."""

    int8 = False

    def __init__(self, path: Path, where: str, threads: int, name: str = "onnxruntime") -> None:
        """Load a model from its file, which onnxruntime reads without a copy in between; name: a key of PROVIDERS.

        Raises InputError where onnxruntime is missing, has not what is to execute it, or does not take the file.
        """
        onnxruntime, self.name = load(), name
        wanted, *_ = providers = PROVIDERS[name]
        if wanted not in (there := onnxruntime.get_available_providers()):
            raise InputError(
                f"{name}: onnxruntime has no {wanted} here (it has {', '.join(there)}); on a machine with an NVIDIA "
                "GPU run: pip uninstall onnxruntime, then: pip install onnxruntime-gpu"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            # Its fallback would print to stdout, and try the same once more.
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=list(providers), enable_fallback=0
            )
        except Exception as error:  # its exceptions share no base of their own
            raise unreadable(where, self.name, error) from error
        if self._session.get_providers()[0] != wanted:  # its library of CUDA did not load: only its log says why
            raise InputError(f"{name}: {wanted} does not start; check that CUDA and cuDNN are those it was built for")
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1 or inputs[0].type != "tensor(float)":
            raise InputError(f"{where}: expected one float32 input and one output: not one of edgeq's models")
        if len(outputs[0].shape) != 2 or not isinstance(outputs[0].shape[1], int):
            raise InputError(f"{where}: gives outputs of shape {outputs[0].shape}, expected (n, classes)")
        self._where = where
        self._input = inputs[0].name
        self._batches = not isinstance(inputs[0].shape[0], int)
        self.input_shape = as_input_shape(where, tuple(inputs[0].shape[1:]), "CHW")
        self.classes: int = outputs[0].shape[1]

    @property
    def metadata(self) -> dict[str, str]:
        """What the exporter wrote beside the network. Raises InputError where it is no text."""
        try:
            return dict(self._session.get_modelmeta().custom_metadata_map)
        except UnicodeDecodeError as error:
            raise unreadable(self._where, self.name, error) from error

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Probabilities of windows, as `Runtime.predict`."""
        check_features(features, self.input_shape)
        if not len(features):
            return np.zeros((0, self.classes), np.float32)
        if len(features) == 1:
            return self._run(features)
        whole = self.name != "onnxruntime" and self._batches  # a GPU's memory is another matter
        pieces = [features] if whole else batches(features) if self._batches else np.split(features, len(features))
        return np.concatenate([self._run(piece) for piece in pieces])

    def _run(self, features: np.ndarray) -> np.ndarray:
        try:
            output: np.ndarray = self._session.run(None, {self._input: features})[0]
        except Exception as error:  # as above
            raise unreadable(self._where, self.name, error) from error
        return output.astype(np.float32, copy=False)
