"""The command line: one short function a command, each a thin call of the library; heavy imports wait inside."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from edgeq.errors import CheckFailed, InputError

Command = TypeVar("Command", bound=Callable[..., Any])

_INTERRUPTED = "interrupted; what was finished is kept"


def main(arguments: list[str] | None = None) -> None:
    """Run a command and leave with its exit code.

    0 done; 1 a check failed; 2 bad usage or input, one line on stderr; 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal cannot show is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    try:
        code = commands.main(args=arguments, prog_name="edgeq", standalone_mode=False)
    except click.UsageError as error:
        where = f" (see '{error.ctx.command_path} --help')" if error.ctx else ""
        _leave(2, error.format_message() + where)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _leave(130, _INTERRUPTED)
    except InputError as error:
        _leave_wrong(error, str(error))
    except CheckFailed as error:
        _leave(1, str(error))
    except SystemExit as stop:
        # The reader of our output went away (`edgeq models | head`): click and rich leave with a failed check's 1.
        sys.exit(141 if stop.code == 1 else stop.code)
    except ModuleNotFoundError as error:
        # The core runs models; what builds and counts networks comes with an extra, and is imported by the command.
        _leave(2, f"this needs {error.name}, which is not installed; run: pip install 'edgeq[export]'")
    except ImportError as error:
        _leave_wrong(error, f"{error.name or 'a package'} cannot be loaded ({error}); run: edgeq doctor")
    except OSError as error:
        _leave(2, _describe(error))
    sys.exit(code if isinstance(code, int) else 0)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}, invoke_without_command=True
)
@click.version_option(package_name="edgeq", message="%(prog)s %(version)s")
@click.pass_context
def commands(context: click.Context) -> None:
    """Take an audio classifier from training to a device, and prove that it still works there."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(2)


def json_option(command: Command) -> Command:
    """The option --json, which every command has."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON value on stdout, nothing else.")(command)


def present(value: Any, view: str, as_json: bool) -> None:
    """Print a result: as one JSON value, or through the view of that name in `show`."""
    if as_json:
        click.echo(json.dumps(value, allow_nan=False))
        return
    from edgeq import show

    getattr(show, view)(value)


@commands.command("models")
@json_option
def models_command(as_json: bool) -> None:
    """List the zoo's models and the architectures."""
    from edgeq import catalogue

    present(catalogue.listing(), "models", as_json)


@commands.command("inspect", short_help="Show what MODEL costs, layer by layer.")
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


@commands.command("train", short_help="Train a bundle from a recipe.")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder of recordings.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Bundle to write.  [default: build/<name>]")
@click.option("--seed", type=click.IntRange(min=0), help="Another seed than the recipe's.")
@click.option("--cross-validate", is_flag=True, help="Hold out each fold in turn; gives metrics, writes no bundle.")
@json_option
def train_command(
    recipe: Path, data: Path, output: Path | None, seed: int | None, cross_validate: bool, as_json: bool
) -> None:
    """Train a bundle from RECIPE (TOML), through every stage it has; a killed run resumes where it stood."""
    from edgeq.compress import follow

    result = follow.run(recipe, data, output=output, seed=seed, cross_validate=cross_validate)
    present(result, "training", as_json)


@commands.command("prune", short_help="Remove a model's least important filters.")
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


@commands.command("distill", short_help="Train a student from a teacher.")
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


@commands.command("ensemble", short_help="Merge models into one that gives the mean of their answers.")
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


