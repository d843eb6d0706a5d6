"""From a model to files for runtimes and devices, and the proof that they are right."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from edgeq.commands import json_option, present
from edgeq.errors import CheckFailed, InputError


@click.command("export", short_help="Export MODEL for runtimes and devices, verified.")
@click.argument("model")
@click.option("--onnx", is_flag=True, help="Write ONNX.")
@click.option("--tflite", is_flag=True, help="Write TFLite.")
@click.option("--int8", is_flag=True, help="Write the INT8 form of each too.")
@click.option("--c", is_flag=True, help="Write the INT8 TFLite file as C too (with --int8).")
@click.option("--board", metavar="TARGET", help="Refuse C that does not fit this microcontroller (see edgeq bench).")
@click.option("--web", is_flag=True, help="Write a page that runs the ONNX file in the browser (its INT8 with --int8).")
@click.option(
    "--web-runtime",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Files of onnxruntime-web for the page.  [default: fetched once from npm's registry]",
)
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
    web: bool,
    web_runtime: Path | None,
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
    both are written; where a file disagrees with the network, none is. Any INT8 .tflite file becomes C with --c, an
    .onnx file of edgeq's a page with --web.
    """
    from edgeq.export import onnx_to_web, run, tflite_to_c

    suffix = Path(model).suffix if Path(model).is_file() else ""
    if suffix in (".onnx", ".tflite"):
        others: dict[str, object] = {"--calib": calib, "--classes": classes, "--budget": budget, "--compact": compact}
        others |= {"--lowering": lowering != "block"}
        if suffix == ".tflite":
            others = {"--onnx": onnx, "--web": web, "--web-runtime": web_runtime} | others
            _check_alone(model, "C", "--c", c, others)
            present(tflite_to_c.export(model, output, board).to_json(), "exported", as_json)
        else:
            others = {"--tflite": tflite, "--int8": int8, "--c": c, "--board": board} | others
            _check_alone(model, "a page", "--web", web, others)
            present(onnx_to_web.export(model, output, web_runtime).to_json(), "exported", as_json)
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
        web_page=web,
        web_runtime_folder=web_runtime,
    )
    present(result.to_json(), "exported", as_json)


def _check_alone(model: str, kind: str, option: str, given: bool, others: Mapping[str, object]) -> None:
    """Raises InputError where more, or less, is asked of a file without a bundle than the one thing it can become."""
    unsuited = [name for name, value in others.items() if value]
    if unsuited or not given:
        mend = f"leave out {', '.join(unsuited)}" if unsuited else f"add {option}, or give its bundle instead"
        raise InputError(f"{model}: a single {Path(model).suffix} file can only become {kind}: {mend}")


@click.command("verify", short_help="Compare exported files with the network as trained.")
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
