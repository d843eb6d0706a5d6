"""What a corpus is once read: clips with labels, folds and licences, in a fixed order."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from edgeq.errors import InputError

SPLITS = ("training", "validation", "testing")
"""What a clip is for, where a corpus says so."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One labelled recording.

    labels: names of its classes; one, where the corpus is not multi-label. fold: its part in the corpus's own
    cross-validation, None where there is none. split: one of SPLITS where the corpus has a split of its own, which is
    no fold; None where it has none, or leaves the clip out of it. licence, source: as the corpus states them, empty
    where it does not. group: who or what was recorded (speaker, actor, original recording, place): clips of one group
    are not independent. device, city: what recorded it and where, empty where the corpus does not say.
    """

    path: Path
    labels: tuple[str, ...]
    fold: int | None = None
    licence: str = ""
    source: str = ""
    split: str | None = None
    group: str = ""
    device: str = ""
    city: str = ""

    @property
    def label(self) -> str:
        """Its only label. Raises InputError where it has several, or none."""
        if len(self.labels) != 1:
            raise InputError(
                f"found {len(self.labels)} labels of {self.path}, expected one: this needs a corpus of one label a clip"
            )
        return self.labels[0]


@dataclass(frozen=True)
class Fault:
    """What is wrong with one file of a corpus, or with what a table says of it.

    kind: "missing" (a table names it), "unreadable", "empty" (no samples), "short" (for
    what is asked of it), "length" (not as published), "duplicate" (an
    entry twice) or "label" (one that is no class). what: found and expected, in a sentence. tolerated: whether the
    corpus is known for it, and goes on without the clip.
    """

    path: Path
    kind: str
    what: str
    tolerated: bool = False


@dataclass(frozen=True)
class Corpus:
    """Clips and the names of their classes, in the order of the corpus's own table of classes, else sorted.

    multi_label: whether a clip may have several labels. faults: what its tables name and it lacks, or say wrong; those
    clips are not among `clips`. defects: files that are damaged in every copy, as published. seconds: how long clips
    are, least and most; None where they are of any length. licence, citation: of the corpus as a whole, empty where
    unknown.
    Raises InputError where there are no clips, fewer than two classes, one file twice, a label that is no class, a clip
    without a label, or, but in a multi-label corpus, one with several.
    """

    name: str
    clips: tuple[Clip, ...]
    labels: tuple[str, ...]
    multi_label: bool = False
    faults: tuple[Fault, ...] = ()
    defects: tuple[Path, ...] = ()
    seconds: tuple[float, float] | None = None
    licence: str = ""
    citation: str = ""

    def __post_init__(self) -> None:
        if not self.clips:
            none = f"none of the {len(self.missing)} clips of its tables" if self.missing else "no clips"
            raise InputError(f"{self.name}: found {none}, expected labelled recordings")
        if len(self.labels) < 2:
            raise InputError(f"{self.name}: found {len(self.labels)} class, expected at least 2")
        unknown = {label for clip in self.clips for label in clip.labels} - set(self.labels)
        if unknown:
            raise InputError(f"{self.name}: labels {sorted(unknown)} are not among its classes {list(self.labels)}")
        for clip in self.clips:
            if not clip.labels or (not self.multi_label and len(clip.labels) > 1):
                expected = "at least one" if self.multi_label else "one"
                raise InputError(f"{self.name}: {clip.path} has {len(clip.labels)} labels, expected {expected}")
        twice = [str(path) for path, count in Counter(clip.path for clip in self.clips).items() if count > 1]
        if twice:
            raise InputError(f"{self.name}: {twice[0]} is listed more than once; keep one entry a file")

    @property
    def missing(self) -> tuple[Path, ...]:
        """Files that its tables name and that are not there."""
        return tuple(fault.path for fault in self.faults if fault.kind == "missing")

    @property
    def folds(self) -> tuple[int, ...]:
        """The folds its clips lie in, rising; empty where the corpus has none."""
        return tuple(sorted({clip.fold for clip in self.clips if clip.fold is not None}))

    @property
    def splits(self) -> tuple[str, ...]:
        """Which of SPLITS its clips lie in; empty where the corpus has none."""
        found = {clip.split for clip in self.clips}
        return tuple(split for split in SPLITS if split in found)

    @cached_property
    def targets(self) -> tuple[int, ...]:
        """Index into `labels` of each clip's only label; several are told by `positives`. Raises as `Clip.label`."""
        return tuple(self._index[clip.label] for clip in self.clips)

    def positives(self, clips: Sequence[int] | None = None) -> np.ndarray:
        """Which classes clips hold, multi-label or not: bool (clips, classes), of all or of those at these indices."""
        chosen = self.clips if clips is None else [self.clips[i] for i in clips]
        found = np.zeros((len(chosen), len(self.labels)), bool)
        for row, clip in zip(found, chosen, strict=True):
            row[[self._index[label] for label in clip.labels]] = True
        return found

    @property
    def hash(self) -> str:
        """sha256 over labels, folds, splits and the files' own bytes: equal where training would see the same data.

        Raises InputError where a file cannot be read.
        """
        digest = hashlib.sha256()
        for clip in self.clips:
            content = file_hash(clip.path)
            split = "" if clip.split is None else f"\t{clip.split}"
            digest.update(f"{'|'.join(clip.labels)}\t{clip.fold}{split}\t{content}\n".encode())
        return digest.hexdigest()

    def select(self, wanted: Callable[[Clip], bool]) -> Corpus:
        """The clips for which `wanted` holds, in order; classes stay. Raises InputError where none is left."""
        return replace(self, clips=tuple(clip for clip in self.clips if wanted(clip)))

    def part(self, split: str | None = None, fold: int | None = None) -> np.ndarray:
        """Indices of the clips of a split, or of a fold, rising: int64 (clips,)."""
        found = (clip.split == split if split is not None else clip.fold == fold for clip in self.clips)
        return np.flatnonzero(np.fromiter(found, bool, len(self.clips)))

    def subset(self, clips: Sequence[int]) -> Corpus:
        """The clips at these indices, in this order; classes stay. Raises InputError where there are none."""
        return replace(self, clips=tuple(self.clips[i] for i in clips))

    def without_licences(self, licences: Collection[str]) -> Corpus:
        """Leave out the clips under any of these licences."""
        return self.select(lambda clip: clip.licence not in licences)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {label: i for i, label in enumerate(self.labels)}


def file_hash(path: Path) -> str:
    """sha256 of a file's bytes. Raises InputError where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); mend or remove it") from error
