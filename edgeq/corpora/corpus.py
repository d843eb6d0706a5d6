"""What a corpus is once read: clips with labels, folds and licences, in a fixed order."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

from edgeq.errors import InputError


@dataclass(frozen=True)
class Clip:
    """One labelled recording.

    label: name of its class. fold: the corpus's own partition, None where it has none. licence, source: as the corpus
    states them, empty where it does not.
    """

    path: Path
    label: str
    fold: int | None = None
    licence: str = ""
    source: str = ""


@dataclass(frozen=True)
class Corpus:
    """Clips and the sorted names of their classes.

    Raises InputError where there are no clips, fewer than two classes, or one file twice.
    """

    name: str
    clips: tuple[Clip, ...]
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.clips:
            raise InputError(f"{self.name}: found no clips, expected labelled recordings")
        if len(self.labels) < 2:
            raise InputError(f"{self.name}: found {len(self.labels)} class, expected at least 2")
        unknown = {clip.label for clip in self.clips} - set(self.labels)
        if unknown:
            raise InputError(f"{self.name}: labels {sorted(unknown)} are not among its classes {list(self.labels)}")
        twice = [str(path) for path, count in Counter(clip.path for clip in self.clips).items() if count > 1]
        if twice:
            raise InputError(f"{self.name}: {twice[0]} is listed more than once; keep one entry a file")

    @property
    def folds(self) -> tuple[int, ...]:
        """The folds its clips lie in, rising; empty where the corpus has none."""
        return tuple(sorted({clip.fold for clip in self.clips if clip.fold is not None}))

    @property
    def targets(self) -> tuple[int, ...]:
        """Index into `labels` of each clip."""
        index = {label: i for i, label in enumerate(self.labels)}
        return tuple(index[clip.label] for clip in self.clips)

    @property
    def hash(self) -> str:
        """sha256 over labels, folds and the files' own bytes: equal where training would see the same data.

        Raises InputError where a file cannot be read.
        """
        digest = hashlib.sha256()
        for clip in self.clips:
            try:
                content = hashlib.sha256(clip.path.read_bytes()).hexdigest()
            except OSError as error:
                raise InputError(f"{clip.path}: cannot be read ({error.strerror}); mend or remove it") from error
            digest.update(f"{clip.label}\t{clip.fold}\t{content}\n".encode())
        return digest.hexdigest()

    def select(self, wanted: Callable[[Clip], bool]) -> Corpus:
        """The clips for which `wanted` holds, in order; classes stay. Raises InputError where none is left."""
        return replace(self, clips=tuple(clip for clip in self.clips if wanted(clip)))

    def without_licences(self, licences: Collection[str]) -> Corpus:
        """Leave out the clips under any of these licences."""
        return self.select(lambda clip: clip.licence not in licences)
