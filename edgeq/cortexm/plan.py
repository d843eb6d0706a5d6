"""Where each buffer of a model lies in its one static arena, so that what is never needed at once shares bytes."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

ALIGNMENT = 8
"""Bytes at a multiple of which every buffer begins."""

_SHUFFLES = 400


@dataclass(frozen=True)
class Buffer:
    """Bytes that are needed from step `first` to step `last`, both included.

    over: names of buffers whose last step is this one's first, and which this one may overwrite from their first byte.
    """

    name: str
    bytes: int
    first: int
    last: int
    over: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """offsets: first byte of each buffer. bytes: size of the arena. lower_bound: no arrangement needs fewer bytes."""

    offsets: Mapping[str, int]
    bytes: int
    lower_bound: int


def plan(buffers: Sequence[Buffer]) -> Plan:
    """Lay buffers out: first fit in several orders, the smallest arena of all of them; the same answer every time.

    Names are distinct. Buffers alive at one step don't overlap, but for one that lies over another, from one offset on.
    """
    lower_bound = _lower_bound(buffers)
    best: dict[str, int] = {}
    smallest = -1
    for order in _orders(buffers):
        offsets = _first_fit(order)
        size = max((offsets[buffer.name] + _rounded(buffer) for buffer in order), default=0)
        if smallest < 0 or size < smallest:
            best, smallest = offsets, size
        if smallest == lower_bound:
            break
    return Plan(best, smallest, lower_bound)


def _orders(buffers: Sequence[Buffer]) -> Iterable[list[Buffer]]:
    """The orders that usually are best, then shuffled neighbours of the first."""
    crowding = [alive(buffers, step) for step in range(max((buffer.last for buffer in buffers), default=0) + 1)]
    yield sorted(buffers, key=lambda buffer: (-buffer.bytes, buffer.first))
    yield sorted(buffers, key=lambda buffer: (buffer.first, -buffer.bytes))
    yield sorted(buffers, key=lambda buffer: (-buffer.bytes * (buffer.last - buffer.first + 1), buffer.first))
    # The most crowded step first, since its buffers decide the arena's size.
    yield sorted(
        buffers, key=lambda buffer: (-max(crowding[buffer.first : buffer.last + 1]), -buffer.bytes, buffer.first)
    )
    chance = random.Random(0)
    for _ in range(_SHUFFLES):
        yield sorted(buffers, key=lambda buffer: -buffer.bytes * chance.uniform(0.3, 1))


def _first_fit(order: Sequence[Buffer]) -> dict[str, int]:
    """Each buffer at the lowest offset that those placed before it leave, or over what it may overwrite."""
    offsets: dict[str, int] = {}
    placed: list[Buffer] = []
    for buffer in order:
        rivals = [other for other in placed if other.first <= buffer.last and buffer.first <= other.last]
        candidates = {0, *(offsets[other.name] + _rounded(other) for other in rivals)}
        candidates |= {offsets[other.name] for other in rivals if _may_share(buffer, other)}
        offsets[buffer.name] = next(
            offset for offset in sorted(candidates) if all(_apart(buffer, offset, other, offsets) for other in rivals)
        )
        placed.append(buffer)
    return offsets


def _apart(buffer: Buffer, offset: int, other: Buffer, offsets: Mapping[str, int]) -> bool:
    begin = offsets[other.name]
    if _may_share(buffer, other) and offset == begin:
        return True
    return offset + _rounded(buffer) <= begin or begin + _rounded(other) <= offset


def _may_share(one: Buffer, other: Buffer) -> bool:
    return other.name in one.over or one.name in other.over


def _lower_bound(buffers: Sequence[Buffer]) -> int:
    return max((alive(buffers, step) for step in {buffer.first for buffer in buffers}), default=0)


def alive(buffers: Sequence[Buffer], step: int) -> int:
    """Bytes that a step needs: all that is alive, less what the largest overwriting saves."""
    alive = {buffer.name: buffer for buffer in buffers if buffer.first <= step <= buffer.last}
    saved = (
        max((min(_rounded(buffer), _rounded(alive[name])) for name in buffer.over if name in alive), default=0)
        for buffer in alive.values()
        if buffer.first == step
    )
    return sum(map(_rounded, alive.values())) - sum(saved)


def _rounded(buffer: Buffer) -> int:
    return -(-buffer.bytes // ALIGNMENT) * ALIGNMENT
