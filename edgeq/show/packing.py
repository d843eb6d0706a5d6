"""What a corpus was packed into."""

from __future__ import annotations

from rich.markup import escape

from edgeq.show import cells
from edgeq.show.cells import Value

_MOST = 10
"""Damaged clips that are told one by one; the index lists all."""


def packing(result: Value) -> None:
    """How much there is, what was left out and why, and where it lies."""
    console = cells.console()
    damaged = result["damaged"]
    rows = [("left out", "yellow", f"{one['file']}: {one['reason']}") for one in damaged[:_MOST]]
    if len(damaged) > _MOST:
        rows.append(("left out", "yellow", f"{len(damaged) - _MOST:,} more; {result['packed']}/index.json lists all"))
    if result["missing"]:
        rows.append(("missing", "yellow", f"{len(result['missing']):,} that the corpus's tables name"))
    kept = f", {result['kept']:,} of them there already" if result["kept"] else ""
    shards = f"{cells.size(result['bytes'])} in {cells.counted(result['shards'], 'shard')}{kept}"
    clips = f"{result['clips']:,} of {result['corpus']}, {cells.hours(result['hours'])}, {shards}"
    cells.facts(console, [*rows, ("clips", "dim", clips)])
    console.print(f"[green]wrote[/] {escape(result['packed'])}", soft_wrap=True)
    console.print(f"[dim]next:[/] edgeq train RECIPE --data {escape(result['packed'])}", soft_wrap=True)
