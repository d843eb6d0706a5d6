"""How well models did: a table of scores, and confusion matrices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edgeq.bench.report import cells
from edgeq.bench.report.cells import Cell, written
from edgeq.bench.report.entries import Entry, precision_of
from edgeq.bench.report.tables import Columns, Row, Table, grouped

_SCORES: Columns = {
    "accuracy": ("Accuracy", cells.percent),
    "mean_average_precision": ("Mean average precision", cells.percent),
    "log_loss": ("Log loss", cells.three),
    "expected_calibration_error": ("Calibration error", cells.percent),
    "calibration_bins": ("in bins", cells.count),
    "clips": ("Clips", cells.count),
    "skipped": ("Left out", cells.count),
}

_WHERE = "stage", "runtime"

_CONFUSIONS = 5
"""Confusions that are listed for a matrix, the most frequent first."""


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix: clips, a row a label, a column an answer. worst: label, answer, and how often, falling."""

    model: str
    form: str
    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    accuracy: Cell
    worst: tuple[tuple[str, str, int], ...]


def table(entries: Iterable[Entry]) -> Table | None:
    """What each model scored in each precision; None where none was scored."""
    found = list(scored(entries))
    groups: dict[str, list[Row]] = {}
    columns = [
        name
        for name in _SCORES
        if any(name in scores or name in scores.get("accuracy", {}) for *_, scores in found)
        and (name != "skipped" or any(scores.get(name) for *_, scores in found))
    ]
    one = len({model for model, *_ in found}) == 1
    for model, precision, forms, scores in found:
        row = []
        for name in columns:
            text, small = written(scores.get(name, scores.get("accuracy", {}).get(name)), _SCORES[name][1])
            row.append(Cell(text, small, scores.get("kind") if text else None))
        groups.setdefault("" if one else model, []).append(Row(precision or model, forms, tuple(row)))
    return Table("Precision", tuple(_SCORES[name][0] for name in columns), grouped(groups)) if found else None


def confusions(entries: Iterable[Entry]) -> Iterator[Confusion]:
    """The matrix of each line of the table; where several of a model's are equal, one for all of them."""
    found: dict[tuple[str, tuple[str, ...], tuple[tuple[int, ...], ...]], list[tuple[str, Cell]]] = {}
    for model, precision, forms, scores in scored(entries):
        counts = tuple(map(tuple, scores.get("confusion") or ()))
        labels = tuple(map(str, scores.get("labels") or range(len(counts))))
        accuracy = Cell(written(scores.get("accuracy"), cells.percent)[0], (), scores.get("kind"))
        if counts:
            found.setdefault((f"{model} {precision}".strip(), labels, counts), []).append((forms, accuracy))
    for (model, labels, counts), alike in found.items():
        pairs = [
            (labels[row], labels[column], count)
            for row, line in enumerate(counts)
            for column, count in enumerate(line)
            if row != column and count
        ]
        worst = tuple(sorted(pairs, key=lambda pair: -pair[2])[:_CONFUSIONS])
        yield Confusion(model, ", ".join(forms for forms, _ in alike), labels, counts, alike[0][1], worst)


def scored(entries: Iterable[Entry]) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
    """Model, precision, stages with the runtimes that scored them, and scores: float first, the same ones once."""
    found: dict[str, list[tuple[str, list[str], Mapping[str, Any]]]] = {}
    for entry in entries:
        scores = entry.result.get("accuracy")
        if not isinstance(scores, Mapping):
            continue
        form = " in ".join(str(scores[key]) for key in ("stage", "runtime") if key in scores)
        what = precision_of(entry.result), {key: value for key, value in scores.items() if key not in _WHERE}
        known = found.setdefault(entry.name, [])
        same = next((forms for precision, forms, others in known if (precision, others) == what), None)
        if same is None:
            known.append((what[0], [form], what[1]))
        elif form not in same:
            same.append(form)
    for model, several in found.items():
        for precision, forms, scores in sorted(several, key=lambda one: one[0] == "INT8"):
            yield model, precision, ", ".join(forms), scores
