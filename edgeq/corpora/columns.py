"""Columns of many values in few bytes: whole numbers, texts, values out of a small table; and a set of texts."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

Value = TypeVar("Value", bound=Hashable)

_TYPES = "BHIQ"


class Made(Sequence[Value]):
    """Values that are made when they are asked for, equal to any sequence of equal values."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == another for one, another in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self[:3]))}{', ...' if len(self) > 3 else ''})"


class Numbers:
    """Whole numbers from 0 up, appended one by one, each in as many bytes as the largest needs."""

    def __init__(self) -> None:
        self._held = array("B")

    def append(self, number: int) -> None:
        try:
            self._held.append(number)
        except OverflowError:
            self._held = array(_TYPES[_TYPES.index(self._held.typecode) + 1], self._held)
            self.append(number)

    def column(self) -> np.ndarray:
        """All of them, (n,); nothing can be appended while it is held."""
        if not self._held:
            return np.zeros(0, np.uint8)
        found = np.frombuffer(self._held, self._held.typecode)
        found.flags.writeable = False
        return found


class TextColumn(Protocol):
    """Texts, however they are held."""

    def __len__(self) -> int: ...
    def __getitem__(self, number: int, /) -> str: ...


@dataclass(frozen=True, eq=False)
class Texts:
    """Texts end to end. ends: where each ends in `content`, which is UTF-8, lone surrogates included."""

    ends: np.ndarray
    content: np.ndarray

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, number: int) -> str:
        start = int(self.ends[number - 1]) if number else 0
        return self.content[start : int(self.ends[number])].tobytes().decode("utf-8", "surrogatepass")


class GrowingTexts:
    """Texts, appended one by one."""

    def __init__(self) -> None:
        self._ends, self._content = Numbers(), bytearray()

    def append(self, text: str) -> None:
        self._content += text.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._content))

    def column(self) -> Texts:
        """All of them; nothing can be appended while it is held."""
        return Texts(self._ends.column(), np.frombuffer(bytes(0) if not self._content else self._content, np.uint8))


@dataclass(frozen=True, eq=False)
class Coded(Generic[Value]):
    """Values out of a small table. codes: index into `values` of each."""

    values: tuple[Value, ...]
    codes: np.ndarray

    def __getitem__(self, number: int) -> Value:
        return self.values[self.codes[number]]

    def take(self, numbers: np.ndarray) -> Coded[Value]:
        """The values at these places."""
        return Coded(self.values, self.codes[numbers])

    def counts(self) -> dict[Value, int]:
        """How often each value comes, of those that do, in the order of the table."""
        counts = np.bincount(self.codes, minlength=len(self.values))
        return {value: int(count) for value, count in zip(self.values, counts, strict=True) if count}

    def among(self, wanted: Callable[[Value], bool]) -> np.ndarray:
        """At which places the value is wanted: bool (n,)."""
        return np.array([wanted(value) for value in self.values], bool)[self.codes]


class GrowingCoded(Generic[Value]):
    """Values of which few differ, appended one by one."""

    def __init__(self) -> None:
        self._codes, self._numbers = {}, Numbers()  # type: dict[Value, int], Numbers

    def append(self, value: Value) -> None:
        self._numbers.append(self._codes.setdefault(value, len(self._codes)))

    def column(self) -> Coded[Value]:
        """All of them; nothing can be appended while it is held."""
        return Coded(tuple(self._codes), self._numbers.column())


class Seen:
    """A set of texts that holds of each the first 12 bytes of its SHA-256: too many for two texts to share them."""

    def __init__(self) -> None:
        self._slots, self._count = (array("Q", bytes(8 << 10)), array("I", bytes(4 << 10))), 0

    def add(self, text: str) -> bool:
        """Take in a text; returns whether it is new."""
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        high, low = int.from_bytes(digest[:8]) or 1, int.from_bytes(digest[8:12])  # 0 stands for an empty slot
        if not self._put(high, low):
            return False
        self._count += 1
        if 4 * self._count > 3 * len(self._slots[0]):
            before = self._slots
            self._slots = array("Q", bytes(16 * len(before[0]))), array("I", bytes(8 * len(before[0])))
            for high, low in zip(*before, strict=True):
                if high:
                    self._put(high, low)
        return True

    def _put(self, high: int, low: int) -> bool:
        highs, lows = self._slots
        last = len(highs) - 1
        slot = high & last
        while highs[slot]:
            if highs[slot] == high and lows[slot] == low:
                return False
            slot = (slot + 1) & last
        highs[slot], lows[slot] = high, low
        return True


def first_alike(texts: Callable[[int], Hashable], count: int) -> np.ndarray:
    """Index of the first of those equal to each of `count` values: int64 (count,). texts: the value at an index."""
    hashes = np.fromiter((hash(texts(number)) for number in range(count)), np.int64, count)
    first, order = np.arange(count), np.argsort(hashes, kind="stable")
    for start, end in runs(hashes[order]):
        found: dict[Hashable, int] = {}
        for number in order[start:end].tolist():
            first[number] = found.setdefault(texts(number), number)
    return first


def runs(values: np.ndarray) -> Iterator[tuple[int, int]]:
    """Where two or more equal values stand side by side: start and end of each such run."""
    same = np.concatenate([[False], values[1:] == values[:-1], [False]]) if len(values) else np.zeros(1, bool)
    steps = np.diff(same.astype(np.int8))
    return zip(np.flatnonzero(steps == 1), np.flatnonzero(steps == -1) + 1, strict=True)
