"""From a recording on disk to network inputs, a few windows at a time: what every command sees of a recording."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeq.audio import decode
from edgeq.audio.frontend import FrontendSpec, features, gated
from edgeq.audio.stream import WindowStream
from edgeq.errors import naming

_BATCH = 64


@dataclass(frozen=True, eq=False)
class Windows:
    """Some of a recording's windows. features: (n, components, mels, frames), n from 0; gated: bool (n,).

    samples: how many samples were decoded for them.
    """

    features: np.ndarray
    gated: np.ndarray
    samples: int


def windows(path: Path | str, spec: FrontendSpec) -> Iterator[Windows]:
    """Network inputs of a recording of any length, in bounded memory. Raises InputError naming the recording."""
    stream = WindowStream(spec)
    with naming(path):
        for block in decode.blocks(path, spec.sample_rate):
            yield from _batches(stream.push(block), len(block), spec)
        yield from _batches(stream.finish(), 0, spec)


def _batches(logmels: np.ndarray, samples: int, spec: FrontendSpec) -> Iterator[Windows]:
    for start in range(0, max(len(logmels), 1), _BATCH):
        some = logmels[start : start + _BATCH]
        yield Windows(features(some, spec), gated(some, spec), samples if start == 0 else 0)
