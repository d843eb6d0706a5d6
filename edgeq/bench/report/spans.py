"""Figures as places on axes: latency, and accuracy against costs with its fronts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from edgeq.bench.report import cells
from edgeq.bench.report.cells import Cell, Form, Number, Text, is_number, written
from edgeq.bench.report.entries import Entry, once
from edgeq.bench.report.tables import SUMMARY

_COSTS = {"macs": "MACs", "latency_ms": "latency, ms", "energy_mj": "energy, mJ", "flash_bytes": "flash"}

_AGAINST_BATCH = {
    "windows_per_second": ("windows a second", cells.count),
    "latency_ms": ("latency of a call, ms", cells.three),
}

MOST_LINES = 8
"""That a chart tells apart, by colour and shape."""

_ANYWHERE = "macs"
"""The cost that is the same in every place."""


@dataclass(frozen=True)
class Span:
    """A result on the axis of a cost: a band from end to end, percentiles from the median to the last.

    at: where it is judged, at the median or a band's upper end.
    """

    entry: Entry
    cell: Cell
    low: float
    at: float
    high: float


@dataclass(frozen=True)
class Point:
    """A result in a chart. place: empty where the cost is the same in all. accuracy: low, mean and high; text: written.

    front: no other of its place is as good in one and better in the other.
    """

    span: Span
    place: str
    accuracy: tuple[float, float, float]
    text: Text
    front: bool = False


@dataclass(frozen=True)
class Chart:
    """Accuracy against one cost. form: how the cost is written."""

    title: str
    form: Form
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Sweep:
    """A figure against the batch: a line a model and place, of (batch, what was found there). form: of its axis."""

    title: str
    form: Form
    lines: tuple[tuple[str, tuple[tuple[int, Span], ...]], ...]


def sweeps(entries: Sequence[Entry]) -> Iterator[tuple[str, tuple[Sweep, ...]]]:
    """Throughput and latency against the batch; entries: of what ran with several.

    Under no title as long as one chart can tell all lines apart, else under the name of each model.
    """
    models = once(entry.model for entry in entries)
    if len({(entry.model, entry.where) for entry in entries}) <= MOST_LINES:
        groups = {"": entries}
    else:
        groups = {model: [entry for entry in entries if entry.model == model] for model in models}
    for title, group in groups.items():
        if group:
            yield title, tuple(_sweeps(group))


def _sweeps(entries: Sequence[Entry]) -> Iterator[Sweep]:
    models, places = once(entry.model for entry in entries), once(entry.where for entry in entries)
    for name, (title, form) in _AGAINST_BATCH.items():
        lines: dict[str, dict[int, Span]] = {}
        for entry in entries:
            if span := _span(entry, name, cells.three):
                said = ([entry.model] if len(models) > 1 else []) + ([entry.where] if len(places) > 1 else [])
                line = lines.setdefault(" · ".join(said) or entry.model, {})
                line.setdefault(entry.result.get("batch", 1), span)
        if lines:
            yield Sweep(title, form, tuple((name, tuple(sorted(line.items()))) for name, line in lines.items()))


def latency(entries: Iterable[Entry]) -> tuple[tuple[str, tuple[Span, ...]], ...]:
    """What is known of latency, place by place."""
    places: dict[str, list[Span]] = {}
    for entry in entries:
        if span := _span(entry, "latency_ms", cells.three):
            places.setdefault(entry.place, []).append(span)
    return tuple((place, tuple(spans)) for place, spans in places.items())


def charts(entries: Sequence[Entry]) -> Iterator[Chart]:
    """Accuracy against each cost that is known of at least two models."""
    for name, title in _COSTS.items():
        form = SUMMARY[name][1]
        found: dict[tuple[str, str], Point] = {}
        for entry in entries:
            scores, span = cells.figure(entry.result, "accuracy.accuracy")[0] or {}, _span(entry, name, form)
            if span and is_number(mean := scores.get("mean")):
                low, high = (scores[end] if is_number(scores.get(end)) else mean for end in ("low", "high"))
                place = "" if name == _ANYWHERE else entry.place
                point = Point(span, place, (low, mean, high), written(mean, cells.percent)[0])
                found.setdefault((entry.model, place), point)
        if len({model for model, _ in found}) > 1:
            points = tuple(found.values())
            yield Chart(title, form, tuple(replace(point, front=_on_front(point, points)) for point in points))


def _span(entry: Entry, name: str, form: Form) -> Span | None:
    """None where there is no such figure, or no place for it on a logarithmic axis."""
    value, how = cells.figure(entry.result, name)
    text, small = written(value, form)
    ends = [part.value for part in text if isinstance(part, Number)]
    if not ends or min(ends) <= 0:
        return None
    around = [part.value for part in small if isinstance(part, Number)]
    return Span(entry, Cell(text, (), how.get("kind")), min(ends + around), ends[-1], max(ends + around))


def _on_front(point: Point, points: Iterable[Point]) -> bool:
    """Whether no other point of its place costs as little and is as accurate, and is better in one of them."""
    cost, accuracy = point.span.at, point.accuracy[1]
    return not any(
        other.span.at <= cost
        and other.accuracy[1] >= accuracy
        and (other.span.at, other.accuracy[1]) != (cost, accuracy)
        for other in points
        if other.place == point.place
    )
