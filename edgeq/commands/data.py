"""Corpora on disk: checked, and packed for training."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeq.commands import json_option, present
from edgeq.errors import CheckFailed, InputError

if TYPE_CHECKING:
    from edgeq.audio.frontend import FrontendSpec

_KINDS = {
    "duplicate": "listed twice",
    "label": "under an unknown label",
    "length": "of wrong length",
    "short": "too short",
}
"""What some kinds of fault are called behind a count."""


@click.group("data", short_help="Check a corpus, or pack it into shards.")
def data_commands() -> None:
    """Work on a folder of recordings."""


class _WithLayouts(click.Command):
    """Its help ends with the layouts that are known: loaded when it is asked for."""

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        from edgeq import corpora

        with formatter.section("Layouts, and by what each is known"):
            formatter.write_dl([(one.name, one.holds) for one in corpora.LAYOUTS])


@data_commands.command("check", cls=_WithLayouts, short_help="Hold a copy of a corpus against what it is published as.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--layout", metavar="NAME", help="Of the corpus, one of those below, where DIR does not tell it, as for esc10."
)
@click.option(
    "--headers", is_flag=True, help="Read headers alone (of a packed corpus, sizes): quick, and blind to the rest."
)
@click.option("--jobs", type=click.IntRange(1, 1024), help="Processes that read.  [default: one a core]")
@json_option
def check_command(folder: Path, layout: str | None, headers: bool, jobs: int | None, as_json: bool) -> None:
    """Say what is in the corpus in DIR, what is missing, damaged, of wrong length or there twice, and its licence.

    Of a packed corpus, which shards are not what its index says. Leaves with 1 where the copy is damaged.
    """
    from edgeq.corpora import check, packed, shard_check

    report: check.Report | shard_check.ShardReport
    if packed.is_packed(folder):
        report, view = shard_check.check_shards(folder, headers), "checked_shards"
    else:
        report, view = check.check(folder, layout, headers, jobs or os.cpu_count() or 1), "checked"
    present({"folder": str(folder), **report.to_json()}, view, as_json)
    if damage := report.damage:
        kinds = Counter(_KINDS.get(fault.kind, fault.kind) for fault in damage)
        told = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
        raise CheckFailed(f"{folder}: {told}; mend them as the list says, and check again")


@data_commands.command("pack", short_help="Pack a corpus into shards for training.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder of the shards.")
@click.option("--layout", metavar="NAME", help="Of the corpus, where DIR does not tell, as in edgeq data check.")
@click.option(
    "--features",
    metavar="RECIPE|MODEL|FRONT-END",
    help="Pack log-mel as this recipe (at its speeds), model or front end computes it.  [default: recordings, as FLAC]",
)
@click.option(
    "--dtype", type=click.Choice(("float16", "int16")), default="float16", show_default=True, help="Of log-mel."
)
@click.option(
    "--shard-megabytes",
    type=click.FloatRange(min=0, min_open=True),
    default=256,
    show_default=True,
    help="Of each shard, about.",
)
@click.option("--jobs", type=click.IntRange(1, 1024), help="Processes; the shards are the same.  [default: one a core]")
@click.option(
    "--max-damaged",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="Share of clips that may be left out because they cannot be decoded.",
)
@json_option
def pack_command(
    folder: Path,
    output: Path,
    layout: str | None,
    features: str | None,
    dtype: str,
    shard_megabytes: float,
    jobs: int | None,
    max_damaged: float,
    as_json: bool,
) -> None:
    """Pack the corpus in DIR into WebDataset shards with an index, for `edgeq train --data`.

    A run that was killed or met a full disk goes on where it stood when it is started again.
    """
    from edgeq.corpora import pack

    spec, speeds = (None, (1.0,)) if features is None else _frontend(features)
    result = pack.pack(
        folder,
        output,
        spec,
        speeds,
        dtype=dtype,
        shard_megabytes=shard_megabytes,
        jobs=jobs,
        max_damaged=max_damaged,
        layout=layout,
    )
    present(result, "packing", as_json)


def _frontend(name: str) -> tuple[FrontendSpec, tuple[float, ...]]:
    """The front end of a recipe, a model, or of that name, and at which speeds its log-mel is wanted."""
    from edgeq import fresh, zoo
    from edgeq.audio.frontend import PRESETS

    if name in PRESETS:
        return PRESETS[name], (1.0,)
    if Path(name).suffix == ".toml":
        from edgeq.training import recipe as recipes

        recipe = recipes.read(name)
        fits = [recipe.fit, *([recipe.fine_tune] if recipe.fine_tune else [])]
        return recipe.frontend, tuple(dict.fromkeys([1.0, *(speed for fit in fits for speed in fit.speeds)]))
    if zoo.is_architecture(name):
        return fresh.specs(name)[1], (1.0,)
    try:
        return zoo.find(name).frontend, (1.0,)
    except InputError as error:
        raise InputError(f"{error}; a recipe (.toml); or a front end: {', '.join(PRESETS)}") from error
