"""What a model costs where it runs."""

from __future__ import annotations

from pathlib import Path

import click

from edgeq.commands import json_option, present
from edgeq.errors import CheckFailed, InputError


@click.command("bench", short_help="Measure what MODEL costs where it runs.")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--target", required=True, help="cpu, gpu, ssh://HOST or a microcontroller, as in cpu,stm32l496.")
@click.option("--runtime", help="What runs it on a computer, several with commas.  [default: what suits the model]")
@click.option("--stage", help="Which of a bundle's forms to run on a computer, several with commas: onnx,tflite-int8.")
@click.option(
    "--compare",
    "other",
    is_flag=False,
    flag_value="",
    metavar="[OTHER]",
    help="Time it in turns with another model, for their ratio; without a name, the last MODEL.",
)
@click.option("--data", type=click.Path(path_type=Path), help="Labelled recordings: time on them, and score on all.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(min=1), help="Of the runtime.")
@click.option("--batch", default="1", show_default=True, help="Windows a call, several with commas: 1,8,64.")
@click.option("--precision", help="Of float stages, with commas: float32, tfloat32, float16, bfloat16.")
@click.option("--cuda-graphs", is_flag=True, help="On a GPU: record a call, and time its replays.")
@click.option(
    "--seconds", default=10.0, show_default=True, type=click.FloatRange(min=0, min_open=True), help="To time."
)
@click.option("--runs", type=click.IntRange(min=1), help="Time so many calls instead.")
@click.option("--affinity", metavar="CPUS", help="Processors to run on, as in 0,1.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of synthetic inputs.")
@click.option(
    "--meter",
    default="auto",
    show_default=True,
    help="For energy: rapl, nvml, codecarbon; ppk2:source=VOLTS where a PPK2 feeds this very computer; none for none.",
)
@click.option("--watts", type=click.FloatRange(min=0, min_open=True), help="What it draws, where no meter tells.")
@click.option("--country", metavar="CC", help="Whose grid turns energy into CO2, as in GB.")
@click.option(
    "--report", "page", type=click.Path(path_type=Path), metavar="FILE", help="Write a report: .html, .md or .json."
)
@json_option
def bench_command(
    models: tuple[str, ...],
    target: str,
    runtime: str | None,
    stage: str | None,
    other: str | None,
    data: Path | None,
    threads: int,
    batch: str,
    precision: str | None,
    cuda_graphs: bool,
    seconds: float,
    runs: int | None,
    affinity: str | None,
    seed: int,
    meter: str,
    watts: float | None,
    country: str | None,
    page: Path | None,
    as_json: bool,
) -> None:
    """Measure what one inference of MODEL costs: latency, energy, memory, accuracy, and how each figure was come by.

    MODEL is a zoo name, a bundle folder, or an .onnx or .tflite file. On this computer it is timed in a process of its
    own; as a microcontroller's its C runs simulated, layer by layer, with bands for latency and energy.
    """
    from edgeq.bench import report, run
    from edgeq.bench.computer import Settings

    if other == "":
        if len(models) < 2:
            raise click.UsageError("--compare needs a second model: edgeq bench MODEL --compare OTHER.")
        *models_left, other = models
        models = tuple(models_left)
    if page is not None:
        report.check(page)
    settings = Settings(
        stages=_names("--stage", stage),
        runtimes=_names("--runtime", runtime),
        precisions=_names("--precision", precision),
        batches=_numbers("--batch", batch, "windows a call, as in 1,8,64", least=1),
        cuda_graphs=cuda_graphs,
        threads=threads,
        seconds=seconds,
        runs=runs,
        affinity=None if affinity is None else _numbers("--affinity", affinity, "numbers of processors, as in 0,1"),
        seed=seed,
        meter=None if meter == "none" else meter,
        watts=watts,
    )
    result = run.bench(models, target, settings, other=other, data=data, country=country)
    present(result.to_json(), "benchmarks", as_json)
    failures, interrupted = list(result.failures), result.interrupted
    if page is not None:
        verified = None
        try:
            verified = None if interrupted else run.verification(models)
        except InputError as failure:  # what was measured is reported all the same
            failures.append(f"not verified: {failure}")
        except KeyboardInterrupt:
            interrupted = True
        report.write([one.to_json() for one in result.results], page, verified)
        click.echo(f"wrote {page}", err=True)
    if interrupted:
        raise KeyboardInterrupt
    if failures:
        raise CheckFailed("; ".join(failures))


def _names(option: str, listed: str | None) -> tuple[str | None, ...]:
    """Each once, in the order given; where the option is not, what suits."""
    if listed is None:
        return (None,)
    names = tuple(dict.fromkeys(name.strip() for name in listed.split(",")))
    if "" in names:
        raise click.UsageError(f"{option} {listed}: expected names with commas between.")
    return names


def _numbers(option: str, listed: str, expected: str, least: int = 0) -> tuple[int, ...]:
    """Each once, in the order given."""
    try:
        numbers = tuple(dict.fromkeys(map(int, listed.split(","))))
    except ValueError:
        numbers = (least - 1,)
    if min(numbers) < least:
        raise click.UsageError(f"{option} {listed}: expected {expected}.")
    return numbers
