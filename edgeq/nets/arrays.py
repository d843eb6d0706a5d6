"""A torch network seen from outside torch: arrays in, probabilities out, and its weights as arrays."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn


@torch.inference_mode()
def probabilities(network: nn.Module, output: str, features: np.ndarray) -> np.ndarray:
    """Probabilities of windows, by a network in evaluation mode that gives logits.

    output: "softmax" or "sigmoid", as in the network's spec. features: float32 (n, components, mels, frames).
    Returns float32 (n, classes).
    """
    logits = network(torch.from_numpy(np.ascontiguousarray(features)))
    return (logits.softmax(dim=1) if output == "softmax" else logits.sigmoid()).numpy()


def weights(network: nn.Module) -> dict[str, np.ndarray]:
    """The state dict as float32 arrays, without batch norm's counters, which inference does not need."""
    state = network.state_dict()
    return {name: tensor.contiguous().numpy().copy() for name, tensor in state.items() if tensor.is_floating_point()}
