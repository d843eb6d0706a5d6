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


def quaternion_components(kernel: np.ndarray) -> np.ndarray | None:
    """The component kernels whose block kernel a real kernel is, exactly; None where it is no such kernel.

    kernel: (out, in, ...), channels component-major, floats or integer codes. Returns (4, out/4, in/4, ...), r, i, j,
    k, of the same dtype, so that `block_kernel` of them equals the kernel. Structure is recognised, not flagged: a
    network pruned, converted or trained elsewhere has it or not.
    """
    if kernel.ndim < 2 or kernel.shape[0] % 4 or kernel.shape[1] % 4:
        return None
    rows = [np.split(row, 4, axis=1) for row in np.split(kernel, 4, axis=0)]  # views
    components = [row[0] for row in rows]  # the first column holds r, i, j, k as they are
    exact = all(
        np.array_equal(block, components[part] if sign > 0 else -components[part])
        for row, parts, signs in zip(rows, COMPONENT, SIGN, strict=True)
        for block, part, sign in zip(row, parts, signs, strict=True)
    )
    return np.stack(components) if exact else None
