"""What was heard, and what follows from it."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence

from rich.markup import escape

from edgeq.show import cells
from edgeq.show.cells import Value

_LABELS = 10


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
    counts, intervals, rule = result["counts"], result["intervals"], result["rule"]
    table = cells.table(">on", ">off", ">false alarms an hour", ">missed", "")
    rows = {one["on"]: one for one in (*result["curve"][9::10], counts)}
    for on, one in sorted(rows.items()):
        style, chosen = ("bold", "<- chosen") if on == counts["on"] else ("dim", "")
        alarms, missed = one["false_alarms"] / counts["hours"], one["missed"] / counts["events"]
        table.add_row(f"{on:.2f}", f"{one['off']:.2f}", f"{alarms:.2f}", f"{missed:.1%}", chosen, style=style)
    console.print(table)
    alarms, missed = intervals["false_alarms_per_hour"], intervals["missed"]
    console.print(
        f"{counts['false_alarms']} false alarms in {cells.hours(counts['hours'])} "
        f"(95 %: {alarms['low']:.2f} to {alarms['high']:.2f} an hour); "
        f"{counts['missed']} of {counts['events']} events missed (95 %: {missed['low']:.1%} to {missed['high']:.1%})",
        soft_wrap=True,
    )
    console.print("[dim]on the very recordings that they were fitted to: expect somewhat worse on others[/]")
    wrong = [one for one in result["labels"] if one["missed"] or one["false_alarms"]]
    if wrong:
        table = cells.table("label", ">missed", ">of", ">false alarms")
        for one in sorted(wrong, key=lambda one: -one["missed"] - one["false_alarms"])[:_LABELS]:
            table.add_row(
                escape(one["label"]), *(cells.count(one[key]) for key in ("missed", "events", "false_alarms"))
            )
        console.print(table)
        if len(wrong) > _LABELS:
            console.print(f"[dim]and {len(wrong) - _LABELS} more, with fewer[/]")
    windows = ", ".join(f"{name} {rule[name]}" for name in ("smoothing", "patience", "cooldown"))
    console.print(f"rule: on {rule['on']:.2f}, off {rule['off']:.2f}, {windows}")
    for line in result["warnings"]:
        console.print(f"[yellow]{escape(line)}[/]", soft_wrap=True)
    place = shlex.quote(result["bundle"])
    console.print(f"[green]wrote[/] {escape(result['bundle'])}; next: edgeq live {escape(place)}", soft_wrap=True)


def mined(result: Value) -> None:
    """How many hits there are of each kind and label, and where they are."""
    console = cells.console()
    kinds = Counter((hit["kind"], hit["label"]) for hit in result["hits"])
    told = any(hit["kind"] == "false alarm" for hit in result["hits"])
    if kinds:
        table = cells.table("kind", "label", ">hits", *(["heard in"] if told else []))
        for (kind, label), count in sorted(kinds.items(), key=lambda one: (one[0][0], -one[1], one[0][1])):
            sources = Counter(hit["expected"] for hit in result["hits"] if (hit["kind"], hit["label"]) == (kind, label))
            where = ", ".join(f"{name} {times}" for name, times in sources.most_common(3))
            where += ", ..." if len(sources) > 3 else ""
            table.add_row(kind, escape(label), cells.count(count), *([escape(where)] if kind == "false alarm" else []))
        console.print(table)
    lasted = cells.hours(result["seconds"] / 3600)
    hits = cells.count(len(result["hits"]))
    an_hour = 3600 * len(result["hits"]) / result["seconds"] if result["seconds"] else 0.0
    console.print(f"{hits} hits in {result['recordings']:,} recordings, {lasted}: {an_hour:.1f} an hour")
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
