"""Microcontrollers: memory, clock, and what their cycles and energy are estimated from, each figure with its source."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from edgeq.errors import InputError

TABLE = Path(__file__).with_name("targets.toml")
CORES = ("cortex-m4", "cortex-m7", "cortex-m33")
ZERO_WAIT, FLASH_ACCELERATOR = "zero-wait", "flash-accelerator"
SIMULATED, ESTIMATED = "simulated", "estimated"
_SOURCES = {"memory", "wait_states", "cycles", "energy"}


@dataclass(frozen=True)
class Band:
    """A figure that lies between two."""

    low: float
    high: float

    def times(self, factor: float) -> Band:
        return Band(self.low * factor, self.high * factor)

    def by(self, other: Band) -> Band:
        """The product of two bands of positive figures."""
        return Band(self.low * other.low, self.high * other.high)


@dataclass(frozen=True)
class Memory:
    """One region: its first address, and its bytes."""

    origin: int
    bytes: int


@dataclass(frozen=True)
class CycleRule:
    """How a board's cycles follow from simulated ones.

    start: ZERO_WAIT or FLASH_ACCELERATOR, the simulated figure. band: of it, the board's; dense: in fully connected
    layers. per_m4: cycles of a Cortex-M4 that the core does in one of its own. kind: SIMULATED or ESTIMATED.
    """

    start: str
    band: Band
    dense: Band
    per_m4: float
    kind: str

    def cycles(self, rest: float, dense: float = 0) -> Band:
        """The board's, from simulated cycles outside and inside fully connected layers."""
        return Band(
            (self.band.low * rest + self.dense.low * dense) / self.per_m4,
            (self.band.high * rest + self.dense.high * dense) / self.per_m4,
        )


@dataclass(frozen=True)
class Target:
    """A row of targets.toml. energy: nanojoules a cycle. sources: of memory, wait_states, cycles and energy."""

    name: str
    part: str
    core: str
    clock_mhz: float
    wait_states: int
    flash: Memory
    ram: Memory
    cycles: CycleRule
    energy: Band
    sources: Mapping[str, str]

    def latency_ms(self, cycles: Band) -> Band:
        return cycles.times(1e-3 / self.clock_mhz)

    def energy_mj(self, cycles: Band) -> Band:
        return cycles.by(self.energy).times(1e-6)


def find(name: str) -> Target:
    """A target by name.

    Raises InputError where there is none of that name, listing those there are.
    """
    targets = listed()
    if name not in targets:
        raise InputError(f"target {name!r}: expected one of {', '.join(targets)}")
    return targets[name]


@lru_cache(maxsize=1)
def listed() -> Mapping[str, Target]:
    """The targets that edgeq knows, by name."""
    return read(TABLE)


def read(path: Path) -> dict[str, Target]:
    """The targets of a TOML file.

    Raises InputError naming the row and the key where one is missing, unknown, or has a value it can't have.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; install edgeq again") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not TOML: {error}") from error
    return {name: _target(_Row(f"{path.name}: {name}", values), name) for name, values in table.items()}


class _Row:
    """A table of which every key is to be read, each with a check."""

    def __init__(self, place: str, values: Any) -> None:
        if not isinstance(values, dict):
            raise InputError(f"{place}: found {values!r}, expected a table")
        self.place = place
        self._values = dict(values)

    def text(self, key: str, *allowed: str) -> str:
        value = self._take(key)
        expected = f"one of {', '.join(allowed)}" if allowed else "text"
        if not isinstance(value, str) or not value.strip() or (allowed and value not in allowed):
            raise self._wrong(key, value, expected)
        return value

    def number(self, key: str, default: float | None = None) -> float:
        if default is not None and key not in self._values:
            return default
        value = self._take(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
            raise self._wrong(key, value, "a number above 0")
        return float(value)

    def whole(self, key: str) -> int:
        value = self._take(key)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 32:
            raise self._wrong(key, value, "a whole number from 0 to 2**32 - 1")
        return value

    def row(self, key: str) -> _Row:
        return _Row(f"{self.place}.{key}", self._take(key))

    def done(self) -> None:
        if self._values:
            raise InputError(f"{self.place}: {', '.join(self._values)}: no such key is known")

    def _take(self, key: str) -> Any:
        if key not in self._values:
            raise InputError(f"{self.place}: {key} is missing")
        return self._values.pop(key)

    def _wrong(self, key: str, value: Any, expected: str) -> InputError:
        return InputError(f"{self.place}: {key} is {value!r}, expected {expected}")


def _target(row: _Row, name: str) -> Target:
    sources = row.row("sources")
    target = Target(
        name,
        row.text("part"),
        row.text("core", *CORES),
        row.number("clock_mhz"),
        row.whole("wait_states"),
        _memory(row.row("flash")),
        _memory(row.row("ram")),
        _cycles(row.row("cycles")),
        _band(row.row("energy")),
        {key: sources.text(key) for key in sorted(_SOURCES)},
    )
    sources.done()
    row.done()
    return target


def _memory(row: _Row) -> Memory:
    memory = Memory(row.whole("origin"), row.whole("bytes"))
    row.done()
    if memory.bytes == 0 or memory.origin + memory.bytes > 1 << 32 or memory.origin % 4096 or memory.bytes % 4096:
        raise InputError(f"{row.place}: expected whole pages of 4096 bytes, below 2**32")
    return memory


def _cycles(row: _Row) -> CycleRule:
    start = row.text("from", ZERO_WAIT, FLASH_ACCELERATOR)
    low, high = row.number("low"), row.number("high")
    dense_high = row.number("dense_high", high)
    rule = CycleRule(
        start,
        _ordered(row, low, high),
        _ordered(row, low, dense_high),
        row.number("per_m4", 1.0),
        row.text("kind", SIMULATED, ESTIMATED),
    )
    row.done()
    return rule


def _band(row: _Row) -> Band:
    band = _ordered(row, row.number("low"), row.number("high"))
    row.done()
    return band


def _ordered(row: _Row, low: float, high: float) -> Band:
    if low > high:
        raise InputError(f"{row.place}: low is {low}, above high, {high}")
    return Band(low, high)
