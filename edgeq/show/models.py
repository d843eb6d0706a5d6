"""What there is to run, what it costs layer by layer, and what works here."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from edgeq.show import cells
from edgeq.show.cells import Value


def models(rows: Sequence[Value]) -> None:
    """The zoo with its accuracies, then the architectures."""
    table = cells.table("model", ">stored", ">lowered", ">MACs", ">INT8 file", "accuracy")
    for kind, heading in (("zoo", "zoo"), ("architecture", "architectures")):
        table.add_row(f"[bold]{heading}[/]")
        for row in (row for row in rows if row["kind"] == kind):
            counts = (cells.short(row[key]) for key in ("stored", "lowered", "macs"))
            table.add_row(
                f"  {row['name']}", *counts, cells.kilobytes(row.get("int8_bytes")), cells.spread(row.get("accuracy"))
            )
        table.add_section()
    console = cells.console()
    console.print(table)
    console.print("[dim]stored: each quaternion component once; lowered: as real convolutions[/]")
    console.print("[dim]MACs: of one inference; accuracy: cross-validated, INT8, 95 % over clips[/]")
    console.print("[dim]qcnn14-p50 and its like: half of the filters pruned, in the layers that the paper names[/]")


def inspection(report: Value) -> None:
    """The per-layer table, the totals and the budget."""
    table = cells.table("layer", "op", "output", ">parameters", ">MACs", title=escape(report["name"]))
    for layer in report["layers"]:
        shape = "x".join(str(size) for size in layer["output_shape"])  # without spaces: 80 columns are just enough
        table.add_row(
            escape(layer["name"]), layer["op"], shape, cells.count(layer["parameters"]), cells.count(layer["macs"])
        )
    console = cells.console()
    console.print(table)
    totals = [(f"parameters, {key.replace('_', ' ')}", value) for key, value in report["parameters"].items()]
    totals.append(("MACs of one inference", report["macs"]["network"]))
    totals.append(("MACs a second of audio", report.get("macs_per_second")))
    totals.append(("MACs of the front end, estimated", report["macs"].get("frontend")))
    sums = Table.grid(padding=(0, 2))
    sums.add_column()
    sums.add_column(justify="right")
    for name, value in totals:
        if value is not None:
            sums.add_row(name, f"[bold]{value:,}[/]")
    console.print(sums)
    if budget := report.get("budget"):
        verdict = "[green]kept[/]" if budget["ok"] else f"[red]exceeded[/]: {escape('; '.join(budget['reasons']))}"
        console.print(f"\nbudget {escape(budget['name'])}: {verdict}")


def checks(rows: Sequence[Value]) -> None:
    """One row a check; where something is missing, the mend below what was found."""
    table = cells.table("", "check", "found")
    for row in rows:
        mark = "[green]ok[/]" if row["ok"] else "[yellow]--[/]" if row.get("optional") else "[red]NO[/]"
        found = escape(row["detail"])
        if not row["ok"] and row["mend"] not in row["detail"]:
            found += f"\n[dim]mend:[/] {escape(row['mend'])}"
        table.add_row(mark, row["check"], found)
    cells.console().print(table)
