"""What a corpus is once read: clips with labels, folds and licences, in a fixed order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from edgeq.corpora.clips import SPLITS, Clip, Clips
from edgeq.corpora.faults import Fault, Faults
from edgeq.errors import InputError


@dataclass(frozen=True)
class Corpus:
    """Clips and the names of their classes, in the order of the corpus's own table of classes, else sorted.

    multi_label: whether a clip may have several labels. faults: what its tables name and it lacks, or say wrong; those
    clips are not among `clips`. Whatever sequences are given, both are kept as Clips and Faults: few bytes each.
    defects: files that are damaged in every copy, as published. seconds: how long clips are, least and most; None where
    they are of any length. licence, citation: of the corpus as a whole, empty where unknown.
    Raises InputError where there are no clips, fewer than two classes, one file twice, a label that is no class, a clip
    without a label, or, but in a multi-label corpus, one with several.
    """

    name: str
    clips: Sequence[Clip]
    labels: tuple[str, ...]
    multi_label: bool = False
    faults: Sequence[Fault] = ()
    defects: tuple[Path, ...] = ()
    seconds: tuple[float, float] | None = None
    licence: str = ""
    citation: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "clips", Clips.of(self.clips))
        object.__setattr__(self, "faults", Faults.of(self.faults))
        if not self.clips:
            missing = Faults.of(self.faults).counted("missing")
            none = f"none of the {missing} clips of its tables" if missing else "no clips"
            raise InputError(f"{self.name}: found {none}, expected labelled recordings")
        if len(self.labels) < 2:
            raise InputError(f"{self.name}: found {len(self.labels)} class, expected at least 2")
        counts, labels = self._clips.held()
        if unknown := {self._clips.labels[label] for label in np.unique(labels)} - set(self.labels):
            raise InputError(f"{self.name}: labels {sorted(unknown)} are not among its classes {list(self.labels)}")
        wrong = np.flatnonzero(counts < 1 if self.multi_label else counts != 1)
        if len(wrong):
            expected = "at least one" if self.multi_label else "one"
            path, found = self.clips[wrong[0]].path, counts[wrong[0]]
            raise InputError(f"{self.name}: {path} has {found} labels, expected {expected}")
        if (twice := self._clips.repeated()) is not None:
            raise InputError(f"{self.name}: {self.clips[twice].path} is listed more than once; keep one entry a file")

    @property
    def folds(self) -> tuple[int, ...]:
        """The folds its clips lie in, rising; empty where the corpus has none."""
        return tuple(sorted(fold for fold in self._clips.folds.counts() if fold is not None))

    @property
    def splits(self) -> tuple[str, ...]:
        """Which of SPLITS its clips lie in; empty where the corpus has none."""
        found = self._clips.splits.counts()
        return tuple(split for split in SPLITS if split in found)

    @cached_property
    def targets(self) -> tuple[int, ...]:
        """Index into `labels` of each clip's only label; several are told by `positives`. Raises as `Clip.label`."""
        counts, labels = self._clips.held()
        if len(several := np.flatnonzero(counts != 1)):
            _ = self.clips[several[0]].label  # says what is wrong
        return tuple(self._index[labels].tolist())

    def positives(self, clips: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """Which classes clips hold, multi-label or not: bool (clips, classes), of all or of those at these indices."""
        counts, labels = (self._clips if clips is None else self._clips.take(clips)).held()
        found = np.zeros((len(counts), len(self.labels)), bool)
        found[np.repeat(np.arange(len(counts)), counts), self._index[labels]] = True
        return found

    @property
    def hash(self) -> str:
        """Equal where training would see the same data: here `recordings_hash`."""
        return self.recordings_hash

    @property
    def recordings_hash(self) -> str:
        """sha256 over labels, folds, splits and the recordings' own bytes: that of the same clips, packed or not.

        Raises InputError where a file cannot be read.
        """
        digest = hashlib.sha256()
        for number in map(int, self._as_recorded()):
            clip = self.clips[number]
            split = "" if clip.split is None else f"\t{clip.split}"
            told = f"{'|'.join(clip.labels)}\t{clip.fold}{split}\t{self.recording_hash(number)}\n"
            digest.update(told.encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def recording_hash(self, clip: int) -> str:
        """sha256 of a clip's file as it was recorded. Raises InputError where it cannot be read."""
        return file_hash(self.clips[clip].path)

    @property
    def damaged_hashes(self) -> tuple[str, ...]:
        """sha256 of each recording that it once had and that could not be used, where it knows of any."""
        return ()

    def _as_recorded(self) -> np.ndarray:
        """Indices of its clips in the order of the corpus as published."""
        return np.arange(len(self.clips))

    def select(self, wanted: Callable[[Clip], bool]) -> Corpus:
        """The clips for which `wanted` holds, in order; classes stay. Raises InputError where none is left."""
        return self.subset([number for number, clip in enumerate(self.clips) if wanted(clip)])

    def part(self, split: str | None = None, fold: int | None = None) -> np.ndarray:
        """Indices of the clips of a split, or of a fold, rising: int64 (clips,)."""
        if split is not None:
            return np.flatnonzero(self._clips.splits.among(lambda own: own == split))
        return np.flatnonzero(self._clips.folds.among(lambda own: own == fold))

    def subset(self, clips: Sequence[int] | np.ndarray) -> Corpus:
        """The clips at these indices, in this order; classes stay. Raises InputError where there are none."""
        return replace(self, clips=self._clips.take(clips))

    def without_licences(self, licences: Collection[str]) -> Corpus:
        """Leave out the clips under any of these licences."""
        return self.subset(np.flatnonzero(self._clips.licences.among(lambda licence: licence not in licences)))

    @property
    def _clips(self) -> Clips:
        return Clips.of(self.clips)

    @cached_property
    def _index(self) -> np.ndarray:
        """Index into `labels` of each label of the clips' own table."""
        places = {label: place for place, label in enumerate(self.labels)}
        return np.array([places.get(label, -1) for label in self._clips.labels], np.int64)


def file_hash(path: Path) -> str:
    """sha256 of a file's bytes. Raises InputError where it cannot be read."""
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); mend or remove it") from error
