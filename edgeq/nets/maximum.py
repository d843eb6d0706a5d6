"""The maximum over an axis, as training by torch.compile needs it."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.compiler.disable
def maximum(x: Tensor, dim: int) -> Tensor:
    """The maximum over an axis, which goes; equal maxima share the gradient.

    It is kept out of what torch.compile fuses. For the gradient that computes x once more, rounded otherwise: then no
    value equals the maximum, and the gradient is 0 or NaN (seen in bfloat16 with torch 2.13; PyTorch issues 186799 and
    195214).
    """
    return x.amax(dim=dim)
