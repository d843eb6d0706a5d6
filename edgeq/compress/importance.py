"""How much a filter matters, told from its weights alone: the scores that pruning ranks filters by.

A method takes a layer's weights, float (4, out/4, in/4, kh, kw) with components r, i, j, k for a quaternion layer and
(out, in, kh, kw) for a real one, and gives one score a filter, larger for filters to keep: (out/4,) or (out,). A
quaternion filter has one score, summed over its components. To add a method, write the function and name it in METHODS.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from difflib import get_close_matches
from functools import partial

import numpy as np

from edgeq.compress import similarity
from edgeq.compress.similarity import matrices
from edgeq.errors import InputError

Importance = Callable[[np.ndarray], np.ndarray]
"""Weights of a layer to one score a filter."""

TOLERANCE = 1e-10
"""Weiszfeld's iteration ends where a step is shorter than this part of the mean distance to the filters..."""

ITERATIONS = 10_000
"""... or after this many steps."""


def named(method: str, seed: int = 0) -> Importance:
    """The method of a name; seed: what `random` draws from, the others draw nothing.

    Raises InputError where there is none of that name, with the nearest.
    """
    if method not in METHODS:
        near = get_close_matches(method, METHODS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(METHODS)}"
        raise InputError(f"method {method!r:.100}: {hint}")
    return partial(random, seed=seed) if METHODS[method] is random else METHODS[method]


def l1(weights: np.ndarray) -> np.ndarray:
    """Sum of the magnitudes of a filter's weights, over all its components.

    Source: quaternion paper, Eq. 4; Li et al. 2017 for real filters.
    """
    return np.abs(matrices(weights)).sum(axis=(0, 2, 3))


def geometric_median(weights: np.ndarray) -> np.ndarray:
    """Distance of a filter from the layer's geometric median: what lies close to it, the others can stand in for.

    The median is that of each component on its own, by `weiszfeld`; distances are sums of magnitudes, added over the
    components.
    Source: quaternion paper, Eqs. 5 and 6; He et al. 2019 for real filters.
    """
    components = matrices(weights)
    flat = components.reshape(*components.shape[:2], -1)
    return np.stack([np.abs(points - weiszfeld(points)).sum(axis=1) for points in flat]).sum(axis=0)


def operator_norm(weights: np.ndarray) -> np.ndarray:
    """Largest singular value of a filter's matrix, kernel taps x inputs, summed over the components.

    A component's matrix is k^2 x in/4. (The norm of the whole Hamilton block is no substitute: its rows are orthogonal
    and equally long, so that is the filter's plain l2 norm.)
    Source: quaternion paper, Eq. 7; Singh and Plumbley 2025 for real filters.
    """
    return np.linalg.svd(matrices(weights), compute_uv=False)[..., 0].sum(axis=0)


def random(weights: np.ndarray, seed: int = 0) -> np.ndarray:
    """Scores drawn evenly from [0, 1): the control that a method has to beat.

    They follow from the seed and the weights, so that layers of one shape draw different ones.
    """
    content = zlib.crc32(np.ascontiguousarray(weights, np.float32).tobytes())
    filters: int = matrices(weights).shape[1]
    return np.random.default_rng((seed, content)).random(filters)


METHODS: dict[str, Importance] = {
    "l1": l1,
    "geometric-median": geometric_median,
    "operator-norm": operator_norm,
    "similarity": similarity.scores,
    "random": random,
}


def weiszfeld(points: np.ndarray, tolerance: float = TOLERANCE, iterations: int = ITERATIONS) -> np.ndarray:
    """The geometric median: the point whose distances to all points have the least sum.

    points: (n, dimensions), repetitions count. Returns float64 (dimensions,). Weiszfeld's iteration starts at the best
    of the points. Where that is the median it stays; else the step of Vardi and Zhang leaves it, and since every step
    lowers the sum, no iterate comes upon a point again, where the plain iteration would divide by zero.
    tolerance: the iteration ends where a step is shorter than this part of the mean distance; or after `iterations`.
    Source: Weiszfeld 1937; Vardi and Zhang 2000, The multivariate L1-median and associated data depth.
    """
    points = np.asarray(points, np.float64)
    squares = np.square(points).sum(axis=1)
    sums = np.sqrt(np.maximum(squares[:, np.newaxis] + squares - 2 * points @ points.T, 0)).sum(axis=1)
    median, mean_distance = points[sums.argmin()], sums.min() / len(points)
    for _ in range(iterations):
        distances = np.linalg.norm(points - median, axis=1)
        elsewhere = distances > 0
        if not elsewhere.any():
            break
        pulls = 1 / distances[elsewhere]
        target = pulls @ points[elsewhere] / pulls.sum()
        # The pull of the other points, against that of the points here: those hold the median if they are enough.
        pull = np.linalg.norm(pulls.sum() * (target - median))
        held = min(1.0, (~elsewhere).sum() / pull) if pull else 1.0
        step = (1 - held) * (target - median)
        median = median + step
        if np.linalg.norm(step) <= tolerance * mean_distance:
            break
    return median
