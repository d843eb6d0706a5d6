"""Quaternion kernels as real block kernels: an ordinary convolution, exact, with the MACs of a real net so wide."""

from __future__ import annotations

import numpy as np

from edgeq.nets.hamilton import COMPONENT, SIGN


def block_kernel(components: np.ndarray) -> np.ndarray:
    """The real kernel that does what component kernels do.

    components: (4, out/4, in/4, ...), r, i, j, k. Returns (out, in, ...), channels component-major: copies and
    negations of the components, so nothing is rounded.
    Source: quaternion paper, Eq. 1.
    """
    rows = [
        np.concatenate([components[part] * sign for part, sign in zip(parts, signs, strict=True)], axis=1)
        for parts, signs in zip(COMPONENT, np.array(SIGN, dtype=components.dtype), strict=True)
    ]
    return np.concatenate(rows, axis=0)
