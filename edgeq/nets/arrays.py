"""A torch network seen from outside torch: arrays in, probabilities out, and its weights as arrays."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from edgeq.batches import batches


@torch.inference_mode()
def probabilities(network: nn.Module, output: str, features: np.ndarray) -> np.ndarray:
    """Probabilities of windows, by a network in evaluation mode that gives logits.

    output: "softmax" or "sigmoid", as in the network's spec. features: float32 (n, components, mels, frames), n from 1,
    taken a batch at a time. Returns float32 (n, classes). Windows go to where the network's parameters are.
    """
    device = next(network.parameters()).device
    rows = []
    for batch in batches(features):
        logits = network(torch.from_numpy(np.ascontiguousarray(batch)).to(device))
        rows.append((logits.softmax(dim=1) if output == "softmax" else logits.sigmoid()).cpu().numpy())
    return np.concatenate(rows)


def weights(network: nn.Module) -> dict[str, np.ndarray]:
    """The state dict as float32 arrays, without batch norm's counters, which inference does not need."""
    state = network.state_dict()
    return {name: tensor.contiguous().numpy().copy() for name, tensor in state.items() if tensor.is_floating_point()}
