"""Similarity pruning: scipy's distances, the published walk done by hand, and counts as the paper's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from edgeq.compress.similarity import distances, redundant, representatives, scores
from edgeq.errors import InputError


def kernels(shapes: list[list[float]], inputs: int = 3) -> np.ndarray:
    """Real filters (out, inputs, 2, 2) of rank 1, each with its shape over taps."""
    over_inputs = np.arange(1.0, inputs + 1)
    return np.stack([np.outer(over_inputs, shape).reshape(inputs, 2, 2) for shape in np.array(shapes, float)])


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_a_filter_of_rank_1_is_represented_by_its_shape() -> None:
    found = representatives(kernels([[3, 4, 0, 0], [0, 0, -2, 0], [0, 0, 0, 0]]))
    np.testing.assert_allclose(found[0], [[0.6, 0.8, 0, 0], [0, 0, -1, 0], [0, 0, 0, 0]], atol=1e-12)


def test_the_sign_is_the_filters() -> None:
    weights = normal(6, 4, 3, 3)
    np.testing.assert_allclose(representatives(-weights), -representatives(weights), atol=1e-6)
    for kernel, found in zip(weights, representatives(weights)[0], strict=True):
        u, s, v = np.linalg.svd(kernel.reshape(4, 9).T.astype(float))
        column = s[0] * np.outer(u[:, 0], v[0])[:, 0]  # the first of the rank-1 approximation
        np.testing.assert_allclose(found, column / np.linalg.norm(column), atol=1e-8)
    # A first column of zeros has no sign: the next one tells.
    behind = kernels([[1, 2, 3, 4]])
    behind[:, 0] = 0
    np.testing.assert_allclose(representatives(behind)[0, 0], np.array([1, 2, 3, 4]) / 30**0.5, atol=1e-12)


def test_distances_are_scipys() -> None:
    weights = normal(7, 4, 3, 3)
    shapes = representatives(weights)[0]
    np.testing.assert_allclose(distances(weights), cdist(shapes, shapes, "cosine"), atol=1e-9)


def test_quaternion_filters_lie_as_far_apart_as_their_components_on_average() -> None:
    weights = normal(4, 6, 2, 3, 3)
    shapes = representatives(weights)
    mean = np.mean([cdist(component, component, "cosine") for component in shapes], axis=0)
    np.testing.assert_allclose(distances(weights), mean, atol=1e-9)
    end_to_end = np.concatenate(list(shapes), axis=1)
    np.testing.assert_allclose(distances(weights), cdist(end_to_end, end_to_end, "cosine"), atol=1e-9)


def test_a_case_by_hand() -> None:
    """Angles in a plane: 0 and 2 degrees are closest, 90 and 95 next; 50 and 52 are as close as the first pair."""
    angles = np.radians([95, 0, 50, 2, 90, 52, 200])
    shapes = [[np.cos(angle), np.sin(angle), 0, 0] for angle in angles]
    apart = distances(kernels(shapes))
    assert apart[1, 3] == apart[2, 5] == pytest.approx(1 - np.cos(np.radians(2)))
    # Ties go to the first: 0 before 50. The last one, 200, has 95 as its nearest, which is gone by then or kept.
    np.testing.assert_array_equal(redundant(kernels(shapes)), [3, 5, 4])
    np.testing.assert_array_equal(np.argsort(scores(kernels(shapes)))[:3], [3, 5, 4])


def test_what_was_kept_stays() -> None:
    """0 and 1 degree are a pair; 3 degrees is nearest to 1, which is gone; -4 is nearest to 0, which was kept."""
    angles = np.radians([0, 1, 3, -4])
    shapes = [[np.cos(angle), np.sin(angle), 0, 0] for angle in angles]
    np.testing.assert_array_equal(redundant(kernels(shapes)), [1])


def published(shapes: np.ndarray) -> list[int]:
    """The public code's walk in its own words: the filters it keeps."""
    apart = cdist(shapes, shapes, "cosine")
    order = np.argsort(apart, axis=1)
    pairs = sorted((apart[number, order[number, 1]], number, order[number, 1]) for number in range(len(shapes)))
    marked: list[int] = []
    kept: list[int] = []
    for _, number, nearest in pairs:
        if number not in marked:
            kept.append(number)
            marked.append(nearest)
    return sorted(kept)


@given(st.integers(2, 40), st.integers(1, 6), st.booleans(), st.integers(0, 10_000))
@settings(max_examples=60)
def test_the_walk_is_the_published_one_and_takes_half_at_most(
    filters: int, inputs: int, quaternion: bool, seed: int
) -> None:
    weights = normal(*((4,) if quaternion else ()), filters, inputs, 3, 3, seed=seed)
    gone = redundant(weights)
    assert 1 <= len(gone) <= filters // 2
    shapes = np.concatenate(list(representatives(weights)), axis=1)
    assert sorted(set(range(filters)) - set(gone.tolist())) == published(shapes)
    # A ratio takes the redundant ones first, in their order, then goes on with the rest.
    rank = scores(weights)
    np.testing.assert_array_equal(np.argsort(rank)[: len(gone)], gone)
    assert sorted(rank) == list(range(filters))


@pytest.mark.parametrize(("filters", "published_count"), [(16, 4), (16, 4), (32, 10)])
def test_random_filters_lose_about_as_many_as_the_papers(filters: int, published_count: int) -> None:
    """The paper's trained layers lost 4 of 16, 4 of 16 and 10 of 32: fewer than half, as mutual pairs are rare."""
    counts = [len(redundant(normal(filters, 16, 3, 3, seed=seed))) for seed in range(200)]
    assert min(counts) < published_count < max(counts)


def test_equal_filters_are_at_no_distance_and_the_first_is_kept() -> None:
    weights = normal(5, 3, 3, 3)
    weights[4] = 2 * weights[1]
    assert distances(weights)[1, 4] == 0
    assert redundant(weights)[0] == 4
    weights[2] = weights[1]
    assert redundant(weights)[0] == 2  # all three are nearest to each other; the first stays, its first twin goes


def test_one_filter_and_filters_of_zeros() -> None:
    assert len(redundant(normal(1, 3, 3, 3))) == 0
    np.testing.assert_array_equal(scores(normal(1, 3, 3, 3)), [0])
    weights = normal(4, 3, 3, 3)
    weights[[0, 2]] = 0
    np.testing.assert_array_equal(distances(weights)[0], 1)


def test_kernels_of_one_tap_have_no_shape() -> None:
    with pytest.raises(InputError, match="single tap"):
        redundant(normal(8, 4, 1, 1))
