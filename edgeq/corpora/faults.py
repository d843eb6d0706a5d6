"""What is wrong with the files of a corpus: of a corpus that lacks half of its clips, in a few bytes a clip."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from edgeq.corpora.columns import Coded, GrowingCoded, Made

_TOGETHER = 64  # faults that are compressed as one


@dataclass(frozen=True)
class Fault:
    """What is wrong with one file of a corpus, or with what a table says of it.

    kind: "missing" (a table names it), "unreadable", "empty" (no samples), "short" (for what is asked of it), "length"
    (not as published), "duplicate" (an entry twice) or "label" (one that is no class). what: found and expected, in a
    sentence. tolerated: whether the corpus is known for it, and goes on without the clip.
    """

    path: Path
    kind: str
    what: str
    tolerated: bool = False


class Faults(Made[Fault]):
    """Faults in order, each made when it is asked for.

    sorts: kind of each, and whether it is tolerated. blocks: path and what of `_TOGETHER` faults each, compressed.
    """

    def __init__(self, sorts: Coded[tuple[str, bool]], blocks: Sequence[bytes]) -> None:
        self.sorts, self._blocks = sorts, blocks

    @staticmethod
    def of(faults: Iterable[Fault]) -> Faults:
        """These faults; none is held while they are gone through."""
        if isinstance(faults, Faults):
            return faults
        growing = GrowingFaults()
        for fault in faults:
            growing.append(fault)
        return growing.faults()

    def __len__(self) -> int:
        return len(self.sorts.codes)

    @overload
    def __getitem__(self, number: int) -> Fault: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Fault]: ...
    def __getitem__(self, number: int | slice) -> Fault | Sequence[Fault]:
        if isinstance(number, slice):
            return list(self._at(np.arange(len(self))[number]))
        place = range(len(self))[number]  # from the end too
        return self._made(place, self._block(place // _TOGETHER)[place % _TOGETHER])

    def __iter__(self) -> Iterator[Fault]:
        return self._at(np.arange(len(self)))

    def of_kind(self, kind: str, others: bool = False) -> Iterator[Fault]:
        """Those of a kind, or all but those, in order."""
        return self._at(np.flatnonzero(self.sorts.among(lambda sort: (sort[0] == kind) != others)))

    def untolerated(self) -> Iterator[Fault]:
        """Those that the corpus is not known for, in order."""
        return self._at(np.flatnonzero(self.sorts.among(lambda sort: not sort[1])))

    def counted(self, kind: str | None = None, tolerated: bool | None = None) -> int:
        """How many there are, of a kind, tolerated or not."""
        return sum(
            count
            for sort, count in self.sorts.counts().items()
            if kind in (None, sort[0]) and tolerated in (None, sort[1])
        )

    def _at(self, places: np.ndarray) -> Iterator[Fault]:
        held, block = -1, []  # type: int, list[list[str]]
        for place in places.tolist():
            if place // _TOGETHER != held:
                held = place // _TOGETHER
                block = self._block(held)
            yield self._made(place, block[place % _TOGETHER])

    def _block(self, number: int) -> list[list[str]]:
        return json.loads(zlib.decompress(self._blocks[number]))

    def _made(self, place: int, told: Sequence[str]) -> Fault:
        kind, tolerated = self.sorts[place]
        return Fault(Path(told[0]), kind, told[1], tolerated)


class GrowingFaults:
    """Faults, appended one by one."""

    def __init__(self) -> None:
        self._sorts: GrowingCoded[tuple[str, bool]] = GrowingCoded()
        self._blocks: list[bytes] = []
        self._open: list[tuple[str, str]] = []

    def append(self, fault: Fault) -> None:
        self._sorts.append((fault.kind, fault.tolerated))
        self._open.append((str(fault.path), fault.what))
        if len(self._open) == _TOGETHER:
            self._blocks.append(_compressed(self._open))
            self._open = []

    def faults(self) -> Faults:
        """All of them; nothing can be appended while they are held."""
        last = [_compressed(self._open)] if self._open else []
        return Faults(self._sorts.column(), (*self._blocks, *last))


def _compressed(told: Sequence[tuple[str, str]]) -> bytes:
    return zlib.compress(json.dumps(told).encode(), 1)
