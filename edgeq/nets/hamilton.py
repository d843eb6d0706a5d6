"""Quaternion multiplication in NumPy: the one definition of its signs, which the layers and the lowering share."""

from __future__ import annotations

import numpy as np

COMPONENT = ((0, 1, 2, 3), (1, 0, 3, 2), (2, 3, 0, 1), (3, 2, 1, 0))
"""Which component of the left factor stands at [row][column] of its matrix: r 0, i 1, j 2, k 3."""

SIGN = ((1, -1, -1, -1), (1, 1, -1, 1), (1, 1, 1, -1), (1, -1, 1, 1))
"""With which sign it stands there: together, rows [r -i -j -k], [i r -k j], [j k r -i], [k -j i r]."""


def hamilton_product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Hamilton product of quaternions, left times right.

    left, right: (..., 4), components r, i, j, k; leading axes broadcast. Returns (..., 4).
    Raises ValueError where a last axis is not 4.
    Source: quaternion paper, Eq. 1.
    """
    if left.ndim == 0 or right.ndim == 0 or left.shape[-1] != 4 or right.shape[-1] != 4:
        raise ValueError(f"components on the last axis: expected 4 and 4, found shapes {left.shape} and {right.shape}")
    return np.einsum("...rc,...c->...r", hamilton_matrix(left), right)


def hamilton_matrix(left: np.ndarray) -> np.ndarray:
    """The real 4 x 4 matrix that multiplies by a quaternion from the left.

    left: (..., 4), components r, i, j, k. Returns (..., 4, 4).
    Source: quaternion paper, Eq. 1.
    """
    return left[..., np.array(COMPONENT)] * np.array(SIGN, dtype=left.dtype)
