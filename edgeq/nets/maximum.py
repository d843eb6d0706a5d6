"""The maximum over an axis, as training by torch.compile needs it."""

from __future__ import annotations

import torch
from torch import Tensor


def maximum(x: Tensor, dim: int) -> Tensor:
    """The maximum over an axis, which goes; equal maxima share the gradient.

    Where torch.compile is at work, what made x is not fused with this. For the gradient it would be computed once more,
    rounded otherwise: then no value equals the maximum, and the gradient is 0 or NaN (seen in bfloat16 with torch 2.13;
    PyTorch issues 186799 and 195214).
    """
    if torch.compiler.is_compiling():
        torch._dynamo.graph_break()
    return x.amax(dim=dim)
