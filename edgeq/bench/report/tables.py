"""Tables of figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeq.bench.report import cells
from edgeq.bench.report.cells import Cell, Form, Number, Sources, is_number, written
from edgeq.bench.report.entries import QUALIFIERS, Entry, once

Columns = Mapping[str, tuple[str, Form]]
"""Figures by their names, as `cells.figure` takes them: a title, and how they are written."""

SUMMARY: Columns = {
    "accuracy.accuracy": ("Accuracy", cells.percent),
    "accuracy.mean_average_precision": ("Average precision", cells.percent),
    "parity": ("As float32", cells.percent),
    "latency_ms": ("Latency, ms", cells.three),
    "real_time_factor": ("Real time", cells.times),
    "energy_mj": ("Energy, mJ", cells.three),
    "macs": ("MACs", cells.count),
    "flash_bytes": ("Flash", cells.size),
    "ram_bytes": ("RAM", cells.size),
    "memory_bytes": ("Memory", cells.size),
}
MORE: Columns = {
    "file_bytes": ("File", cells.size),
    "frontend.latency_ms": ("Front end, ms", cells.three),
    "frontend.instructions": ("Front-end instructions", cells.count),
    "frontend.cycles": ("Front-end cycles", cells.count),
    "frontend.flash_bytes": ("Front-end flash", cells.size),
    "frontend.ram_bytes": ("Front-end RAM", cells.size),
    "windows_per_second": ("Windows a second", cells.three),
    "latency_ms.mean": ("Mean latency, ms", cells.three),
    "latency_ms.runs": ("Runs", cells.count),
    "load_ms": ("Load, ms", cells.three),
    "co2_g": ("CO₂", cells.grams),
    "instructions": ("Instructions", cells.count),
    "cycles": ("Cycles", cells.count),
    "cycles_per_mac": ("Cycles/MAC", cells.three),
}
AGAINST_BATCH: Columns = {
    name: {**SUMMARY, **MORE}[name]
    for name in ("windows_per_second", "latency_ms", "energy_mj", "co2_g", "memory_bytes", "load_ms")
}
_MEANINGS = {
    "latency_ms": "of one call with a window, or a batch where it says so, without the front end; small: percentiles",
    "accuracy.mean_average_precision": "mean over the classes, where a recording may have several",
    "parity": "windows whose class is that of float32, and how far probabilities are off at most",
    "windows_per_second": "a batch over the median call, without the front end",
    "real_time_factor": "from one window to the next, over what front end and network take; above one it keeps up",
    "energy_mj": "of one window, without the front end",
    "macs": "multiplications, each with its addition, of one window",
    "flash_bytes": "the program with its weights",
    "ram_bytes": "the arena and the stack",
    "file_bytes": "what the runtime loads",
    "memory_bytes": "most that the process held up to its first answer, less what it held before the model",
    "frontend.latency_ms": "from sound to the network's input, from one window to the next; on top of the network",
    "latency_ms.runs": "timed calls",
    "load_ms": "from the file to ready to run",
    "co2_g": "of one window's energy",
    "cycles": "of the core, with memory that never waits",
}
"""What a column says beyond its name."""


@dataclass(frozen=True)
class Row:
    """A line of a table: its head, what stands small beneath it, and its cells."""

    head: str
    small: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """Rows under columns, in groups that have a title where there are several things to tell apart.

    meanings: columns and what they say beyond their names.
    """

    head: str
    columns: tuple[str, ...]
    groups: tuple[tuple[str, tuple[Row, ...]], ...]
    meanings: tuple[tuple[str, str], ...] = ()


def figures(entries: Sequence[Entry], columns: Columns, sources: Sources) -> Table:
    """A row a result, with the columns that are not empty."""
    found = {
        name: [cells.cell(entry.result, name, form, sources) for entry in entries]
        for name, (_, form) in columns.items()
    }
    filled = {name: column for name, column in found.items() if any(cell.text for cell in column)}
    models, places = once(entry.model for entry in entries), once(entry.place for entry in entries)
    by_place = len(places) > 1 or len(models) == 1
    groups: dict[str, list[Row]] = {}
    for index, entry in enumerate(entries):
        row = Row(
            entry.place if by_place else entry.model,
            _how(entry) if columns is SUMMARY else "",
            tuple(column[index] for column in filled.values()),
        )
        groups.setdefault(entry.model if by_place and len(models) > 1 else "", []).append(row)
    meanings = tuple((columns[name][0].split(",")[0], _MEANINGS[name]) for name in filled if name in _MEANINGS)
    titles = tuple(columns[name][0] for name in filled)
    return Table("Target" if by_place else "Model", titles, grouped(groups), meanings)


def grouped(groups: Mapping[str, Sequence[Row]]) -> tuple[tuple[str, tuple[Row, ...]], ...]:
    """Rows by their titles, as a table has them."""
    return tuple((title, tuple(rows)) for title, rows in groups.items())


def _how(entry: Entry) -> str:
    """Runtime, stage, precision, threads, batch and graphs, as far as names do not say them."""
    told = [QUALIFIERS["runtime"].format(entry.result.get("runtime") or ""), str(entry.result.get("stage") or "")]
    if entry.model == entry.name and entry.result.get("precision") not in (None, "float32", "int8"):
        told.append(str(entry.result["precision"]))
    told += [
        QUALIFIERS[key].format(entry.result[key])
        for key in ("threads", "batch", "cuda_graphs")
        if entry.result.get(key) not in (None, 1) or entry.result.get(key) is True
    ]
    return ", ".join(one for one in once(told) if one and one not in entry.place.split(" · "))


def comparisons(entries: Iterable[Entry], sources: Sources) -> Table | None:
    """What was timed in turns with another model."""
    rows = []
    for entry in entries:
        if found := entry.result.get("comparison"):
            ratio = cells.cell(entry.result, "comparison", cells.times, sources)
            pairs = Cell(written(found.get("pairs"), cells.count)[0], (str(found.get("method", "")),))
            rows.append(Row(entry.model, entry.place, (Cell((str(found.get("other", "")),)), ratio, pairs)))
    columns = "Compared with", "Takes so many times as long", "Pairs"
    return Table("Model", columns, grouped({"": rows})) if rows else None


def layers(entries: Iterable[Entry]) -> Iterator[tuple[str, Table]]:
    """A table for each model, or for each list of layers where it has several."""
    by_layers: dict[str, dict[tuple[tuple[str, str], ...], list[Entry]]] = {}
    for entry in entries:
        if listed := entry.result.get("layers"):
            named = tuple((str(layer.get("name", "")), str(layer.get("op", ""))) for layer in listed)
            by_layers.setdefault(entry.name, {}).setdefault(named, []).append(entry)
    for model, lists in by_layers.items():
        for named, alike in lists.items():
            columns = dict(_layer_columns(alike))
            rows = tuple(
                Row(name, op, tuple(column[index] for column in columns.values()))
                for index, (name, op) in enumerate(named)
            )
            where = f" on {', '.join(once(entry.place for entry in alike))}" if len(lists) > 1 else ""
            yield model + where, Table("Layer", tuple(columns), (("", rows),))


def _layer_columns(entries: Sequence[Entry]) -> Iterator[tuple[str, list[Cell]]]:
    """MACs, then instructions and cycles, once for all places that have the same."""
    for key, title in (("macs", "MACs"), ("instructions", "Instructions"), ("cycles", "Cycles")):
        places: dict[tuple[Any, ...], list[Entry]] = {}
        for entry in entries:
            values = tuple(layer.get(key) for layer in entry.result["layers"])
            if any(map(is_number, values)):
                places.setdefault(values, []).append(entry)
        for values, alike in places.items():
            kind = cells.figure(alike[0].result, "macs" if key == "macs" else "layers")[1].get("kind")
            most = max(filter(is_number, values)) or 1
            where = once(entry.place for entry in alike) if key != "macs" or len(places) > 1 else ()
            yield (
                ", ".join(filter(None, (title, kind, *where))),
                [
                    Cell((Number(value, cells.count(value)),), bar=value / most) if is_number(value) else Cell()
                    for value in values
                ],
            )


def gate(verify: Mapping[str, Any]) -> Table:
    """The stages of a verification, and whether they hold."""
    columns: Columns = {
        "top1_agreement": ("Agreement", cells.percent),
        "max_abs_error": ("Largest error", cells.error),
        "sqnr_db": ("SQNR, dB", cells.decibels),
        "accuracy": ("Accuracy", cells.percent),
    }
    stages = verify.get("stages") or ()
    used = [name for name in columns if any(stage.get(name) is not None for stage in stages)]
    rows = []
    for stage in stages:
        failures, passed = stage.get("failures") or (), bool(stage.get("passed"))
        verdict = Cell(
            ("passed" if passed else "FAILED",), ("; ".join(map(str, failures)),) * bool(failures), good=passed
        )
        row = [Cell(*written(stage.get(name), columns[name][1])) for name in used]
        inputs = "clips" if stage.get("inputs") == "data" else str(stage.get("inputs") or "inputs")
        compared = f"{stage['clips']} {inputs}" if stage.get("clips") is not None else ""
        how = ", ".join(filter(None, (str(stage.get("runtime") or ""), compared)))
        rows.append(Row(str(stage.get("name", "")), how, (*row, verdict)))
    return Table("Stage", (*(columns[name][0] for name in used), "Verdict"), grouped({"": rows}))


def modelled(entries: Sequence[Entry], sources: Sources) -> Table:
    """For each figure, how it was come by in each place."""
    places = once(entry.place for entry in entries)
    rows = []
    for name, (title, form) in {**SUMMARY, **MORE}.items():
        found: dict[str, list[Cell]] = {place: [] for place in places}
        for entry in entries:
            if (cell := cells.cell(entry.result, name, form, sources)).text:
                found[entry.place].append(cell)
        row = tuple(map(_come_by, found.values()))
        if not name.startswith("latency_ms.") and any(cell.text for cell in row):
            rows.append(Row(title.split(",")[0], "", row))
    return Table("Figure", places, grouped({"": rows}))


def _come_by(figures: Sequence[Cell]) -> Cell:
    """The kinds and sources of figures of one name in one place."""
    kinds = once(cell.kind or "not said" for cell in figures)
    notes = tuple(sorted({note for cell in figures for note in cell.notes}))
    return Cell((", ".join(kinds),) if kinds else (), (), kinds[0] if len(kinds) == 1 else None, notes)
