"""Networks in torch: as they were trained, which every other stage is compared with, or as an ONNX file has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeq.batches import batches
from edgeq.bundle import WEIGHTS, Bundle
from edgeq.errors import InputError, naming
from edgeq.manifest import MANIFEST
from edgeq.runtime.face import as_input_shape, check_features, missing

if TYPE_CHECKING:
    from torch import Tensor, nn


class TorchRuntime:
    """A network in torch on the processor, or as "torch-cuda" on a GPU.

    On a GPU a call copies its windows there and its probabilities back, and returns when they are here; CUDA's
    libraries time their kernels in the first call of a batch size and keep to the fastest.
    """

    int8 = False

    def __init__(
        self,
        source: Bundle | Path,
        where: str,
        threads: int,
        name: str = "torch",
        precision: str = "float32",
        cuda_graphs: bool = False,
    ) -> None:
        """Build a bundle's own network, or the one in an .onnx file, whose lowering it keeps: block or fast.

        cuda_graphs: calls are replays of recorded graphs, see `torch_forward.Graphs`.
        Raises InputError as `network` does, where a file is none of edgeq's, and where there is no GPU to run it on.
        """
        self.name, self._threads, self._gpu = name, threads, name == "torch-cuda"
        self.metadata: Mapping[str, str] = {}
        if isinstance(source, Bundle):
            built, output = network(source), source.architecture.output
            self.input_shape: tuple[int, ...] = source.architecture.input_shape
            self.classes = source.architecture.classes
        else:
            built, output = self._of_file(source, where), ""
        if self._gpu:
            _check_gpu()
        from edgeq.runtime.torch_forward import Forward, Graphs

        self._network = built
        self._forward = Forward(built, output, precision, "cuda" if self._gpu else "cpu")
        self._graphs = Graphs(self._forward) if cuda_graphs else None
        self._tf32 = precision == "tfloat32"

    def _of_file(self, path: Path, where: str) -> nn.Module:
        _check_torch()
        try:
            from edgeq.graph import from_onnx
        except ImportError as error:
            raise missing("onnx", "pip install 'edgeq[export]'") from error
        from edgeq.runtime.torch_graph import GraphModule

        graph = from_onnx.read(path)
        given, taken = (graph.tensors[name].shape for name in (graph.input, graph.output))
        if len(taken) != 2:
            raise InputError(f"{where}: gives outputs of shape {taken}, expected (n, classes)")
        self.input_shape, self.classes = as_input_shape(where, given[1:], "HWC"), taken[1]
        self.metadata = graph.metadata
        with naming(where):
            return GraphModule(graph).eval()

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Probabilities of windows, as `Runtime.predict`; a GPU takes all of them at once."""
        import torch

        check_features(features, self.input_shape)
        if not len(features):
            return np.zeros((0, self.classes), np.float32)
        whole = self._gpu or features.ndim != 4
        with torch.inference_mode(), self._settings():
            rows = [self._run(torch.from_numpy(np.ascontiguousarray(batch))).numpy() for batch in
                    ([features] if whole else batches(features))]  # fmt: skip
        return rows[0] if len(rows) == 1 else np.concatenate(rows)

    def _run(self, windows: Tensor) -> Tensor:
        if self._graphs is not None:
            return self._graphs(windows)
        found: Tensor = self._forward(windows.to("cuda")).cpu() if self._gpu else self._forward(windows)
        return found

    @contextmanager
    def _settings(self) -> Iterator[None]:
        """Those of the whole process, given back afterwards."""
        import torch

        before = torch.get_num_threads(), torch.get_float32_matmul_precision()
        torch.set_num_threads(self._threads)
        try:
            # Convolutions are cuDNN's, dense layers are not.
            with torch.backends.cudnn.flags(True, True, allow_tf32=self._tf32) if self._gpu else nullcontext():
                if self._gpu:
                    torch.set_float32_matmul_precision("high" if self._tf32 else "highest")
                yield
        finally:
            torch.set_num_threads(before[0])
            torch.set_float32_matmul_precision(before[1])


def _check_gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        raise InputError(
            f"torch-cuda: torch {torch.__version__} finds no GPU; expected an NVIDIA GPU with its driver, and a torch "
            "built with CUDA: see pytorch.org/get-started"
        )


def _check_torch() -> None:
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise missing("torch", "pip install 'edgeq[export]'") from error


def network(opened: Bundle) -> nn.Module:
    """A bundle's network with its weights, in evaluation mode; it gives logits.

    Raises InputError where torch is missing, or the weights are not those of the architecture.
    """
    _check_torch()
    import torch

    from edgeq.nets import registry

    where = opened.folder / WEIGHTS
    weights = {name: torch.from_numpy(value.copy()) for name, value in opened.weights().items()}
    with naming(opened.folder / MANIFEST):
        built = registry.build(opened.architecture)
    try:
        found = built.load_state_dict(weights, strict=False)
    except RuntimeError as error:  # a tensor of another shape
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{where}: the weights are not those of the architecture: {reason}") from error
    # Batch norm counts its batches in an integer that inference does not need and a bundle does not hold.
    absent = [name for name in found.missing_keys if not name.endswith("num_batches_tracked")]
    if absent or found.unexpected_keys:
        raise InputError(
            f"{where}: the weights are not those of the architecture {opened.architecture}: "
            f"missing {absent[:3]}, unexpected {found.unexpected_keys[:3]}"
        )
    return built.eval()
