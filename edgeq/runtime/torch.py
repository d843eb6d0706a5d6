"""The network as it was trained, in torch: what every other stage is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from edgeq.bundle import WEIGHTS, Bundle
from edgeq.errors import InputError, naming
from edgeq.manifest import MANIFEST
from edgeq.runtime.face import check_features, missing

if TYPE_CHECKING:
    from torch import nn


class TorchRuntime:
    """A bundle's own network, in torch on the CPU, or as "torch-cuda" on a GPU."""

    int8 = False

    def __init__(self, opened: Bundle, threads: int, name: str = "torch") -> None:
        """Build the network. Raises InputError as `network`, and where there is no GPU to run it on."""
        self.name = name
        self._network = network(opened)
        if name == "torch-cuda":
            self._network = _on_gpu(self._network)
        self._threads = threads
        self._output = opened.architecture.output
        self.metadata: Mapping[str, str] = {}
        self.input_shape = opened.architecture.input_shape
        self.classes = opened.architecture.classes

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Probabilities of windows, as `Runtime.predict`."""
        import torch

        from edgeq.nets.arrays import probabilities

        check_features(features, self.input_shape)
        if not len(features):
            return np.zeros((0, self.classes), np.float32)
        before = torch.get_num_threads()
        torch.set_num_threads(self._threads)  # the setting belongs to the process: give it back
        try:
            return probabilities(self._network, self._output, features)
        finally:
            torch.set_num_threads(before)


def _on_gpu(network: nn.Module) -> nn.Module:
    import torch

    if not torch.cuda.is_available():
        raise InputError(
            f"torch-cuda: torch {torch.__version__} finds no GPU; expected an NVIDIA GPU with its driver, and a torch "
            "built with CUDA: see pytorch.org/get-started"
        )
    return network.to("cuda")


def network(opened: Bundle) -> nn.Module:
    """A bundle's network with its weights, in evaluation mode; it gives logits.

    Raises InputError where torch is missing, or the weights are not those of the architecture.
    """
    try:
        import torch
    except ImportError as error:
        raise missing("torch", "pip install 'edgeq[export]'") from error
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
