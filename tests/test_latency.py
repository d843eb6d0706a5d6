"""Percentiles of raw times, and what the times say against themselves."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.bench import latency


@given(st.lists(st.integers(1, 10**12), min_size=2, max_size=300))
def test_percentiles_are_those_of_the_statistics_module(nanoseconds: list[int]) -> None:
    found = latency.percentiles(nanoseconds)
    cuts = statistics.quantiles(nanoseconds, n=100, method="inclusive")
    assert [found.p50, found.p95, found.p99] == pytest.approx([cuts[number] / 1e6 for number in (49, 94, 98)])
    assert found.mean == pytest.approx(statistics.fmean(nanoseconds) / 1e6)
    assert (found.runs, found.kind) == (len(nanoseconds), "measured")


def test_one_call_is_all_of_its_percentiles() -> None:
    found = latency.percentiles([2_000_000])
    assert (found.p50, found.p95, found.p99, found.mean, found.runs) == (2, 2, 2, 2, 1)


def test_few_runs_and_a_drift_are_told() -> None:
    steady = [1000 + number % 7 for number in range(300)]
    assert not latency.warnings(steady)
    (few,) = latency.warnings(steady[:99])
    assert few == "99 runs: p99 needs 100; give more --seconds or --runs"
    (drift,) = latency.warnings(list(np.linspace(1000, 1400, 300).astype(int)))
    assert "took 1.25 of the first third's time" in drift
