"""Similarity pruning: of two filters whose kernels have nearly the same shape, one is enough.

A filter's shape is its representative, of which cosine distances are taken: the one singular direction over kernel taps
that explains most of its (taps x inputs) matrix. Weights are as in `importance`. A quaternion filter has four
representatives, one a component, each of length 1; its distance to another is the mean of the components' cosine
distances. That is also the cosine distance of the four laid end to end, so the two ways one might choose are one.
Source: Singh and Plumbley, low-complexity CNNs for DCASE 2022 Task 1, Section 3, and the public code of their
similarity-based pruning (Interspeech 2022), which fixes what the text leaves open.
"""

from __future__ import annotations

import numpy as np

from edgeq.errors import InputError

DECIMALS = 10
"""Distances are rounded to this many decimals, so that equal ones are equal on every machine; the first filter wins."""

NOTHING = 1e-12
"""Entries of singular vectors, of length 1, that count as zero when their sign is asked for."""


def scores(weights: np.ndarray) -> np.ndarray:
    """When each filter goes if filters go one at a time: 0 for the first. As a method of `importance`.

    Filters go in the order in which `redundant` names them; where those are not enough, the walk begins anew among the
    filters that are left, until one is. Raises InputError as `distances`.
    """
    apart = distances(weights)
    left, gone = np.arange(len(apart)), np.zeros(0, int)
    while len(left) > 1:
        found = left[_walk(apart[np.ix_(left, left)])]
        left, gone = np.setdiff1d(left, found), np.append(gone, found)
    rank = np.empty(len(apart))
    rank[np.append(gone, left)] = np.arange(len(apart))
    return rank


def redundant(weights: np.ndarray) -> np.ndarray:
    """The filters that the method as published removes, in order; how many is its own outcome, at most half.

    Filters are visited from the closest pair on; one that is not yet redundant is kept, and the filter nearest to it
    becomes redundant, unless it was kept before. Raises InputError as `distances`.
    """
    return _walk(distances(weights))


def distances(weights: np.ndarray) -> np.ndarray:
    """Distance of every filter to every other: float64 (filters, filters), from 0 to 2.

    A filter of zeros is at 1 from all others. Raises InputError where kernels have a single tap, which has no shape.
    """
    shapes = representatives(weights)
    if shapes.shape[2] == 1:
        raise InputError("kernels of a single tap: similarity compares their shapes, expected 3 x 3 or so")
    return np.round(1 - np.einsum("cft,cgt->fg", shapes, shapes) / len(shapes), DECIMALS)


def representatives(weights: np.ndarray) -> np.ndarray:
    """The leading direction over kernel taps of every filter, of length 1: float64 (components, filters, taps).

    It is the first column of the filter's rank-1 approximation, scaled to length 1: so its sign is the filter's and not
    the whim of a decomposition. Where that column is zero, the first column that isn't. Zero for a filter of zeros.
    """
    left, strength, right = np.linalg.svd(matrices(weights), full_matrices=False)
    over_taps, over_inputs = left[..., 0], right[..., 0, :]
    first = np.argmax(np.abs(over_inputs) > NOTHING, axis=-1)[..., np.newaxis]
    sign = np.sign(np.take_along_axis(over_inputs, first, axis=-1))
    return over_taps * sign * (strength[..., :1] > 0)


def matrices(weights: np.ndarray) -> np.ndarray:
    """Filters as matrices: float64 (components, filters, taps, inputs); a real layer has one component."""
    components = np.asarray(weights, np.float64)
    components = components if components.ndim == 5 else components[np.newaxis]
    return components.reshape(*components.shape[:3], -1).swapaxes(2, 3)


def _walk(apart: np.ndarray) -> np.ndarray:
    """The redundant filters among these, in the order in which they are found out."""
    others = np.where(np.eye(len(apart), dtype=bool), np.inf, apart)
    nearest = others.argmin(axis=1)
    kept: set[int] = set()
    gone: dict[int, None] = {}
    for found in np.argsort(others.min(axis=1), kind="stable"):
        if int(found) in gone:
            continue
        kept.add(int(found))
        if len(apart) > 1 and int(nearest[found]) not in kept:
            gone[int(nearest[found])] = None
    return np.array(list(gone), int)
