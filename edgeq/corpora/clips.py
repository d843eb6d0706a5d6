"""Clips of a corpus, column by column: about a hundred bytes each, so that millions fit in memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np

from edgeq.corpora.columns import Coded, GrowingCoded, GrowingTexts, Made, Numbers, TextColumn, first_alike
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


@dataclass(frozen=True, eq=False)
class Columns:
    """What is known of clips, as in Clip, (clips,) each.

    folder, name: their paths. label: their labels end to end, indices into `labels`; label_ends: where each clip's end.
    """

    folder: Coded[str]
    name: TextColumn
    labels: tuple[str, ...]
    label: np.ndarray
    label_ends: np.ndarray
    fold: Coded[int | None]
    split: Coded[str | None]
    licence: Coded[str]
    source: TextColumn
    group: TextColumn
    device: Coded[str]
    city: Coded[str]

    def clip(self, row: int) -> Clip:
        """The clip of a row."""
        start = int(self.label_ends[row - 1]) if row else 0
        return Clip(
            path=Path(self.folder[row] + self.name[row]),
            labels=tuple(self.labels[label] for label in self.label[start : int(self.label_ends[row])]),
            fold=self.fold[row],
            licence=self.licence[row],
            source=self.source[row],
            split=self.split[row],
            group=self.group[row],
            device=self.device[row],
            city=self.city[row],
        )

    @property
    def label_starts(self) -> np.ndarray:
        """Where each clip's labels begin."""
        return np.concatenate([np.zeros(1, self.label_ends.dtype), self.label_ends[:-1]])[: len(self.label_ends)]

    @cached_property
    def files(self) -> np.ndarray | None:
        """A number for the file of each clip: that of the first clip of it; None where each has its own."""
        first = first_alike(lambda row: (self.folder[row], self.name[row]), len(self.name))
        return None if np.array_equal(first, np.arange(len(first))) else first


