"""Figures as they stand in a report: rounded, with their value kept, and with how they were come by."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from edgeq.graph.sqnr import CEILING_DB

Form = Callable[[float], str]
"""How a number is written."""


@dataclass(frozen=True)
class Number:
    """A number of the input, and how it is written: rounded, with a unit where its column has none."""

    value: float
    text: str


Text = tuple[str | Number, ...]

_LIKE_THE_WHOLE = "mean", "mean_average_precision"
"""Numbers inside a figure that are come by as it is."""


@dataclass(frozen=True)
class Cell:
    """A figure, what stands small beneath it, how it was come by, and the numbers of its sources.

    bar: its part of the largest in its column. good: of a verdict, whether it is.
    """

    text: Text = ()
    small: Text = ()
    kind: str | None = None
    notes: tuple[int, ...] = ()
    bar: float | None = None
    good: bool | None = None


class Sources(dict[str, int]):
    """Sources by the number that they have in the report, in the order in which it first names them."""

    def notes(self, how: Mapping[str, Any]) -> tuple[int, ...]:
        """The number of what a figure follows from, if that is said."""
        source = how.get("source")
        return () if source is None else (self.setdefault(str(source), len(self) + 1),)


def cell(result: Mapping[str, Any], name: str, form: Form, sources: Sources) -> Cell:
    """A result's figure of that name, as `figure` takes it; empty where it has none."""
    value, how = figure(result, name)
    text, small = written(value, form)
    return Cell(text, small, how.get("kind"), sources.notes(how)) if text else Cell()


def figure(result: Mapping[str, Any], name: str) -> tuple[Any, Mapping[str, Any]]:
    """A figure of a result, None where it has none, and the mapping that says its kind and source.

    name: a key, or two with a dot for what is inside a figure, as in frontend.latency_ms.
    """
    outer, _, inner = name.partition(".")
    found = result.get(outer)
    if not isinstance(found, Mapping):
        return None if inner else found, (result.get("figures") or {}).get(outer, {})
    value = found.get(inner) if inner else found
    if isinstance(value, Mapping):
        return value, value if "kind" in value else found
    return value, found if inner in _LIKE_THE_WHOLE else (result.get("figures") or {}).get(inner, {})


def written(value: Any, form: Form) -> tuple[Text, Text]:
    """A figure in the contract's forms, and what belongs to it: its percentiles, its interval, or its error."""
    if is_number(value):
        return (Number(value, form(value)),), ()
    known = {key: one for key, one in value.items() if is_number(one)} if isinstance(value, Mapping) else {}
    around: Text = ()
    if "low" in known and "high" in known:
        low, high = form(known["low"]), form(known["high"])
        unit = f" {high.rpartition(' ')[2]}"
        around = Number(known["low"], low.removesuffix(unit)), "–", Number(known["high"], high)
    if "p50" in known:
        around = joined((f"{key} ", Number(known[key], form(known[key]))) for key in ("p95", "p99") if key in known)
    if "top1_agreement" in known and "max_abs_error" in known:
        around = "error to ", Number(known["max_abs_error"], error(known["max_abs_error"]))
    main = next((known[key] for key in ("p50", "mean", "value", "ratio", "top1_agreement") if key in known), None)
    return (around, ()) if main is None else ((Number(main, form(main)),), around)


def joined(parts: Iterable[Sequence[str | Number]]) -> Text:
    """Texts with a dot between them."""
    text: list[str | Number] = []
    for part in parts:
        text += [*([" · "] if text else []), *part]
    return tuple(text)


def plain(text: Text) -> str:
    """A text without the values behind its numbers."""
    return "".join(part.text if isinstance(part, Number) else part for part in text)


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def three(value: float) -> str:
    """Three significant digits or all whole ones, and no exponent where people read none."""
    if abs(value) >= 999.5:
        return f"{value:,.0f}" if abs(value) < 1e6 else f"{value:.3g}"
    rounded = float(f"{value:.3g}")
    if abs(rounded) < 1e-3:
        return f"{rounded:.3g}"
    return f"{rounded:.{2 - math.floor(math.log10(abs(rounded)))}f}"


def count(value: float) -> str:
    """Exact below ten thousand, else in thousands, millions or billions."""
    return f"{value:,.0f}" if abs(value) < 10_000 else _scaled(value, "", ((1e9, "G"), (1e6, "M"), (1e3, "k")))


def size(value: float) -> str:
    """Bytes."""
    return f"{value:,.0f} B" if abs(value) < 1000 else _scaled(value, "B", ((1e9, "G"), (1e6, "M"), (1e3, "k")))


def grams(value: float) -> str:
    """Grams, milligrams, and so on."""
    return _scaled(value, "g", ((1, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n")))


def percent(value: float) -> str:
    """A fraction in percent."""
    return f"{100 * value:.1f} %"


def times(value: float) -> str:
    """A factor."""
    return f"{three(value)} ×"


def decibels(value: float) -> str:
    """With one decimal, unless nothing is lost."""
    return "exact" if value >= CEILING_DB else f"{value:.1f}"


def error(value: float) -> str:
    """An error whose order of magnitude counts."""
    return f"{value:.1e}" if value else "0"


def _scaled(value: float, unit: str, scales: Sequence[tuple[float, str]]) -> str:
    """In the largest of the units, given from large to small, of which it is at least one."""
    scale, prefix = next((one for one in scales if abs(value) >= one[0]), scales[-1])
    return f"{three(value / scale)} {prefix}{unit}"
