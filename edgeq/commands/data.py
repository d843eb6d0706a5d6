"""Corpora on disk."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from edgeq.commands import json_option, present
from edgeq.errors import CheckFailed


@click.group("data", short_help="Check a corpus.")
def data_commands() -> None:
    """Work on a folder of recordings."""


@data_commands.command("check", short_help="Hold a copy of a corpus against what it is published as.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--layout", metavar="NAME", help="Of the corpus, where DIR does not tell: esc10, or another in the README."
)
@click.option("--headers", is_flag=True, help="Read headers alone: quick, blind to damage behind them and equal files.")
@json_option
def check_command(folder: Path, layout: str | None, headers: bool, as_json: bool) -> None:
    """Say what is in the corpus in DIR, what is missing, damaged, of wrong length or there twice, and its licence.

    Leaves with 1 where the copy is damaged.
    """
    from edgeq.corpora import check

    report = check.check(folder, layout, headers)
    present(report.to_json(), "checked", as_json)
    if damage := report.damage:
        kinds = Counter(fault.kind for fault in damage)
        told = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
        raise CheckFailed(f"{folder}: {told}; the first: {damage[0].what}")
