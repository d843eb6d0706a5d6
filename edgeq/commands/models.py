"""What there is to run, what it costs, and what works here."""

from __future__ import annotations

import click

from edgeq.commands import json_option, present
from edgeq.errors import CheckFailed


@click.command("models")
@json_option
def models_command(as_json: bool) -> None:
    """List the zoo's models and the architectures."""
    from edgeq import catalogue

    present(catalogue.listing(), "models", as_json)


@click.command("inspect", short_help="Show what MODEL costs, layer by layer.")
@click.argument("model")
@click.option("--classes", type=int, help="Another number of classes.")
@click.option("--prune-ratio", type=float, help="Count an architecture pruned as its paper does, from 0 to below 1.")
@click.option("--in-channels", type=int, help="Another number of input components.")
@click.option("--clip-seconds", type=float, help="Count on a window of another length.")
@click.option("--budget", help="A budget's name (dcase2022) or a TOML file; over it, the exit code is 1.")
@json_option
def inspect_command(
    model: str,
    classes: int | None,
    prune_ratio: float | None,
    in_channels: int | None,
    clip_seconds: float | None,
    budget: str | None,
    as_json: bool,
) -> None:
    """Show what MODEL (zoo name, bundle folder, architecture, .onnx or .tflite file) costs, layer by layer."""
    from edgeq import inspection

    report = inspection.inspect(
        model,
        classes=classes,
        prune_ratio=prune_ratio,
        in_channels=in_channels,
        clip_seconds=clip_seconds,
        budget=budget,
    )
    present(report, "inspection", as_json)
    if budget and not report["budget"]["ok"]:
        raise CheckFailed(f"{report['name']} is over the budget {budget}: {'; '.join(report['budget']['reasons'])}")


@click.command("doctor", short_help="Check this machine, and how to mend it.")
@json_option
def doctor_command(as_json: bool) -> None:
    """Check what works on this machine, and how to mend what doesn't."""
    from edgeq import doctor

    checks = doctor.examine()
    present([check.to_json() for check in checks], "checks", as_json)
    broken = [check.name for check in checks if not check.ok and not check.optional]
    if broken:
        raise CheckFailed(f"not working here: {', '.join(broken)}")