class Clips(Made[Clip]):
    """Clips in order, each made when it is asked for.

    chosen: rows of the columns that these are, None for all. Parts share their columns with the whole.
    """

    def __init__(self, columns: Columns, chosen: np.ndarray | None = None) -> None:
        self._columns, self._chosen = columns, chosen

    @staticmethod
    def of(clips: Iterable[Clip]) -> Clips:
        """These clips as columns; none is held while they are gone through."""
        if isinstance(clips, Clips):
            return clips
        growing = GrowingClips()
        for clip in clips:
            growing.append(clip)
        return growing.clips()

    def __len__(self) -> int:
        return len(self._columns.source) if self._chosen is None else len(self._chosen)

    @overload
    def __getitem__(self, number: int) -> Clip: ...
    @overload
    def __getitem__(self, number: slice) -> Clips: ...
    def __getitem__(self, number: int | slice) -> Clip | Clips:
        if isinstance(number, slice):
            return self.take(np.arange(len(self))[number])
        return self._columns.clip(self.row(number))

    def take(self, numbers: Sequence[int] | np.ndarray) -> Clips:
        """The clips at these indices, in this order."""
        chosen = np.asarray(numbers, np.int64)
        return Clips(self._columns, chosen if self._chosen is None else self._chosen[chosen])

    @property
    def rows(self) -> np.ndarray:
        """Rows of the columns that these clips are: int64 (n,)."""
        return np.arange(len(self)) if self._chosen is None else self._chosen

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes that `held` counts; those of parts are those of the whole."""
        return self._columns.labels

    def row(self, number: int) -> int:
        """Row of the columns that one clip is."""
        place = range(len(self))[number]  # from the end too
        return place if self._chosen is None else int(self._chosen[place])

    def name(self, number: int) -> str:
        """What comes last in a clip's path: the name of its file, or its key in a packed corpus."""
        return self._columns.name[self.row(number)]

    def held(self) -> tuple[np.ndarray, np.ndarray]:
        """How many labels each clip has, int64 (n,), and the labels end to end, indices into `labels`."""
        starts, ends = self._columns.label_starts, self._columns.label_ends
        if self._chosen is None:
            return (ends - starts).astype(np.int64), self._columns.label
        signed = np.int32 if len(self._columns.label) < 1 << 31 else np.int64
        starts = starts[self._chosen].astype(signed)
        counts = ends[self._chosen].astype(signed) - starts
        places = np.repeat(starts - (np.cumsum(counts, dtype=signed) - counts), counts)
        places += np.arange(len(places), dtype=signed)
        return counts.astype(np.int64), self._columns.label[places]

    @property
    def folds(self) -> Coded[int | None]:
        """The fold of each clip."""
        return self._part(self._columns.fold)

    @property
    def splits(self) -> Coded[str | None]:
        """The split of each clip."""
        return self._part(self._columns.split)

    @property
    def licences(self) -> Coded[str]:
        """The licence of each clip."""
        return self._part(self._columns.licence)

    @property
    def devices(self) -> Coded[str]:
        """What recorded each clip."""
        return self._part(self._columns.device)

    @property
    def cities(self) -> Coded[str]:
        """Where each clip was recorded."""
        return self._part(self._columns.city)

    def groups(self) -> np.ndarray:
        """A number for the group of each clip, equal for clips of one group, -1 where it has none: int64 (n,)."""
        group = self._columns.group
        rows = range(len(group)) if self._chosen is None else self._chosen.tolist()
        found = first_alike(lambda number: group[rows[number]], len(self))
        found[np.fromiter((not group[row] for row in rows), bool, len(rows))] = -1
        return found

    def repeated(self) -> int | None:
        """The first clip whose file an earlier one has too; None where each has its own."""
        files = self._columns.files
        if files is None and self._chosen is None:
            return None
        files = self.rows if files is None else files[self.rows]
        order = np.argsort(files, kind="stable")
        later = order[1:][files[order][1:] == files[order][:-1]]
        return int(later.min()) if len(later) else None

    def _part(self, column: Coded[Any]) -> Coded[Any]:
        return column if self._chosen is None else column.take(self._chosen)


class GrowingClips:
    """Clips, appended one by one."""

    def __init__(self) -> None:
        self._folder: GrowingCoded[str] = GrowingCoded()
        self._name, self._source, self._group = GrowingTexts(), GrowingTexts(), GrowingTexts()
        self._labels: dict[str, int] = {}
        self._label, self._label_ends, self._labelled = Numbers(), Numbers(), 0
        self._fold: GrowingCoded[int | None] = GrowingCoded()
        self._split: GrowingCoded[str | None] = GrowingCoded()
        self._licence: GrowingCoded[str] = GrowingCoded()
        self._device: GrowingCoded[str] = GrowingCoded()
        self._city: GrowingCoded[str] = GrowingCoded()

    def append(self, clip: Clip) -> None:
        path = str(clip.path)
        cut = path.rfind(os.sep) + 1
        self._folder.append(path[:cut])
        self._name.append(path[cut:])
        for label in clip.labels:
            self._label.append(self._labels.setdefault(label, len(self._labels)))
        self._labelled += len(clip.labels)
        self._label_ends.append(self._labelled)
        self._fold.append(clip.fold)
        self._split.append(clip.split)
        self._licence.append(clip.licence)
        self._source.append(clip.source)
        self._group.append(clip.group)
        self._device.append(clip.device)
        self._city.append(clip.city)

    def clips(self) -> Clips:
        """All of them; nothing can be appended while they are held."""
        return Clips(
            Columns(
                folder=self._folder.column(),
                name=self._name.column(),
                labels=tuple(self._labels),
                label=self._label.column(),
                label_ends=self._label_ends.column(),
                fold=self._fold.column(),
                split=self._split.column(),
                licence=self._licence.column(),
                source=self._source.column(),
                group=self._group.column(),
                device=self._device.column(),
                city=self._city.column(),
            )
        )
