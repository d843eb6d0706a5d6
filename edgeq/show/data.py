"""What is in a copy of a corpus, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from edgeq.show import cells
from edgeq.show.cells import Value

_CLASSES = 40
_FOLDS = 10
_FAULTS = 10


def checked(result: Value) -> None:
    """Clips by class and fold or split, what the recordings are, faults, duplicates, licence and citation."""
    console = cells.console()
    _classes(console, result)
    clips, seconds = result["clips"], result.get("seconds")
    lasted = f", {cells.hours(result['hours'])}" if seconds else ""
    console.print(f"{clips:,} clips of {len(result['labels'])} classes{lasted}; layout {escape(result['layout'])}")
    if seconds:
        console.print("a clip lasts {least:.2f} to {most:.2f} s, {median:.2f} s in the middle".format(**seconds))
    for key, unit in (("sample_rates", " Hz"), ("channels", ""), ("devices", ""), ("cities", "")):
        if counts := result[key]:
            console.print(f"{key.replace('_', ' ')}: {_counts(counts, unit)}", soft_wrap=True)
    if result["groups"]:
        console.print(f"groups that belong together: {result['groups']:,}")
    for note in result["notes"]:
        console.print(f"[yellow]{escape(note)}[/]", soft_wrap=True)
    _faults(console, result)
    if len(result["licences"]) > 1:
        console.print(f"[dim]clips under:[/] {_counts(result['licences'])}", soft_wrap=True)
    _rights(console, result)


def checked_shards(result: Value) -> None:
    """What a packed corpus holds, and which of its files are at fault."""
    console = cells.console()
    console.print(
        f"{escape(result['corpus'])}: {result['clips']:,} clips, {cells.hours(result['hours'])}, "
        f"{result['bytes'] / 1e9:.3f} GB in {result['shards']:,} shards"
    )
    if result["left_out"]:
        console.print(f"[yellow]left out when it was packed:[/] {result['left_out']:,}; see damaged in index.json")
    _faults(console, result)
    _rights(console, result)


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


def _faults(console: Console, result: Value) -> None:
    known = [fault["what"] for fault in result["faults"] if fault["tolerated"]]
    faults = [fault["what"] for fault in result["faults"] if not fault["tolerated"]]
    missing = "yellow" if result["ok"] else "red"
    told = (
        ("missing", missing, result["missing"]),
        ("at fault", "red", faults),
        ("known fault", "yellow", known),
        ("equal", "yellow", [_listed(same) for same in result.get("duplicates", ())]),
    )
    for what, colour, lines in told:
        for line in lines[:_FAULTS]:
            console.print(f"[{colour}]{what}[/] {escape(line)}", soft_wrap=True)
        if len(lines) > _FAULTS:
            console.print(f"[{colour}]{what}[/] {len(lines) - _FAULTS:,} more; --json lists all")


def _rights(console: Console, result: Value) -> None:
    """Licence and citation, and whether all is well."""
    if result["licence"]:
        console.print(f"[dim]licence:[/] {escape(result['licence'])}", soft_wrap=True)
    if result["citation"]:
        console.print(f"[dim]cite:[/] {escape(result['citation'])}", soft_wrap=True)
    if result["ok"]:
        console.print("[green]sound[/]")


def _counts(counts: Value, unit: str = "") -> str:
    return ", ".join(f"{escape(str(name))}{unit} ({count:,})" for name, count in counts.items())


def _listed(files: Sequence[str]) -> str:
    return ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
