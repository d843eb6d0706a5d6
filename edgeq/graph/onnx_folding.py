"""Arithmetic between a model's own constants, done as it is read: compact files say by it what their weights are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgeq.errors import InputError

_ARITHMETIC: dict[str, Callable[..., np.ndarray]] = {
    "Neg": np.negative,
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
}

FOLDABLE = ("Concat", *_ARITHMETIC)
"""Kinds of ONNX operators that `fold` computes."""


def fold(kind: str, inputs: Sequence[np.ndarray], axis: int = 0) -> np.ndarray:
    """What one of FOLDABLE gives for these constants, float32; axis: of a Concat.

    Raises InputError where a constant is not float32, or the result would be larger than all of them together.
    """
    if any(one.dtype != np.float32 for one in inputs):
        raise InputError(f"constants of {', '.join(str(one.dtype) for one in inputs)}: expected float32")
    if kind == "Concat":
        return np.concatenate(inputs, axis)
    shape = np.broadcast_shapes(*(one.shape for one in inputs))
    if shape not in [one.shape for one in inputs]:
        raise InputError(f"constants that make one of shape {shape}: expected one of them to have the result's shape")
    with np.errstate(all="ignore"):  # infinities are refused where they are kept
        return _ARITHMETIC[kind](*inputs)
