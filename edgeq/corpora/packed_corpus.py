"""A packed corpus as training sees any corpus: its clips are made when they are asked for, from arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast, overload

import numpy as np

from edgeq.corpora import packed
from edgeq.corpora.corpus import SPLITS, Clip, Corpus
from edgeq.corpora.packed import Packed
from edgeq.errors import InputError


def open(folder: Path | str) -> PackedCorpus:
    """Open a packed corpus as a Corpus of all its clips. Raises InputError as `packed.open`."""
    opened = packed.open(folder)
    return _corpus(opened, np.arange(len(opened)))


@dataclass(frozen=True, eq=False)
class PackedCorpus(Corpus):
    """Clips of a packed corpus. Their paths, folder/key, are names: what they hold is in the shards."""

    def __post_init__(self) -> None:
        if not len(self.clips):
            raise InputError(f"{self.name}: found no clips, expected labelled recordings")

    @property
    def packed(self) -> Packed:
        """Where the clips are."""
        return self._clips.packed

    @property
    def chosen(self) -> np.ndarray:
        """Index in the packed corpus of each clip, int64 (clips,)."""
        return self._clips.chosen

    @property
    def folds(self) -> tuple[int, ...]:
        return tuple(int(fold) for fold in np.unique(self.packed.fold[self.chosen]) if fold >= 0)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(SPLITS[split] for split in np.unique(self.packed.split[self.chosen]) if split >= 0)

    @cached_property
    def targets(self) -> tuple[int, ...]:
        return tuple(self.packed.targets[self.chosen].tolist())

    def positives(self, clips: Sequence[int] | None = None) -> np.ndarray:
        return self.packed.positives(self.chosen if clips is None else self.chosen[np.asarray(clips, np.int64)])

    @property
    def hash(self) -> str:
        """sha256 over the packed corpus and which of its clips these are."""
        return hashlib.sha256(self.packed.hash.encode() + self.chosen.tobytes()).hexdigest()

    def part(self, split: str | None = None, fold: int | None = None) -> np.ndarray:
        if split is not None:
            return np.flatnonzero(self.packed.split[self.chosen] == SPLITS.index(split))
        folds = self.packed.fold[self.chosen]
        return np.flatnonzero((folds == fold) & (folds >= 0))  # -1 stands for none

    def subset(self, clips: Sequence[int] | np.ndarray) -> PackedCorpus:
        return _corpus(self.packed, self.chosen[np.asarray(clips, np.int64)])

    def select(self, wanted: Callable[[Clip], bool]) -> PackedCorpus:
        return self.subset([number for number, clip in enumerate(self.clips) if wanted(clip)])

    def without_licences(self, licences: Collection[str]) -> PackedCorpus:
        out = [number for number, licence in enumerate(self.packed.licences) if licence in licences]
        return self.subset(np.flatnonzero(~np.isin(self.packed.clip_licence[self.chosen], out)))

    @property
    def _clips(self) -> _Clips:
        return cast(_Clips, self.clips)


class _Clips(Sequence[Clip]):
    """Clips as a sequence that holds none of them."""

    def __init__(self, packed: Packed, chosen: np.ndarray) -> None:
        self.packed, self.chosen = packed, chosen

    def __len__(self) -> int:
        return len(self.chosen)

    @overload
    def __getitem__(self, number: int) -> Clip: ...
    @overload
    def __getitem__(self, number: slice) -> _Clips: ...
    def __getitem__(self, number: int | slice) -> Clip | _Clips:
        if isinstance(number, slice):
            return _Clips(self.packed, self.chosen[number])
        return self.packed.clip(int(self.chosen[number]))


def _corpus(opened: Packed, chosen: np.ndarray) -> PackedCorpus:
    clips = cast("tuple[Clip, ...]", _Clips(opened, chosen))
    return PackedCorpus(
        opened.name, clips, opened.labels, opened.multi_label, licence=opened.licence, citation=opened.citation
    )
