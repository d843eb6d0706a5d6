"""A report as Markdown with GitHub's tables and footnotes: matrices and charts as what one reads off them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from edgeq.bench.report.cells import Cell, plain
from edgeq.bench.report.page import KINDS, Page
from edgeq.bench.report.tables import Table

MARKS = {"measured": "●", "simulated": "◐", "estimated": "○", "counted": "■"}


def render(page: Page) -> str:
    """The page's text."""
    return "\n\n".join(_paragraphs(page)) + "\n"


def _paragraphs(page: Page) -> Iterator[str]:
    yield f"# {_safe(page.title)}"
    if page.subtitle:
        yield _safe(page.subtitle)
    yield _items(f"{MARKS[kind]} {kind}: {meaning}" for kind, meaning in KINDS.items())
    if page.warnings:
        yield "**Warnings**"
        yield _items(f"**{_safe(warning)}** ({_safe(where)})" for where, warning in page.warnings)
    yield "## Summary"
    yield _table(page.summary)
    yield _meanings(page.summary)
    if page.batches:
        yield "## Against the batch"
        yield "Other sections show the smallest batch."
        yield _table(page.batches)
    if page.charts:
        yield "## Accuracy against cost"
        yield "On the front: no other model in the same place is as good in one and better in the other."
        yield _items(_fronts(page))
    if page.comparisons or page.more.columns:
        yield "## More figures"
        if page.comparisons:
            yield _table(page.comparisons)
        if page.more.columns:
            yield _table(page.more)
            yield _meanings(page.more)
    if page.scores:
        yield "## Accuracy"
        intervals = f" Intervals: {_safe('; '.join(page.intervals))}." if page.intervals else ""
        yield f"All stages of a model on the same clips.{intervals}"
        yield _table(page.scores)
        for one in page.confusions:
            worst = "; ".join(f"{_safe(label)} → {_safe(answer)} {count}" for label, answer, count in one.worst)
            yield f"{_safe(one.model)}, confused most often: {worst or 'nothing'}"
    if page.layers:
        yield "## Layer by layer"
        for name, table in page.layers:
            yield f"### {_safe(name)}"
            yield _table(table)
    if page.verify is not None and page.gate is not None:
        yield "## Verified: is what was trained what runs?"
        yield f"**{'passed' if page.verify.get('passed') else 'FAILED'}**: {_safe(str(page.verify.get('name', '')))}"
        yield _table(page.gate)
        if notes := page.verify.get("notes"):
            yield _items(_safe(str(note)) for note in notes)
    yield "## What was measured and what was modelled"
    yield _table(page.modelled)
    if page.missing:
        yield f"Not in these results: {', '.join(page.missing)}."
    for target, said in page.machines:
        yield f"### {_safe(target)}"
        yield _items(f"{_safe(name)}: {_safe(plain(text))}" for name, text in said)
    if page.sources:
        yield "\n".join(f"[^{number}]: {_safe(source)}" for number, source in enumerate(page.sources, 1))


def _table(table: Table) -> str:
    grouped = any(title for title, _ in table.groups)
    head = (*(("Model",) if grouped else ()), table.head, *table.columns)
    lines = [
        _line([_safe(name) for name in head]),
        _line(["---"] * (len(head) - len(table.columns)) + ["---:"] * len(table.columns)),
    ]
    for title, rows in table.groups:
        for row in rows:
            small = f" ({_safe(row.small)})" if row.small else ""
            front = [_safe(title)] * grouped
            lines.append(_line([*front, _safe(row.head) + small, *map(_cell, row.cells)]))
    return "\n".join(lines)


def _meanings(table: Table) -> str:
    return _items(f"{name}: {meaning}" for name, meaning in table.meanings)


def _cell(cell: Cell) -> str:
    if not cell.text:
        return "–"
    small = f" ({_safe(plain(cell.small))})" if cell.small else ""
    mark = f" {MARKS[cell.kind]}" if cell.kind in MARKS else ""
    return _safe(plain(cell.text)) + small + mark + "".join(f"[^{number}]" for number in cell.notes)


def _fronts(page: Page) -> Iterator[str]:
    for chart in page.charts:
        for place in dict.fromkeys(point.place for point in chart.points):
            best = sorted((p for p in chart.points if p.front and p.place == place), key=lambda point: point.span.at)
            where = f" on {_safe(place)}" if place else ""
            named = (
                f"{_safe(p.span.entry.model)} ({_safe(plain(p.text))}, {_safe(plain(p.span.cell.text))})" for p in best
            )
            yield f"{chart.title}{where}: {', '.join(named)}"


def _items(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _safe(text: str) -> str:
    """Text that Markdown takes for nothing else, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", " ".join(text.split()))
