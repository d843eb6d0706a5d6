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
    for one in result["damaged"][:_MOST]:
        console.print(f"[yellow]left out[/] {escape(one['file'])}: {escape(one['reason'])}", soft_wrap=True)
    if (more := len(result["damaged"]) - _MOST) > 0:
        console.print(f"[yellow]left out[/] {more:,} more, see damaged in {escape(result['packed'])}/index.json")
    if result["missing"]:
        console.print(f"missing: {len(result['missing']):,} that the corpus's tables name")
    size = result["bytes"] / 1e9
    console.print(
        f"{escape(result['corpus'])}: {result['clips']:,} clips, {cells.hours(result['hours'])}, {size:.3f} GB in "
        f"{result['shards']:,} shards ({result['kept']:,} were there already)"
    )
    console.print(f"[green]wrote[/] {escape(result['packed'])}", soft_wrap=True)
    console.print(f"[dim]next:[/] edgeq train RECIPE --data {escape(result['packed'])}", soft_wrap=True)