@commands.command("export", short_help="Export MODEL for runtimes and devices, verified.")
@click.argument("model")
@click.option("--onnx", is_flag=True, help="Write ONNX.")
@click.option("--tflite", is_flag=True, help="Write TFLite.")
@click.option("--int8", is_flag=True, help="Write the INT8 form of each too.")
@click.option("--c", is_flag=True, help="Write the INT8 TFLite file as C too (with --int8).")
@click.option("--board", metavar="TARGET", help="Refuse C that does not fit this microcontroller (see edgeq bench).")
@click.option(
    "--calib",
    type=click.Path(path_type=Path),
    help="Recordings to calibrate INT8 on.  [default: the ranges the bundle carries]",
)
@click.option("--classes", type=int, help="Classes of an architecture with random weights.  [default: its own]")
@click.option("--budget", help="Refuse to export over this budget (dcase2022, or a TOML file).")
@click.option(
    "--lowering",
    default="block",
    show_default=True,
    metavar="block|fast|auto|TABLE",
    help="Quaternion layers of float files: as large convolutions, in half the multiplications, the faster of both "
    "here, or as a lowering.json says that auto wrote.",
)
@click.option("--compact", is_flag=True, help="Store quaternion weights once in the float ONNX file.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder to write.  [default: build/<name>]")
@json_option
def export_command(
    model: str,
    onnx: bool,
    tflite: bool,
    int8: bool,
    c: bool,
    board: str | None,
    calib: Path | None,
    classes: int | None,
    budget: str | None,
    lowering: str,
    compact: bool,
    output: Path | None,
    as_json: bool,
) -> None:
    """Export MODEL for runtimes and devices, and verify every file against what was trained.

    MODEL is a zoo name, a bundle folder, or an architecture name (random weights). With neither --onnx nor --tflite,
    both are written; where a file disagrees with the network, none is. Any INT8 .tflite file becomes C with --c.
    """
    from edgeq.export import run, tflite_to_c

    if Path(model).suffix == ".tflite" and Path(model).is_file():
        others = {"--onnx": onnx, "--calib": calib, "--classes": classes, "--budget": budget, "--compact": compact}
        unsuited = [name for name, given in others.items() if given] + (["--lowering"] if lowering != "block" else [])
        if unsuited or not c:
            mend = f"leave out {', '.join(unsuited)}" if unsuited else "add --c, or give its bundle instead"
            raise InputError(f"{model}: a single .tflite file can only become C: {mend}")
        present(tflite_to_c.export(model, output, board).to_json(), "exported", as_json)
        return
    formats = tuple(name for name, wanted in (("onnx", onnx), ("tflite", tflite)) if wanted) or run.FORMATS
    result = run.export(
        model,
        output,
        formats=formats,
        int8=int8,
        calibration=calib,
        classes=classes,
        budget=budget,
        lowering=lowering,
        compact=compact,
        c=c,
        board=board,
    )
    present(result.to_json(), "exported", as_json)


@commands.command("verify", short_help="Compare exported files with the network as trained.")
@click.argument("model")
@click.option("--data", type=click.Path(path_type=Path), help="Compare on these recordings too.")
@json_option
def verify_command(model: str, data: Path | None, as_json: bool) -> None:
    """Compare every exported file of MODEL (zoo name or bundle folder) with the network as it was trained."""
    from edgeq import verify

    report = verify.verify(model, data=data)
    present(report.to_json(), "verification", as_json)
    if not report.passed:
        raise CheckFailed(f"{model}: {report.failure}")


