"""What was written, and whether it is right."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from edgeq.show import cells
from edgeq.show.cells import Value


def exported(result: Value) -> None:
    """The files, the verdict of the gate, and what firmware needs to know."""
    verification(result["verify"])
    console = cells.console()
    table = cells.table("file", "format", ">size")
    for file in result["files"]:
        if not file["format"].startswith("web"):
            table.add_row(escape(file["path"]), file["format"], cells.kilobytes(file["bytes"]))
    pages = [file for file in result["files"] if file["format"].startswith("web")]
    if pages:
        place = next(file["path"] for file in pages if file["path"].endswith("index.html"))
        size = cells.kilobytes(sum(file["bytes"] for file in pages))
        table.add_row(escape(f"{place} and {len(pages) - 1} more"), pages[0]["format"], size)
    console.print(table)
    for form, choice in result["lowering"].items():
        _lowering(console, form, choice)
    for note in result["notes"]:
        console.print(Text(note, style="dim"), soft_wrap=True)
    if any(choice["runtime"] for choice in result["lowering"].values()):
        place = escape(f"{result['bundle']}/lowering.json")
        console.print(f"[dim]the same again, without timing: --lowering {place}[/]", soft_wrap=True)
    if result["firmware"]:
        console.print("\n[bold]For TensorFlow Lite Micro[/]")
        console.print(Text(result["firmware"]), soft_wrap=True)
    if result["bundle"]:
        console.print(f"[dim]next:[/] edgeq classify {escape(result['bundle'])} RECORDING", soft_wrap=True)


def verification(report: Value) -> None:
    """One line a stage, the layers that lose most in INT8, and the verdict."""
    labelled = any("accuracy" in stage for stage in report["stages"])
    table = cells.table("stage", "on", ">agreement", ">max error", ">SQNR", *([">accuracy"] if labelled else []), "")
    for stage in report["stages"]:
        table.add_row(
            stage["name"],
            f"{stage['clips']} {'clips' if stage['inputs'] == 'data' else stage['inputs']}",
            f"{stage['top1_agreement']:.1%}",
            f"{stage['max_abs_error']:.1e}",
            cells.decibels(stage["sqnr_db"]),
            *([cells.accuracy(stage.get("accuracy"))] if labelled else []),
            "[green]ok[/]" if stage["passed"] else "[red]FAILED[/]",
        )
    console = cells.console()
    console.print(table)
    if report["layers"]:
        worst = ", ".join(f"{layer['name']} {cells.decibels(layer['sqnr_db'])}" for layer in report["layers"][:3])
        console.print(f"[dim]noisiest INT8 layers: {worst}[/]")
    for note in report["notes"]:
        console.print(Text(note, style="dim"), soft_wrap=True)
    verdict = "[bold green]passed[/]" if report["passed"] else "[bold red]FAILED[/]"
    console.print(f"{escape(report['name'])}: {verdict}")


def _lowering(console: Console, form: str, choice: Value) -> None:
    """The form of each quaternion layer in one file, and why."""
    timed = any(layer["times"] for layer in choice["layers"])
    table = cells.table(form, "output", "form", *((">block ms", ">fast ms", ">ratio") if timed else ()))
    for layer in choice["layers"]:
        shape = " x ".join(str(size) for size in layer["output_shape"])
        table.add_row(escape(layer["name"]), shape, layer["lowering"], *_times(layer["times"]))
    if choice["network"]:
        table.add_section()
        table.add_row("whole network", "", "", *_times(choice["network"]))
    console.print(table)
    if timed:
        console.print(f"[dim]CPU time in {choice['runtime']} {choice['version']} on one thread[/]")
    console.print(f"{choice['macs']:,} MACs in block form, {choice['multiplies']:,} multiplications in the file")


def _times(times: Value | None) -> tuple[str, ...]:
    return (f"{times['block_ms']:.3g}", f"{times['fast_ms']:.3g}", f"{times['ratio']:.2f}") if times else ()
