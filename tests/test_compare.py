"""Ratios of paired turns: right where both models are slowed alike, with an interval that covers as it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from edgeq.bench import compare
from edgeq.bench.result import Band, Result


def test_work_that_slows_both_models_leaves_their_ratio() -> None:
    noise = np.random.default_rng(0)
    load = np.repeat(np.exp(noise.normal(0, 0.5, 200)), 3)  # the same in both turns of a pair
    first, second = (1_000_000 * factor * load * noise.uniform(0.99, 1.01, 600) for factor in (0.6, 1.0))
    first[::3] *= 3  # a cold first call in each turn
    second[::3] *= 3
    found = compare.measured(list(first.astype(int)), list(second.astype(int)), (3, 3), "b")
    assert found.low <= 0.6 <= found.high and found.ratio == pytest.approx(0.6, abs=0.005)
    assert (found.pairs, found.other, found.kind) == (200, "b", "measured")
    found = compare.measured(list(first.astype(int)), list(second[1::3].astype(int)), (3, 1), "b")
    assert found.ratio == pytest.approx(0.6, abs=0.005) and found.pairs == 200, "a slow model has fewer calls a turn"


@given(st.integers(6, 400))
def test_the_interval_is_the_narrowest_of_ranks_that_covers_95_percent(count: int) -> None:
    low, high, _ = compare.median_interval(np.arange(1.0, count + 1))
    assert low + high == count + 1
    binomial = scipy.stats.binom(count, 0.5)
    assert binomial.cdf(high - 1) - binomial.cdf(low - 1) >= 0.95  # low-th value or more lie below, but not high
    assert binomial.cdf(high - 2) - binomial.cdf(low) < 0.95


def test_few_pairs_say_what_they_are() -> None:
    assert compare.median_interval(np.array([3.0, 1.0, 2.0])) == (
        1.0, 3.0, "least and largest of 3: too few for an interval",
    )  # fmt: skip


def test_simulated_targets_are_compared_by_their_bands() -> None:
    def simulated(low: float, high: float, **more: Any) -> Result:
        return Result("b", "board", "c", "c-int8", "simulated", Band(low, high, "simulated", "a table"), **more)

    found = compare.simulated(simulated(1.0, 1.2), simulated(2.0, 2.5))
    assert (found.low, found.high, found.ratio) == pytest.approx((0.48, 0.5, 0.49))
    assert (found.pairs, found.kind, found.source) == (1, "simulated", "a table")