@commands.command("bench", short_help="Measure what MODEL costs where it runs.")
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
@click.option("--batch", default=1, show_default=True, type=click.IntRange(min=1), help="Windows a call.")
@click.option(
    "--seconds", default=10.0, show_default=True, type=click.FloatRange(min=0, min_open=True), help="To time."
)
@click.option("--runs", type=click.IntRange(min=1), help="Time so many calls instead.")
@click.option("--affinity", metavar="CPUS", help="Processors to run on, as in 0,1.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of synthetic inputs.")
@click.option(
    "--meter", default="auto", show_default=True, help="For energy: rapl, nvml, ppk2, codecarbon; none for none."
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
    batch: int,
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
        stages=_names(stage),
        runtimes=_names(runtime),
        threads=threads,
        batch=batch,
        seconds=seconds,
        runs=runs,
        affinity=_processors(affinity),
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


def _names(listed: str | None) -> tuple[str | None, ...]:
    """Names with commas; where there are none, what suits."""
    return (None,) if listed is None else tuple(name.strip() for name in listed.split(","))


def _processors(listed: str | None) -> tuple[int, ...] | None:
    if listed is None:
        return None
    try:
        return tuple(int(number) for number in listed.split(","))
    except ValueError:
        raise click.UsageError(f"--affinity {listed}: expected numbers of processors, as in 0,1.") from None


@commands.command("classify")
@click.argument("model")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--top", default=3, show_default=True, type=click.IntRange(min=1), help="Labels a recording.")
@click.option("--runtime", help="onnxruntime, litert, litert-reference, tflite-runtime, torch or c.")
@click.option("--int8", is_flag=True, help="Run the INT8 stage.")
@json_option
def classify_command(
    model: str, files: tuple[str, ...], top: int, runtime: str | None, int8: bool, as_json: bool
) -> None:
    """Label recordings of any rate, channels and length.

    MODEL is a zoo name, a bundle folder that has exports, or an .onnx or .tflite file that edgeq wrote.
    """
    from edgeq import classify

    results = classify.classify(model, [Path(file) for file in files], top=top, runtime=runtime, int8=int8)
    present([result.to_json() for result in results], "classified", as_json)


@commands.command("live", short_help="Listen to a microphone, a pipe or a file.")
@click.argument("model", required=False)
@click.option("--input", "source", metavar="FILE|-", help="A recording, or - for PCM on stdin.  [default: microphone]")
@click.option("--real-time", is_flag=True, help="Play the recording at its own pace, as a microphone would hear it.")
@click.option("--rate", type=click.IntRange(1_000, 768_000), help="Of raw PCM, in Hz.  [default: the model's]")
@click.option("--channels", default=1, show_default=True, type=click.IntRange(1, 64), help="Of raw PCM.")
@click.option("--device", metavar="N", help="Microphone, by its number or a part of its name.")
@click.option("--list-devices", is_flag=True, help="List the microphones, and leave.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="Stop after so much sound.")
@click.option("--save-hits", type=click.Path(path_type=Path), metavar="DIR", help="Keep the sound of each event.")
@click.option("--top", default=3, show_default=True, type=click.IntRange(min=1), help="Labels a window.")
@click.option("--runtime", help="onnxruntime, litert, litert-reference, tflite-runtime, torch or c.")
@click.option("--int8", is_flag=True, help="Run the INT8 stage.")
@click.option("--json", "as_json", is_flag=True, help="A JSON line a window on stdout, nothing else.")
def live_command(
    model: str | None,
    source: str | None,
    real_time: bool,
    rate: int | None,
    channels: int,
    device: str | None,
    list_devices: bool,
    seconds: float | None,
    save_hits: Path | None,
    top: int,
    runtime: str | None,
    int8: bool,
    as_json: bool,
) -> None:
    """Listen with MODEL: labels window by window, and the events that its rule makes of them, until Ctrl-C.

    MODEL is as in classify. Raw PCM is 16-bit little-endian; WAV says what it is:
    arecord -f S16_LE -r 16000 -t raw | edgeq live MODEL --input - --rate 16000
    """
    if list_devices:
        from edgeq.live import microphone

        present([one.to_json() for one in microphone.devices()], "devices", as_json)
        return
    if model is None:
        raise click.UsageError("Missing argument 'MODEL'.")
    for option, given, wanted in (
        ("--device", device, source is None),
        ("--real-time", real_time, source not in (None, "-")),
        ("--rate", rate, source == "-"),
    ):
        if given and not wanted:
            raise click.UsageError(f"{option} does not go with --input {source or 'left out, a microphone'}.")
    from edgeq.live import lines, run

    settings = run.Settings(source, real_time, rate, channels, device, seconds, save_hits, runtime, int8)
    with contextlib.ExitStack() as picture:
        view: run.View = lines.JsonLines(top) if as_json else lines.PlainLines(top)
        if sys.stdout.isatty() and not as_json:
            from edgeq.live.terminal import Screen

            view = picture.enter_context(Screen())
        state = run.live(model, settings, view)
    click.echo(f"edgeq: {lines.summary(state, live=source in (None, '-') or real_time)}", err=True)


@commands.command("tune-threshold", short_help="Fit MODEL's rule for events to recordings.")
@click.argument("model")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder of labelled recordings.")
@click.option(
    "--false-alarms",
    default=1.0,
    show_default=True,
    type=click.FloatRange(min=0),
    metavar="N",
    help="How many an hour are let pass.",
)
@click.option("--smoothing", type=click.IntRange(min=1), help="Windows to average.  [default: 3]")
@click.option("--patience", type=click.IntRange(min=1), help="Windows in a row that make an event.  [default: 2]")
@click.option("--cooldown", type=click.IntRange(min=0), help="Windows of rest after one.  [default: 4]")
@click.option("--unknown", type=click.FloatRange(0, 1), help="Name nothing below this score.")
@click.option("--background", help="Labels that never are events, with commas.")
@click.option("--runtime", help="onnxruntime, litert, litert-reference, tflite-runtime, torch or c.")
@click.option("--int8", is_flag=True, help="Run the INT8 stage.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Bundle to write.  [default: build/<name>]")
@json_option
def tune_threshold_command(
    model: str,
    data: Path,
    false_alarms: float,
    smoothing: int | None,
    patience: int | None,
    cooldown: int | None,
    unknown: float | None,
    background: str | None,
    runtime: str | None,
    int8: bool,
    output: Path | None,
    as_json: bool,
) -> None:
    """Fit the thresholds by which MODEL (zoo name, bundle folder) tells events, and write the bundle with them.

    They miss the fewest events while false alarms stay at or below N an hour. Recordings that the model was trained on
    are left out; windows come on its front end's hop.
    """
    from edgeq import tune

    labels = None if background is None else tuple(str(name) for name in _names(background) if name)
    result = tune.tune(
        model,
        data,
        output,
        false_alarms=false_alarms,
        smoothing=smoothing,
        patience=patience,
        cooldown=cooldown,
        unknown=unknown,
        background=labels,
        runtime=runtime,
        int8=int8,
    )
    present(result.to_json(), "tuned", as_json)


@commands.command("mine", short_help="Keep the audio of what MODEL hears in hours of recordings.")
@click.argument("model")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--mistakes", is_flag=True, help="DIR is labelled: keep false alarms and missed recordings alone.")
@click.option("--on", type=click.FloatRange(0, 1, min_open=True), help="Score at which an event begins.  [MODEL's own]")
@click.option("--off", type=click.FloatRange(0, 1), help="Score below which it ends.  [MODEL's own]")
@click.option("--runtime", help="onnxruntime, litert, litert-reference, tflite-runtime, torch or c.")
@click.option("--int8", is_flag=True, help="Run the INT8 stage.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder of hits.  [default: build/<name>-mined]")
@json_option
def mine_command(
    model: str,
    folder: Path,
    mistakes: bool,
    on: float | None,
    off: float | None,
    runtime: str | None,
    int8: bool,
    output: Path | None,
    as_json: bool,
) -> None:
    """Keep the audio of every event that MODEL hears in the recordings below DIR: WAV files, and a list, hits.jsonl.

    A run that was stopped goes on where it stood; no file is ever overwritten.
    """
    from edgeq import mine

    result = mine.mine(model, folder, output, mistakes=mistakes, on=on, off=off, runtime=runtime, int8=int8)
    if as_json:
        present(result.to_json(), "mined", as_json)
        for line in result.warnings:
            click.echo(f"edgeq: {line}", err=True)
    else:
        present(result.summary(), "mined", as_json)


@commands.command("doctor", short_help="Check this machine, and how to mend it.")
@json_option
def doctor_command(as_json: bool) -> None:
    """Check what works on this machine, and how to mend what doesn't."""
    from edgeq import doctor

    checks = doctor.examine()
    present([check.to_json() for check in checks], "checks", as_json)
    broken = [check.name for check in checks if not check.ok and not check.optional]
    if broken:
        raise CheckFailed(f"not working here: {', '.join(broken)}")


def _describe(error: OSError) -> str:
    place = f"{error.filename}: " if error.filename else ""
    reason = error.strerror or str(error)
    elsewhere = "choose another folder with -o"
    mend = {
        errno.ENOSPC: f"free some space or {elsewhere}",
        errno.EDQUOT: f"free some space or {elsewhere}",
        errno.EACCES: f"{elsewhere}, or change its permissions",
        errno.EROFS: elsewhere,
        errno.EEXIST: f"expected a folder; {elsewhere}",
        errno.ENOTDIR: f"expected a folder; {elsewhere}",
        errno.ENOENT: f"check the path or {elsewhere}",
        errno.ENAMETOOLONG: "choose a shorter name",
    }.get(error.errno or 0)
    return f"{place}{reason}" + (f"; {mend}" if mend else "")


def _leave_wrong(error: Exception, message: str) -> NoReturn:
    """Leave for a mistake in the input, if it is not a Ctrl-C: native modules make an ImportError of one on loading."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:  # an error may be raised from itself
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    if any(isinstance(one, KeyboardInterrupt) for one in chain):
        _leave(130, _INTERRUPTED)
    _leave(2, message)


def _leave(code: int, message: str) -> NoReturn:
    with contextlib.suppress(OSError):  # nobody to tell it to; the code still says it
        click.echo(f"edgeq: {' '.join(message.split())}", err=True)
    sys.exit(code)
