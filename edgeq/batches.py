"""How many windows are worked on at once: one rule, so that memory is bounded by the window and not by their number."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

MOST = 64
"""Windows at once of a small network."""

MOST_CELLS = 1 << 18
"""Mels times frames of the windows taken at once: four windows of 10 s, of which CNN14's first layers keep 130 MB."""


def batch_size(mels: int, frames: int, keep: bool = False) -> int:
    """Windows of that size to take at once, 1 to MOST; keep: a quarter as many, for work that keeps every activation.

    Components don't count: behind the first layer a map is as many channels deep whatever the input has.
    """
    most = min(MOST, max(1, MOST_CELLS // (mels * frames)))
    return max(1, most // 4) if keep else most


def batches(features: np.ndarray, keep: bool = False) -> Iterator[np.ndarray]:
    """Windows in turn, as many at once as `batch_size` says.

    features: (n, components, mels, frames), n from 0. Gives views of it; none where n is 0.
    """
    _, _, mels, frames = features.shape
    step = batch_size(mels, frames, keep)
    for start in range(0, len(features), step):
        yield features[start : start + step]
