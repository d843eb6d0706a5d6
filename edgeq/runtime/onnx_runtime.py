"""ONNX files in onnxruntime, float or QDQ INT8, on the processor or a GPU."""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
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


_CPU, _CUDA, _TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"

PROVIDERS = {
    "onnxruntime": (_CPU,),
    "onnxruntime-cuda": (_CUDA, _CPU),
    "onnxruntime-tensorrt": (_TENSORRT, _CUDA, _CPU),
}
"""What executes a model, by runtime: an operator that the first does not know falls to the next."""


class OnnxRuntime:
    """An ONNX model with one float32 input (n, ...), as (components, mels, frames), and one output (n, classes).

    On a GPU a call copies its windows there and its probabilities back, and returns when they are here.
    """

    int8 = False

    def __init__(
        self,
        path: Path,
        where: str,
        threads: int,
        name: str = "onnxruntime",
        precision: str = "float32",
        cuda_graphs: bool = False,
    ) -> None:
        """Load a model from its file; name: a key of PROVIDERS. cuda_graphs: see `Bound`.

        Raises InputError where onnxruntime is missing, has not what is to execute it, or does not take the file.
        """
        onnxruntime, self.name = load(), name
        if name != "onnxruntime":
            _preload(onnxruntime)
        wanted = PROVIDERS[name][0]
        if wanted not in (there := onnxruntime.get_available_providers()):
            raise InputError(
                f"{name}: onnxruntime has no {wanted} here (it has {', '.join(there)}); on a machine with an NVIDIA "
                "GPU run: pip uninstall onnxruntime, then: pip install 'onnxruntime-gpu[cuda,cudnn]'"
            )
        model: str | bytes = str(path)  # which onnxruntime reads without a copy in between
        if precision == "float16":
            from edgeq.runtime import float16

            model = float16.converted(path, where)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            # Its fallback would print to stdout, and try the same once more.
            self._session = onnxruntime.InferenceSession(
                model, options, providers=_providers(name, precision, cuda_graphs), enable_fallback=0
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
        self._bound = Bound(self._session, "cuda") if cuda_graphs else None

    @property
    def metadata(self) -> dict[str, str]:
        """What the exporter wrote beside the network. Raises InputError where it is no text."""
        try:
            return dict(self._session.get_modelmeta().custom_metadata_map)
        except UnicodeDecodeError as error:
            raise unreadable(self._where, self.name, error) from error

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Probabilities of windows, as `Runtime.predict`; a GPU takes all of them at once."""
        check_features(features, self.input_shape)
        if not len(features):
            return np.zeros((0, self.classes), np.float32)
        if len(features) == 1:
            return self._run(features)
        if not self._batches:
            return np.concatenate([self._run(window) for window in np.split(features, len(features))])
        if self.name != "onnxruntime" or features.ndim != 4:
            return self._run(features)
        return np.concatenate([self._run(batch) for batch in batches(features)])

    def _run(self, features: np.ndarray) -> np.ndarray:
        try:
            if self._bound is not None:
                return self._bound(features)
            output: np.ndarray = self._session.run(None, {self._input: features})[0]
        except Exception as error:  # as above
            raise unreadable(self._where, self.name, error) from error
        return output.astype(np.float32, copy=False)


class Bound:
    """Calls of a session whose inputs and outputs have places on a device that stay, a pair for each batch size.

    That is what a CUDA graph needs: in a session of onnxruntime-cuda with enable_cuda_graph the first call of a batch
    size runs and records its graph, and those after it replay that. A call copies its windows to the device first,
    runs, and copies the probabilities back, each waiting for what was before it.
    Source: onnxruntime's documentation, "CUDA Execution Provider", Using CUDA Graphs.
    """

    def __init__(self, session: Any, device: str) -> None:
        """session: with one float32 input (n, ...) and one float32 output (n, classes). device: "cuda" or "cpu"."""
        self._session, self._device = session, device
        self._calls: dict[int, tuple[Any, Any, Any, Any]] = {}

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """float32 (n, ...) to float32 (n, classes), an array of its own."""
        features = np.ascontiguousarray(features)
        if len(features) not in self._calls:
            self._calls[len(features)] = self._bind(features)
        given, taken, binding, options = self._calls[len(features)]
        given.update_inplace(features)
        self._session.run_with_iobinding(binding, options)
        return np.array(taken.numpy())  # on the processor that is the place itself

    def _bind(self, features: np.ndarray) -> tuple[Any, Any, Any, Any]:
        onnxruntime = load()
        (source,), (result,) = self._session.get_inputs(), self._session.get_outputs()
        # Both are memory of its own: on the processor a value that is made of an array is that array.
        given, taken = (
            onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, self._device, 0)
            for shape in (features.shape, (len(features), result.shape[1]))
        )
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(source.name, given)
        binding.bind_ortvalue_output(result.name, taken)
        options = onnxruntime.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(len(self._calls) + 1))
        return given, taken, binding, options


def _preload(onnxruntime: Any) -> None:
    """Load CUDA's libraries from where pip puts them, where the system's loader does not look.

    Source: onnxruntime's documentation, "CUDA Execution Provider", Preload DLLs.
    """
    if hasattr(onnxruntime, "preload_dlls"):  # from 1.21 on
        with redirect_stdout(sys.stderr):  # it prints what it does not find
            onnxruntime.preload_dlls()


def _providers(name: str, precision: str, cuda_graphs: bool) -> list[str | tuple[str, dict[str, str]]]:
    """With their options: unless it is told otherwise CUDA rounds what it multiplies to 10 bits, as in tfloat32."""
    cuda = {"use_tf32": str(int(precision == "tfloat32"))} | ({"enable_cuda_graph": "1"} if cuda_graphs else {})
    return [(provider, cuda) if provider == _CUDA else provider for provider in PROVIDERS[name]]
