"""The sound of events, kept as files."""

from __future__ import annotations

import io
import re
from collections import deque
from pathlib import Path

import numpy as np
import soundfile

from edgeq import atomic
from edgeq.decision import Event
from edgeq.live.capture import Chunk

_BEFORE_SECONDS = 0.5


class Hits:
    """Writes the sound of events to a folder: WAV files at the source's rate, named by second and label.

    longest_seconds: from the beginning of an event's first window to where it became one; that is kept, and half a
    second before. What is in the folder stays: another event of that second and label has a number behind its name.
    Raises OSError where the folder cannot be made.
    """

    def __init__(self, folder: Path, longest_seconds: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._seconds = longest_seconds + _BEFORE_SECONDS
        self._chunks: deque[tuple[float, Chunk]] = deque()  # with the second at which each begins

    def keep(self, chunk: Chunk, end_seconds: float) -> None:
        """Take in a chunk that ends at that second, and forget what no event needs any more."""
        begin = end_seconds - len(chunk.samples) / chunk.rate
        if chunk.missing or (self._chunks and self._chunks[-1][1].rate != chunk.rate):
            self._chunks.clear()  # no event goes on across a gap
        self._chunks.append((begin, chunk))
        while len(self._chunks) > 1 and self._chunks[1][0] <= begin - self._seconds:
            self._chunks.popleft()

    def save(self, event: Event) -> Path:
        """Write the sound of an event that has just begun. Returns the file. Raises OSError as the disk does."""
        first, chunk = self._chunks[0]
        samples = np.concatenate([one.samples for _, one in self._chunks])
        begin = max(0, round((event.time_seconds - self._seconds - first) * chunk.rate))
        end = max(begin + 1, round((event.time_seconds - first) * chunk.rate))
        file = io.BytesIO()
        soundfile.write(file, np.clip(samples[begin:end], -1, 1), chunk.rate, format="WAV", subtype="PCM_16")
        label = re.sub(r"[^\w.-]+", "_", event.label)[:60]
        name, number = f"{event.time_seconds:010.2f}-{label}", 1
        while (path := self._folder / f"{name}{f'-{number}' if number > 1 else ''}.wav").exists():
            number += 1
        atomic.write_bytes(path, file.getvalue())
        return path
