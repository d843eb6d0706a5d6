"""What was heard, and what follows from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.markup import escape

from edgeq.show import cells
from edgeq.show.cells import Value


def classified(results: Sequence[Value]) -> None:
    """One block a recording: its labels with a bar each."""
    console = cells.console()
    block = "█" if console.encoding.startswith("utf") else "#"
    for result in results:
        silent = "  [yellow]silence: nothing in it is above the gate[/]" if result["silent"] else ""
        console.print(f"[bold]{escape(result['file'])}[/]  {result['seconds']:.1f} s{silent}", soft_wrap=True)
        for entry in result["top"]:
            bar = block * round(20 * entry["score"])
            console.print(f"  {entry['score']:6.1%}  {bar:<20}  {escape(entry['label'])}")


def tuned(result: Value) -> None:
    """What the thresholds give, what stands behind that, and what others would have given."""
    console = cells.console()
    counts, intervals = result["counts"], result["intervals"]
    table = cells.table(">on", ">off", ">false alarms an hour", ">missed")
    for one in (*result["curve"][9::10], counts):
        style = "bold" if one is counts else "dim"
        alarms, missed = one["false_alarms"] / counts["hours"], one["missed"] / counts["events"]
        table.add_row(f"{one['on']:.2f}", f"{one['off']:.2f}", f"{alarms:.2f}", f"{missed:.1%}", style=style)
    console.print(table)
    alarms, missed = intervals["false_alarms_per_hour"], intervals["missed"]
    console.print(
        f"{counts['false_alarms']} false alarms in {cells.hours(counts['hours'])} "
        f"(95 %: {alarms['low']:.2f} to {alarms['high']:.2f} an hour); "
        f"{counts['missed']} of {counts['events']} events missed (95 %: {missed['low']:.1%} to {missed['high']:.1%})",
        soft_wrap=True,
    )
    console.print("[dim]on the very recordings that they were fitted to: expect somewhat worse on others[/]")
    for line in result["warnings"]:
        console.print(f"[yellow]{escape(line)}[/]", soft_wrap=True)
    console.print(f"[green]wrote[/] {escape(result['bundle'])}", soft_wrap=True)


def mined(result: Value) -> None:
    """How many hits there are of each kind and label, and where they are."""
    console = cells.console()
    kinds = Counter((hit["kind"], hit["label"]) for hit in result["hits"])
    if kinds:
        table = cells.table("kind", "label", ">hits")
        for (kind, label), count in sorted(kinds.items()):
            table.add_row(kind, escape(label), cells.count(count))
        console.print(table)
    lasted = cells.hours(result["seconds"] / 3600)
    console.print(f"{len(result['hits'])} hits in {result['recordings']} recordings, {lasted}")
    for line in result["warnings"]:
        console.print(f"[yellow]{escape(line)}[/]", soft_wrap=True)
    console.print(f"[green]kept in[/] {escape(result['folder'])}", soft_wrap=True)


def devices(rows: Sequence[Value]) -> None:
    """The microphones, by the number that chooses one."""
    table = cells.table(">--device", "name", ">channels", ">rate")
    for row in rows:
        default = "  [dim](default)[/]" if row["default"] else ""
        table.add_row(str(row["number"]), escape(row["name"]) + default, str(row["channels"]), f"{row['rate']:,} Hz")
    console = cells.console()
    console.print(table if rows else "no microphone")
