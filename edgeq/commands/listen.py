"""What a model hears: in recordings, as sound comes, and what follows from hours of it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from edgeq.commands import Command, json_option, present

_RULE = {
    "on": click.option(
        "--on", type=click.FloatRange(0, 1, min_open=True), help="Score at which an event begins.  [MODEL's own]"
    ),
    "off": click.option(
        "--off", type=click.FloatRange(0, 1), help="Score below which it ends.  [its part of --on, or MODEL's own]"
    ),
    "smoothing": click.option(
        "--smoothing", type=click.IntRange(min=1), help="Windows to average.  [MODEL's own, or 3]"
    ),
    "patience": click.option(
        "--patience", type=click.IntRange(min=1), help="Windows in a row that make an event.  [MODEL's own, or 2]"
    ),
    "cooldown": click.option(
        "--cooldown", type=click.IntRange(min=0), help="Windows of rest after one.  [MODEL's own, or 4]"
    ),
    "unknown": click.option("--unknown", type=click.FloatRange(0, 1), help="Name nothing below this score."),
    "background": click.option(
        "--background",
        metavar="LABELS",
        callback=lambda context, option, given: None if given is None else _split(given),
        help="Labels that never are events, with commas.",
    ),
}
"""Fields of the rule for events, each by the name that it has in the bundle."""


def _split(names: str) -> tuple[str, ...]:
    return tuple(name for one in names.split(",") if (name := one.strip()))


def _runtime_options(command: Command) -> Command:
    """The options that say what runs the model, where recordings or a microphone are heard."""
    names = "onnxruntime, litert, litert-reference, tflite-runtime, torch or c."
    command = click.option("--int8", is_flag=True, help="Run the INT8 stage.")(command)
    return click.option("--runtime", help=names)(command)


def _rule_options(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Those fields as options of a command, which takes them by their names."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for name in reversed(names):
            command = _RULE[name](command)
        return command

    return decorate


@click.command("classify")
@click.argument("model")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--top", default=3, show_default=True, type=click.IntRange(min=1), help="Labels a recording.")
@_runtime_options
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


@click.command("live", short_help="Listen to a microphone, a pipe or a file.")
@click.argument("model", required=False)
@click.option("--input", "source", metavar="FILE|-", help="A recording, or - for PCM on stdin.  [default: microphone]")
@click.option("--real-time", is_flag=True, help="Play the recording at its own pace, as a microphone would hear it.")
@click.option("--rate", type=click.IntRange(1_000, 768_000), help="Of raw PCM, in Hz.  [default: the model's]")
@click.option("--channels", default=1, show_default=True, type=click.IntRange(1, 64), help="Of raw PCM.")
@click.option("--device", metavar="N", help="Microphone, by its number or a part of its name.")
@click.option("--list-devices", is_flag=True, help="List the microphones, and leave.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="Stop after so much sound.")
@click.option("--save-hits", type=click.Path(path_type=Path), metavar="DIR", help="Keep the sound of each event.")
@_rule_options("on", "off", "smoothing", "patience", "cooldown", "unknown", "background")
@click.option("--top", default=3, show_default=True, type=click.IntRange(min=1), help="Labels a window.")
@_runtime_options
@click.option(
    "--web", is_flag=True, help="Show it on a page for browsers too; a recording is then played in real time."
)
@click.option("--host", metavar="ADDRESS", help="Of the page.  [default: 127.0.0.1, this machine alone]")
@click.option("--port", type=click.IntRange(0, 65_535), help="Of the page; 0 is a free one.  [default: 8080]")
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
    web: bool,
    host: str | None,
    port: int | None,
    as_json: bool,
    **rule: Any,
) -> None:
    """Listen with MODEL: labels window by window, and the events that its rule makes of them, until Ctrl-C.

    MODEL is as in classify. Raw PCM is 16-bit little-endian; WAV says what it is:
    arecord -f S16_LE -r 16000 -t raw | edgeq live MODEL --input - --rate 16000
    """
    if list_devices:
        from edgeq.live import devices

        present([one.to_json() for one in devices.listed()], "devices", as_json)
        return
    if model is None:
        raise click.UsageError("Missing argument 'MODEL'.")
    for option, given, goes, wanted in (
        ("--device", device, source is None, "a microphone, where --input is left out"),
        ("--real-time", real_time, source not in (None, "-"), "--input FILE"),
        ("--rate", rate, source == "-", "--input -"),
    ):
        if given and not goes:
            raise click.UsageError(f"{option} goes with {wanted}.")
    if not web and (host is not None or port is not None):
        raise click.UsageError("--host and --port are the page's: give --web too.")
    from edgeq.live import lines, run, service

    real_time = real_time or (web and source not in (None, "-"))
    settings = run.Settings(source, real_time, rate, channels, device, seconds, save_hits, runtime, int8, rule)
    with _terminable() as terminated:
        with contextlib.ExitStack() as shown:
            views: list[run.View] = []
            note = ""
            if web:
                from edgeq.live import page

                pages = shown.enter_context(page.serve(host or page.HOST, page.PORT if port is None else port))
                shown.callback(lambda: _say(pages.losses()))
                _say(pages.where())
                note = pages.where()[0]
                views.append(pages)
            if sys.stdout.isatty() and not as_json and os.environ.get("TERM") not in ("dumb", "unknown"):
                from edgeq.live.terminal import Screen

                views.append(shown.enter_context(Screen(note=note)))
            else:
                views.append(lines.JsonLines(top) if as_json else lines.PlainLines(top))
            if told := service.asked():
                views.append(told)
            state = run.live(model, settings, *views)
        _say([lines.summary(state, live=source in (None, "-") or real_time)])
    if state.interrupted and not terminated:
        raise KeyboardInterrupt


def _say(lines: Sequence[str]) -> None:
    for line in lines:
        click.echo(f"edgeq: {line}", err=True)


@contextlib.contextmanager
def _terminable() -> Iterator[list[int]]:
    """SIGTERM, by which a service is stopped, ends the block as Ctrl-C does; it is then in the list."""
    came: list[int] = []

    def interrupt(number: int, _: object) -> None:
        came.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)


@click.command("tune-threshold", short_help="Fit MODEL's rule for events to recordings.")
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
@_rule_options("smoothing", "patience", "cooldown", "unknown", "background")
@_runtime_options
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Bundle to write.  [default: build/<name>]")
@json_option
def tune_threshold_command(
    model: str,
    data: Path,
    false_alarms: float,
    runtime: str | None,
    int8: bool,
    output: Path | None,
    as_json: bool,
    **rule: Any,
) -> None:
    """Fit the thresholds by which MODEL (zoo name, bundle folder) tells events, and write the bundle with them.

    They miss the fewest events while false alarms stay at or below N an hour. Recordings that the model was trained on
    are left out; windows come on its front end's hop.
    """
    from edgeq import tune

    result = tune.tune(model, data, output, false_alarms=false_alarms, runtime=runtime, int8=int8, **rule)
    present(result.to_json(), "tuned", as_json)


@click.command("mine", short_help="Keep the audio of what MODEL hears in hours of recordings.")
@click.argument("model")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--mistakes", is_flag=True, help="DIR is labelled: keep false alarms and missed recordings alone.")
@_rule_options("on", "off", "smoothing", "patience", "cooldown", "background")
@_runtime_options
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder of hits.  [default: build/<name>-mined]")
@json_option
def mine_command(
    model: str,
    folder: Path,
    mistakes: bool,
    runtime: str | None,
    int8: bool,
    output: Path | None,
    as_json: bool,
    **rule: Any,
) -> None:
    """Keep the audio of every event that MODEL hears in the recordings below DIR: WAV files, and a list, hits.jsonl.

    A run that was stopped goes on where it stood; no file is ever overwritten.
    """
    from edgeq import mine

    result = mine.mine(model, folder, output, mistakes=mistakes, runtime=runtime, int8=int8, **rule)
    if as_json:
        present(result.to_json(), "mined", as_json)
        for line in result.warnings:
            click.echo(f"edgeq: {line}", err=True)
    else:
        present(result.summary(), "mined", as_json)
