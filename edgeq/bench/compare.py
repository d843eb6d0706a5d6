"""How many times as long one model takes as another on the same target."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeq.bench.result import MEASURED, Band, Comparison, Result


def measured(first: Sequence[int], second: Sequence[int], per_turn: tuple[int, int], other: str) -> Comparison:
    """Compare the times of two models that took turns, A B B A: the median over pairs of turns.

    first, second: nanoseconds of calls in order, as many turns of one as of the other. per_turn: calls of a turn of
    each, which counts as their median. other: the second model's name. A busy machine slows both turns of a pair, so
    that their ratio holds where neither time does.
    """
    turns = [
        np.median(np.asarray(times, np.float64).reshape(-1, calls), axis=1)
        for times, calls in zip((first, second), per_turn, strict=True)
    ]
    ratios = turns[0] / turns[1]
    low, high, method = median_interval(ratios)
    return Comparison(other, float(np.median(ratios)), low, high, len(ratios), method, MEASURED)


def median_interval(values: np.ndarray) -> tuple[float, float, str]:
    """The 95 % interval of a median, whatever the distribution, and how it was made; values: (n,), n from 1.

    Between two values as far from both ends: the innermost ones between which the median lies in 95 of 100 samples.
    Fewer than 6 values cannot say so much: then it is the least and the largest.
    Source: David and Nagaraja, Order Statistics, 3rd edition, 7.1: a binomial distribution's tails.
    """
    ordered = np.sort(values)
    count, below = len(ordered), 0
    tail, term = 0, 1  # of 2**count: samples with fewer than `below` values under the median, and with just so many
    while 40 * (tail + term) <= 1 << count:
        tail, term, below = tail + term, term * (count - below) // (below + 1), below + 1
    if below == 0:
        return float(ordered[0]), float(ordered[-1]), f"least and largest of {count}: too few for an interval"
    return float(ordered[below - 1]), float(ordered[count - below]), "95 % of the median, by order statistics"


def simulated(first: Result, second: Result) -> Comparison:
    """Compare two models on one simulated target, by both ends of what their latencies lie between."""
    bands = [result.latency_ms for result in (first, second)]
    assert isinstance(bands[0], Band) and isinstance(bands[1], Band)  # nothing was measured
    ends = sorted((bands[0].low / bands[1].low, bands[0].high / bands[1].high))
    return Comparison(
        second.model, sum(ends) / 2, ends[0], ends[1], 1, "both ends of the bands", first.kind, bands[0].source
    )
