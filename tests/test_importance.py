"""Importance: the papers' equations, filter by filter, and a median that no other point beats."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from edgeq.compress import importance, similarity
from edgeq.compress.importance import METHODS, named, weiszfeld
from edgeq.errors import InputError


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def spread(points: np.ndarray, centre: np.ndarray) -> float:
    return float(sum(np.sqrt(((point - centre) ** 2).sum()) for point in points))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(4, 6, 2, 3, 3), (6, 8, 3, 3), (6, 1, 3, 3)])
def test_a_filter_has_one_score(method: str, shape: tuple[int, ...]) -> None:
    weights = normal(*shape)
    scores = named(method)(weights)
    assert scores.shape == (6,)
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(scores, named(method)(weights))


@pytest.mark.parametrize("method", ["l1", "geometric-median", "operator-norm"])
def test_a_score_belongs_to_the_filter_wherever_it_stands(method: str) -> None:
    weights, order = normal(4, 6, 2, 3, 3), np.array([3, 0, 5, 1, 4, 2])
    np.testing.assert_allclose(named(method)(weights[:, order]), named(method)(weights)[order], atol=1e-6)


def test_l1_by_hand() -> None:
    weights = np.zeros((4, 2, 1, 1, 2), np.float32)
    weights[:, 0, 0, 0] = [[1, -2], [0, 0.5], [-3, 0], [0, 0]]
    weights[2, 1, 0, 0] = [-1, 1]
    np.testing.assert_array_equal(importance.l1(weights), [6.5, 2])
    np.testing.assert_array_equal(importance.l1(weights[0]), [3, 0])


def test_operator_norm_is_the_largest_singular_value_of_each_component() -> None:
    weights = normal(4, 5, 3, 3, 3)
    for number, score in enumerate(importance.operator_norm(weights)):
        matrices = weights[:, number].transpose(0, 2, 3, 1).reshape(4, 9, 3).astype(float)
        expected = sum(np.sqrt(np.linalg.eigvalsh(matrix.T @ matrix)[-1]) for matrix in matrices)
        assert score == pytest.approx(expected)
    real = weights[0]
    expected = [np.linalg.norm(kernel.reshape(3, 9).astype(float), ord=2) for kernel in real]
    np.testing.assert_allclose(importance.operator_norm(real), expected)


def test_operator_norm_is_not_that_of_the_whole_block() -> None:
    from edgeq.lowering.block import block_kernel

    weights = normal(4, 1, 3, 3, 3)
    block = block_kernel(weights).reshape(4, -1).astype(float)  # four rows of one filter
    assert np.linalg.norm(block, ord=2) == pytest.approx(np.sqrt((weights**2).sum()), rel=1e-6)
    assert importance.operator_norm(weights)[0] > 1.05 * np.linalg.norm(block, ord=2)


def test_geometric_median_scores_are_distances_from_each_components_median() -> None:
    weights = normal(4, 7, 2, 3, 3)
    expected = np.zeros(7)
    for component in weights.reshape(4, 7, -1).astype(float):
        found = minimize(lambda x, c=component: spread(c, x), component.mean(axis=0), options={"gtol": 1e-9})
        expected += np.abs(component - found.x).sum(axis=1)
    np.testing.assert_allclose(importance.geometric_median(weights), expected, rtol=1e-4)
    np.testing.assert_allclose(
        importance.geometric_median(weights),
        sum(importance.geometric_median(component) for component in weights),
    )


@given(st.integers(1, 9), st.integers(1, 5), st.integers(0, 10_000), st.sampled_from([0, 1, 2]))
@settings(max_examples=60)
def test_no_point_beats_the_median(count: int, dimensions: int, seed: int, decimals: int) -> None:
    """Coarse coordinates, so that points repeat, lie on lines and are medians themselves."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((count, dimensions)).round(decimals)
    median = weiszfeld(points)
    least = spread(points, median)
    starts = (points.mean(axis=0), np.median(points, axis=0), median + 0.1)
    for start in starts:
        found = minimize(lambda x: spread(points, x), start, method="Nelder-Mead", options={"xatol": 1e-9})
        assert least <= found.fun + 1e-8 * (1 + least)
    for nearby in (*points, *(median + 1e-3 * rng.standard_normal((20, dimensions)))):
        assert least <= spread(points, nearby) + 1e-9 * (1 + least)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([[3.0, -1.0]], [3, -1]),
        ([[2.0, 2.0]] * 4, [2, 2]),
        ([[0.0], [1.0], [10.0]], [1]),  # the ordinary median
        ([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [0, 0]),  # most of them
        ([[0.0, 0.0], [3.0, 0.1], [-3.0, 0.1]], [0, 0]),  # an angle beyond 120 degrees is the median itself
        ([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]], [1, 1]),  # where the diagonals cross
    ],
)
def test_medians_that_are_known(points: list[list[float]], expected: list[float]) -> None:
    np.testing.assert_allclose(weiszfeld(np.array(points)), expected, atol=1e-8)


def test_the_median_of_a_triangle_sees_its_corners_at_120_degrees() -> None:
    corners = np.array([[0.0, 0.0], [4.0, 0.5], [1.0, 3.0]])
    rays = corners - weiszfeld(corners)
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    np.testing.assert_allclose((rays @ rays.T)[np.triu_indices(3, 1)], -0.5, atol=1e-7)


def test_the_iteration_is_cut_off_where_it_is_told() -> None:
    points = normal(20, 6).astype(float)
    few, many = weiszfeld(points, iterations=2), weiszfeld(points)
    assert spread(points, few) > spread(points, many)
    best = min(spread(points, point) for point in points)
    assert spread(points, few) < best  # and every step is for the better


def test_random_scores_follow_from_seed_and_layer() -> None:
    one, other = normal(4, 16, 2, 3, 3), normal(4, 16, 2, 3, 3, seed=1)
    np.testing.assert_array_equal(named("random", 3)(one), importance.random(one, seed=3))
    draws = [named("random", 0)(one), named("random", 1)(one), named("random", 0)(other)]
    assert len({tuple(np.argsort(draw)) for draw in draws}) == 3


def test_similarity_is_one_of_the_methods() -> None:
    weights = normal(8, 3, 3, 3)
    np.testing.assert_array_equal(named("similarity")(weights), similarity.scores(weights))


def test_an_unknown_method_is_named_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"geometric-medan.*did you mean geometric-median"):
        named("geometric-medan")
    with pytest.raises(InputError, match="expected one of l1, geometric-median"):
        named("magic")
