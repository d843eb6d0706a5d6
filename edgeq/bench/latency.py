"""From the times of single calls to what is said of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeq.bench.result import Percentiles

ENOUGH_RUNS = 100
"""Runs of which a 99th percentile is more than the slowest one."""

_DRIFT = 0.1


def percentiles(nanoseconds: Sequence[int]) -> Percentiles:
    """Milliseconds of calls that were timed, at least one: percentiles interpolate between calls, as NumPy does."""
    milliseconds = np.asarray(nanoseconds, np.float64) / 1e6
    p50, p95, p99 = (float(value) for value in np.percentile(milliseconds, (50, 95, 99)))
    return Percentiles(p50, p95, p99, float(milliseconds.mean()), len(milliseconds))


def warnings(nanoseconds: Sequence[int]) -> list[str]:
    """What the times themselves say against them: too few, or they drift from the first third to the last."""
    found = []
    if len(nanoseconds) < ENOUGH_RUNS:
        found.append(f"{len(nanoseconds)} runs: p99 needs {ENOUGH_RUNS}; give more --seconds or --runs")
    third = len(nanoseconds) // 3
    if third >= 5:
        first, last = float(np.median(nanoseconds[:third])), float(np.median(nanoseconds[-third:]))
        if abs(last / first - 1) > _DRIFT:
            found.append(
                f"the last third of the runs took {last / first:.2f} of the first third's time: the clock changed or "
                "other work came or went; run it again"
            )
    return found
