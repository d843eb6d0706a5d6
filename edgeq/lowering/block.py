"""Quaternion kernels as real block kernels: an ordinary convolution, exact, with the MACs of a real net so wide."""

from __future__ import annotations

import numpy as np

from edgeq.errors import InputError
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


def nearest_components(kernel: np.ndarray) -> tuple[np.ndarray, float]:
    """The component kernels whose block kernel comes nearest to a real kernel, and how far off it stays.

    kernel: (out, in, ...), float, channels component-major. Returns (4, out/4, in/4, ...), r, i, j, k, the
    least-squares solution: each the mean of the four blocks where it stands, signs undone; and the norm of what is
    missed over the norm of the kernel: 0 for a block kernel, 1 where nothing of it is kept.
    Block kernels fill a quarter of the dimensions of real ones, so of weights without that structure, and those of an
    ordinary real network have none however its channels are grouped, a quarter of the energy is kept and
    sqrt(3) / 2 = 0.87 missed: quaternion weights to start a training from, not a network converted.
    Raises InputError where out or in is no multiple of 4: a network's first layer of one channel has no such start.
    """
    if kernel.ndim < 2 or kernel.shape[0] % 4 or kernel.shape[1] % 4:
        raise InputError(
            f"kernel of shape {kernel.shape}: expected (out, in, ...), both multiples of 4, since a quaternion has 4 "
            "components; a layer of other channels has no quaternion start"
        )
    rows = [np.split(row, 4, axis=1) for row in np.split(kernel, 4, axis=0)]
    found: list[list[np.ndarray]] = [[], [], [], []]
    for row, parts, signs in zip(rows, COMPONENT, SIGN, strict=True):
        for block, part, sign in zip(row, parts, signs, strict=True):
            found[part].append(block if sign > 0 else -block)
    # In pairs, so that nothing is rounded where the four blocks are equal.
    components = np.stack([((a + b) + (c + d)) / 4 for a, b, c, d in found])
    norm = float(np.linalg.norm(kernel))
    return components, float(np.linalg.norm(kernel - block_kernel(components))) / norm if norm else 0.0
