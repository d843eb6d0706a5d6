"""Log-mel maps of a whole corpus, with speed variants, computed once and kept in a cache."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeq import atomic
from edgeq.audio import decode, frontend
from edgeq.audio.frontend import FrontendSpec
from edgeq.audio.maps import at_speed, logmel_spec
from edgeq.corpora import Corpus
from edgeq.errors import naming
from edgeq.progress import Advance
from edgeq.training.config import FitConfig

if TYPE_CHECKING:
    from edgeq.training.source import Positives, Source


@dataclass(frozen=True, eq=False)
class CorpusMaps:
    """Log-mel of every clip at every speed.

    logmels: for each speed, one float32 (spec.logmel_rows, frames) a clip, in the corpus's order; frames differ by
    clip and speed. speeds: the first is 1, the recording as it is.
    """

    speeds: tuple[float, ...]
    logmels: tuple[tuple[np.ndarray, ...], ...]

    def __len__(self) -> int:
        return len(self.logmels[0])

    def logmel(self, clip: int) -> np.ndarray:
        """Log-mel of one clip as recorded."""
        return self.logmels[0][clip]

    def source(self, positives: Positives, spec: FrontendSpec, config: FitConfig) -> Source:
        """Crops of these clips, all held in memory; positives, spec, config: as `source.Recordings.source`."""
        from edgeq.training.source import InMemory  # that needs torch, reading maps does not

        return InMemory(self, positives(range(len(self))).astype(np.float32), spec, config)

    def select(self, clips: Sequence[int]) -> CorpusMaps:
        """The maps of these clips, in this order."""
        return replace(self, logmels=tuple(tuple(maps[i] for i in clips) for maps in self.logmels))


def corpus_maps(
    corpus: Corpus,
    spec: FrontendSpec,
    speeds: Sequence[float] = (),
    cache: Path | None = None,
    advance: Advance | None = None,
) -> CorpusMaps:
    """Log-mel maps of a corpus as recorded, then at each of `speeds` (0.8 is slower and lower, 1.25 faster and higher).

    Resampling changes speed and pitch together. Clips shorter than a window are padded as `spec.pad` says. With a
    cache folder, maps are read from it when the same files went through the same front end before. advance is told of
    each clip that is done.
    Raises InputError naming the recording where one cannot be decoded, or is shorter than an STFT window.
    """
    speeds = (1.0, *speeds)
    stored = None if cache is None else cache / f"logmel-{_key(corpus, spec, speeds)}.npz"
    if stored is not None and (maps := _load(stored, speeds)) is not None:
        return maps
    logmels: list[tuple[np.ndarray, ...]] = []
    for clip in corpus.clips:
        with naming(clip.path):
            waveform = decode.read(clip.path, spec.sample_rate)
            logmels.append(tuple(frontend.logmel(at_speed(waveform, speed, spec), spec) for speed in speeds))
        if advance is not None:
            advance(1)
    maps = CorpusMaps(speeds, tuple(zip(*logmels, strict=True)))
    if stored is not None:
        _save(stored, maps)
    return maps


def _key(corpus: Corpus, spec: FrontendSpec, speeds: Sequence[float]) -> str:
    what = json.dumps([corpus.hash, logmel_spec(spec).hash, list(speeds)])
    return hashlib.sha256(what.encode()).hexdigest()[:24]


def _save(path: Path, maps: CorpusMaps) -> None:
    arrays: dict[str, np.ndarray] = {}
    for i, logmels in enumerate(maps.logmels):
        arrays[f"frames_{i}"] = np.array([logmel.shape[1] for logmel in logmels])
        arrays[f"maps_{i}"] = np.concatenate(logmels, axis=1)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    atomic.write_bytes(path, buffer.getvalue())


def _load(path: Path, speeds: tuple[float, ...]) -> CorpusMaps | None:
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            logmels = [
                tuple(np.split(arrays[f"maps_{i}"], np.cumsum(arrays[f"frames_{i}"])[:-1], axis=1))
                for i in range(len(speeds))
            ]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None  # a damaged cache is only worth recomputing
    return CorpusMaps(speeds, tuple(tuple(np.ascontiguousarray(one) for one in maps) for maps in logmels))
