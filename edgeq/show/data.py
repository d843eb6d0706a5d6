"""What is in a copy of a corpus, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.markup import escape

from edgeq.show import cells
from edgeq.show.cells import Value

_CLASSES = 40
_FOLDS = 10
_FAULTS = 10

Row = tuple[str, str, str]
"""As in `cells.facts`."""


def checked(result: Value) -> None:
    """Clips by class and fold or split, what the recordings are, faults, duplicates, licence and citation."""
    console = cells.console()
    _classes(console, result)
    cells.facts(console, [*_recordings(result), *_faults(result), *_rights(result)])
    if result["ok"]:
        place = escape(result["folder"])
        console.print("[green]sound[/]")
        console.print(
            f"[dim]next:[/] edgeq train RECIPE --data {place}, or edgeq data pack {place} -o PACKED", soft_wrap=True
        )


def checked_shards(result: Value) -> None:
    """What a packed corpus holds, and which of its files are at fault."""
    console = cells.console()
    shards = f"{cells.size(result['bytes'])} in {cells.counted(result['shards'], 'shard')}"
    rows = [("clips", "dim", f"{result['clips']:,} of {result['corpus']}, {cells.hours(result['hours'])}, {shards}")]
    if result["left_out"]:
        rows.append(("left out", "yellow", f"{result['left_out']:,} when it was packed; index.json says which and why"))
    cells.facts(console, [*rows, *_faults(result), *_rights(result)])
    if result["ok"]:
        console.print("[green]sound[/]")
        console.print(f"[dim]next:[/] edgeq train RECIPE --data {escape(result['folder'])}", soft_wrap=True)


def _classes(console: Console, result: Value) -> None:
    """Clips by class; of very many classes the most and the least frequent."""
    parts = "folds" if 0 < len(result["folds"]) <= _FOLDS else "splits"
    names = list(result[parts])
    table = cells.table(
        "class", ">clips", *(f">{'fold ' * (parts == 'folds' and len(names) < 6)}{name}" for name in names)
    )
    rows, middle = result["labels"], None
    if len(rows) > _CLASSES:
        rows = sorted(rows, key=lambda row: -row["clips"])
        rows, middle = [*rows[: _CLASSES // 2], *rows[-_CLASSES // 2 :]], _CLASSES // 2
    for number, row in enumerate(rows):
        if number == middle:
            table.add_row(f"[dim]and {len(result['labels']) - len(rows)} between[/]")
        counts = (cells.count(row[parts].get(name, 0)) for name in names)
        table.add_row(escape(row["label"]), cells.count(row["clips"]), *counts)
    if names:
        table.add_section()
        total = (cells.count(result[parts][name]) for name in names)
        table.add_row("[bold]clips[/]", cells.count(result["clips"]), *total)
    console.print(table)


def _recordings(result: Value) -> Iterator[Row]:
    """How much there is, what the recordings are, and what is worth knowing of them."""
    seconds = result.get("seconds")
    lasted = f", {cells.hours(result['hours'])}" if seconds else ""
    classes = cells.counted(len(result["labels"]), "class", "classes")
    yield "clips", "dim", f"{result['clips']:,} of {classes}{lasted}; layout {result['layout']}"
    if seconds:
        each = seconds["least"] == seconds["most"]
        length = "{most:.2f} s each" if each else "{least:.2f} to {most:.2f} s, {median:.2f} s in the middle"
        yield "length", "dim", length.format(**seconds)
    for name, key, unit in (
        ("rate", "sample_rates", " Hz"),
        ("channels", "channels", ""),
        ("devices", "devices", ""),
        ("cities", "cities", ""),
    ):
        if counts := result[key]:
            yield name, "dim", _counts(counts, unit)
    if result["groups"]:
        yield "groups", "dim", f"{result['groups']:,}, of clips that belong together"
    for note in result["notes"]:
        yield "note", "yellow", note


def _faults(result: Value) -> Iterator[Row]:
    """What is missing, at fault or there twice, the first of each kind one by one."""
    known = [fault["what"] for fault in result["faults"] if fault["tolerated"]]
    faults = [fault["what"] for fault in result["faults"] if not fault["tolerated"]]
    for what, style, lines in (
        ("missing", "yellow" if result["ok"] else "red", result["missing"]),
        ("at fault", "red", faults),
        ("known fault", "yellow", known),
        ("equal", "yellow", [_listed(same) for same in result.get("duplicates", ())]),
    ):
        for line in lines[:_FAULTS]:
            yield what, style, line
        if len(lines) > _FAULTS:
            yield what, style, f"{len(lines) - _FAULTS:,} more; --json lists all"


def _rights(result: Value) -> Iterator[Row]:
    if len(result.get("licences", ())) > 1:
        yield "clips under", "dim", _counts(result["licences"])
    for name, key in (("licence", "licence"), ("cite", "citation")):
        if result[key]:
            yield name, "dim", result[key]


def _counts(counts: Value, unit: str = "") -> str:
    """How many are of each; where all are of one, that one alone."""
    if len(counts) == 1:
        return f"{next(iter(counts))}{unit}"
    return ", ".join(f"{name}{unit} ({count:,})" for name, count in counts.items())


def _listed(files: Sequence[str]) -> str:
    return ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
