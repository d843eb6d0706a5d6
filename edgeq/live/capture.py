"""Samples between who captures them and who listens: neither ever waits for the other's work."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np

BUFFER_SECONDS = 10.0
"""Sound that is kept for a listener who is late, as on a busy computer or a slow card; what comes when it is full is
lost, and counted."""

NAP_SECONDS = 0.01
"""Who reads looks so often for what came."""

IDLE_NAPS = 10
"""While nothing comes, who reads is given a chunk without samples once in so many naps."""

_PATIENCE_SECONDS = 0.2


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some samples, mono float32 (n,), n from 0: 0 where nothing came yet.

    rate: Hz. heard: time.monotonic() when the last of them was captured; None where they are not captured but read as
    fast as they are taken. missing: samples that were lost just before them.
    """

    samples: np.ndarray
    rate: int
    heard: float | None = None
    missing: int = 0


def finite(chunk: Chunk) -> Chunk:
    """The chunk, or where it holds NaN or infinity one in which all of its samples are missing."""
    if math.isfinite(np.sum(chunk.samples, dtype=np.float64)):
        return chunk
    return Chunk(chunk.samples[:0], chunk.rate, chunk.heard, chunk.missing + len(chunk.samples))


class Ring:
    """A buffer with one thread that writes and one that reads, without a lock.

    write makes no array and never waits. When the buffer is full it refuses everything until all was read, so that the
    samples before and after such a gap stay whole.
    """

    def __init__(self, rate: int, seconds: float = BUFFER_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self.refused = 0
        """Samples that found no room so far."""
        self.closed = False
        """Whether nobody will read any more."""
        self._samples = np.zeros(round(rate * seconds), np.float32)
        self._clock = clock
        # Samples written so far, when, those refused before, and how long the driver held the last: one assignment, so
        # that they always belong together.
        self._last = (0, 0.0, 0, 0.0)
        self._read = self._told = 0
        self._full = False

    @property
    def written(self) -> int:
        """Samples written so far."""
        return self._last[0]

    @property
    def waiting(self) -> int:
        """Samples that can be read now."""
        return self._last[0] - self._read

    @property
    def room(self) -> int:
        """Samples that can be written now."""
        return len(self._samples) - self.waiting

    @property
    def arrived(self) -> tuple[float, int, float]:
        """When samples were written last, how many had come by then, and `held` of the last of them."""
        written, heard, refused, held = self._last
        return heard, written + refused, held

    def write(self, frames: np.ndarray, held: float = 0.0) -> bool:
        """Take frames, float32 (n, channels), mixed to their mean. False where they were refused: they are lost.

        held: seconds that the driver had them before, by its own word.
        """
        count = len(frames)
        if self._full or count > self.room:
            self._full = True
            self.refused += count
            return False
        written = self._last[0]
        start = written % len(self._samples)
        first = min(count, len(self._samples) - start)
        _mix(frames[:first], self._samples[start : start + first])
        _mix(frames[first:], self._samples[: count - first])
        self._last = (written + count, self._clock(), self.refused, held)
        return True

    def read(self) -> Chunk:
        """All that was written since the last call."""
        full = self._full
        written, heard, refused, _ = self._last
        count = written - self._read
        samples = np.empty(count, np.float32)
        start = self._read % len(self._samples)
        first = min(count, len(self._samples) - start)
        samples[:first] = self._samples[start : start + first]
        samples[first:] = self._samples[: count - first]
        missing = refused - self._told
        self._read, self._told = written, refused
        if full:
            self._full = False
        return Chunk(samples, self.rate, heard, missing)


def feed(rate: int, fill: Callable[[Ring], None]) -> Generator[Chunk, None, None]:
    """What a thread of its own writes to a ring: chunks as they come, with none in them now and then while it waits.

    fill: returns at the end of the sound, or where the ring is closed. What it raises is raised here, behind the last
    chunk.
    """
    ring = Ring(rate)
    failures: list[BaseException] = []
    ended = threading.Event()

    def work() -> None:
        try:
            fill(ring)
        except BaseException as failure:  # told where it can be handled
            failures.append(failure)
        finally:
            ended.set()

    threading.Thread(target=work, name="capture", daemon=True).start()
    naps = 0
    try:
        while True:
            last = ended.is_set()
            if ring.waiting or naps == IDLE_NAPS:
                naps = 0
                yield ring.read()
            elif last:
                break
            else:
                naps += 1
                time.sleep(NAP_SECONDS)
    finally:
        ring.closed = True
        ended.wait(_PATIENCE_SECONDS)  # a pipe that is silent holds its thread up
    if failures:
        raise failures[0]


def _mix(frames: np.ndarray, mono: np.ndarray) -> None:
    """The mean of channels, written in place."""
    np.add.reduce(frames, axis=1, out=mono)
    if frames.shape[1] > 1:
        mono /= frames.shape[1]
