"""From recordings to a model, and from a model to a smaller one."""

from __future__ import annotations

import os
from pathlib import Path

import click

from edgeq.commands import json_option, present


@click.command("train", short_help="Train a bundle from a recipe.")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder of recordings.")
@click.option("--layout", metavar="NAME", help="Of the corpus, where DIR does not tell, as in edgeq data check.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Bundle to write.  [default: build/<name>]")
@click.option("--seed", type=click.IntRange(min=0), help="Another seed than the recipe's.")
@click.option("--cross-validate", is_flag=True, help="Hold out each fold in turn; gives metrics, writes no bundle.")
@json_option
def train_command(
    recipe: Path,
    data: Path,
    layout: str | None,
    output: Path | None,
    seed: int | None,
    cross_validate: bool,
    as_json: bool,
) -> None:
    """Train a bundle from RECIPE (TOML), through every stage it has; a killed run resumes where it stood.

    On several cores, GPUs or machines, where the recipe has [fit] parts:
    torchrun --nproc-per-node N -m edgeq train RECIPE --data DIR
    """
    from edgeq.compress import follow
    from edgeq.training import joining

    with joining.joined() as together:
        result = follow.run(recipe, data, output=output, seed=seed, cross_validate=cross_validate, layout=layout)
    if together.main:
        present(result, "training", as_json)


@click.command("prune", short_help="Remove a model's least important filters.")
@click.argument("model")
@click.option("--method", required=True, help="l1, geometric-median, operator-norm, similarity or random.")
@click.option(
    "--ratio", type=float, help="Part of its filters that a layer loses, below 1.  [similarity finds its own]"
)
@click.option(
    "--sites",
    multiple=True,
    help="Layers by name, with commas; NAME=RATIO for one of its own, `paper` for the papers'.  [default: every "
    "convolution]",
)
@click.option("--round-to", default=1, type=click.IntRange(min=1), help="Round kept channels up to a multiple.")
@click.option("--seed", default=0, type=click.IntRange(min=0), help="What random and --fine-tune draw from.")
@click.option("--fine-tune", is_flag=True, help="Train the smaller model on, on the recordings in --data.")
@click.option("--data", type=click.Path(path_type=Path), help="Folder of recordings to fine-tune on.")
@click.option("--epochs", type=click.IntRange(min=1), help="One crop a clip each.  [default: 120]")
@click.option("--learning-rate", type=float, help="Of fine-tuning.  [default: 1e-3]")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Bundle to write.  [default: build/<name>-pruned]"
)
@json_option
def prune_command(
    model: str,
    method: str,
    ratio: float | None,
    sites: tuple[str, ...],
    round_to: int,
    seed: int,
    fine_tune: bool,
    data: Path | None,
    epochs: int | None,
    learning_rate: float | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Remove the least important filters of MODEL (zoo name, bundle folder, architecture) for good.

    Writes a smaller bundle; without --fine-tune it has yet to be trained on.
    """
    if fine_tune and data is None:
        raise click.UsageError("--fine-tune needs recordings: add --data DIR.")
    for option, given in (("--data", data), ("--epochs", epochs), ("--learning-rate", learning_rate)):
        if given is not None and not fine_tune:
            raise click.UsageError(f"{option} is for fine-tuning: add --fine-tune, or leave it out.")
    _check_alone()
    from edgeq.compress import pruned

    names = [name.strip() for listed in sites for name in listed.split(",")]
    result = pruned.run(
        model,
        output,
        method=method,
        ratio=ratio,
        sites=names,
        round_to=round_to,
        seed=seed,
        data=data,
        epochs=epochs,
        learning_rate=learning_rate,
    )
    present(result.to_json(), "pruning", as_json)


@click.command("distill", short_help="Train a student from a teacher.")
@click.option("--teacher", "teachers", required=True, multiple=True, help="Whom to learn from; several: their mean.")
@click.option("--student", required=True, help="An architecture (fresh weights), or a model to go on from.")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder of recordings.")
@click.option("--alpha", default=0.5, show_default=True, help="Share of the labels; the teacher's is the rest.")
@click.option("--temperature", default=2.0, show_default=True, help="How far the answers are softened.")
@click.option("--epochs", default=200, show_default=True, type=click.IntRange(min=1), help="One crop a clip each.")
@click.option("--learning-rate", type=float, help="[default: 3e-3 for fresh weights, 1e-3 for a model]")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of weights and crops.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Bundle.  [default: build/<student>-distilled]")
@json_option
def distill_command(
    teachers: tuple[str, ...],
    student: str,
    data: Path,
    alpha: float,
    temperature: float,
    epochs: int,
    learning_rate: float | None,
    seed: int,
    output: Path | None,
    as_json: bool,
) -> None:
    """Train a student on recordings and on what its teacher (zoo name or bundle folder) makes of them.

    The loss is alpha * cross-entropy with the labels + (1 - alpha) * KL divergence from the teacher's answers, both
    softened by the temperature. With a pruned model as student this is pruning with distillation.
    """
    _check_alone()
    from edgeq.compress import distill
    from edgeq.training.config import Distillation

    result = distill.run(
        teachers,
        student,
        data,
        output,
        how=Distillation(alpha, temperature),
        epochs=epochs,
        learning_rate=learning_rate,
        seed=seed,
    )
    present(result, "training", as_json)


@click.command("ensemble", short_help="Merge models into one that gives the mean of their answers.")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option(
    "--share-tolerance",
    type=float,
    help="Compute maps once that differ by at most this part of their norm between members.",
)
@click.option("--leave-one-out", is_flag=True, help="Measure on --data what each member adds.")
@click.option(
    "--data", type=click.Path(path_type=Path), help="Labelled recordings: accuracy, ranges, likeness of maps."
)
@click.option("--budget", help="Refuse to write an ensemble over this budget (dcase2022, or a TOML file).")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Bundle to write.  [default: build/ensemble]")
@json_option
def ensemble_command(
    models: tuple[str, ...],
    share_tolerance: float | None,
    leave_one_out: bool,
    data: Path | None,
    budget: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Merge two or more models (zoo names, bundle folders, architectures) into one network: the mean of their answers.

    They have to have the same labels, front end and output; maps of quaternion layers are never shared.
    """
    from edgeq.compress import ensembled

    result = ensembled.run(
        models, output, share_tolerance=share_tolerance, leave_one_out=leave_one_out, data=data, budget=budget
    )
    present(result, "ensemble", as_json)


def _check_alone() -> None:
    """Raises UsageError in a process of torchrun: each would do, and write, the same."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise click.UsageError(
            "torchrun shares the work of edgeq train; write this as a recipe, or leave torchrun out."
        )
