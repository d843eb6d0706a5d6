"""Numbers, tables and their cells, as all views write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from edgeq.graph.sqnr import CEILING_DB

Value = Mapping[str, Any]

_LAYER_WIDTH = 18
"""Characters of a layer's name that leave a table of its costs within 80 columns."""


def console() -> Console:
    return Console(highlight=False)


def table(*columns: str, title: str | None = None) -> Table:
    """A table whose columns are named; a leading '>' right-aligns one."""
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for column in columns:
        table.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    return table


def facts(console: Console, rows: Sequence[tuple[str, str, str]]) -> None:
    """What there is to say, under names: aligned, in a terminal wrapped between words, in a file a line each.

    rows: a name, its style, and what is said; none of them is markup.
    """
    width = max((len(name) for name, _, _ in rows), default=0)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, style, said in rows:
        if console.is_terminal:
            grid.add_row(Text(name, style), Text(said))
        else:
            console.print(Text.assemble((name.ljust(width), style), "  ", said), soft_wrap=True)
    if console.is_terminal:
        console.print(grid)


def ending(name: str) -> str:
    """The end of a long name, as those that TensorFlow strings together by `;` begin alike."""
    first = name.split(";")[0]
    return first if len(first) <= _LAYER_WIDTH else f"..{first[2 - _LAYER_WIDTH :]}"


def count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def counted(number: int, one: str, more: str = "") -> str:
    """So many of something, in words."""
    return f"{number:,} {one if number == 1 else more or f'{one}s'}"


def change(before: int, after: int, share: bool = False) -> str:
    """A count before and after, and with `share` how much of it is gone."""
    if before == after:
        return f"{after:,}"
    return f"{before:,} -> {after:,}" + (f"  [dim]-{1 - after / before:.1%}[/]" if share else "")


def short(value: int | None) -> str:
    """A count in at most ten characters, so that a table of them fits 80 columns: exact below 10 millions."""
    if value is None or value < 10_000_000:
        return count(value)
    return f"{value / 1e9:,.2f} G" if value >= 1_000_000_000 else f"{value / 1e6:.1f} M"


def kilobytes(value: int | None) -> str:
    return "" if value is None else f"{value / 1000:,.1f} kB"


def size(value: int) -> str:
    """Bytes in the largest unit of which there is one."""
    for unit, of in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if value >= of:
            return f"{value / of:,.1f} {unit}"
    return kilobytes(value)


def hours(value: float) -> str:
    if value >= 1:
        return f"{value:,.1f} hours"
    return f"{60 * value:.1f} minutes" if 60 * value >= 1 else f"{3600 * value:.1f} seconds"


def decibels(value: float) -> str:
    return "exact" if value >= CEILING_DB else f"{value:.1f} dB"


def accuracy(value: float | Value | None) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):
        low, high = value["low"], value["high"]
        return f"{value['mean']:.1%} ({low:.1%} to {high:.1%}, {value['seeds']} seeds)"
    return f"{value:.1%}"


def both(value: Value) -> tuple[str, str]:
    """Accuracy in INT8 and in float."""
    return accuracy(value["accuracy"]), accuracy(value["accuracy_float"])


def band(values: Value, digits: int = 3, factor: float = 1) -> str:
    """Two figures that a third lies between, in so many digits, times a factor."""
    return "-".join(f"{factor * values[end]:#.{digits}g}".removesuffix(".") for end in ("low", "high"))


def digits(value: float, mark: str = "") -> str:
    """A figure in three digits, behind how it was come by."""
    digits = f"{value:,.0f}" if value >= 100 else f"{value:#.3g}".removesuffix(".")
    return f"{mark} {digits}" if mark else digits


def millions(value: int) -> str:
    return f"{value / 1e9:,.2f} G" if value >= 1e9 else f"{value / 1e6:,.2f} M"


def spread(value: float | Value | None) -> str:
    """An accuracy in few characters: half of its interval instead of both ends."""
    if isinstance(value, Mapping):
        return f"{value['mean']:.1%} ±{max(value['high'] - value['mean'], value['mean'] - value['low']):.1%}"
    return accuracy(value)


def plain(value: object) -> str:
    """A metric's value, as the tables write numbers."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else escape(str(value))
