"""What was trained, pruned and merged."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from edgeq.show import cells
from edgeq.show.cells import Value


def training(result: Value) -> None:
    """What was measured, what could not be used, and where the bundle is."""
    console = cells.console()
    metrics = result["metrics"]
    if members := metrics.get("members"):
        _members(console, members)
    cells.facts(console, [(name, "dim", said) for name, said in _measured(metrics)])
    _left_out(console, result)
    if result.get("bundle"):
        console.print(f"[green]wrote[/] {escape(str(result['bundle']))}", soft_wrap=True)
        console.print(f"[dim]next:[/] edgeq export {escape(str(result['bundle']))} --int8", soft_wrap=True)


def _measured(metrics: Value) -> Iterator[tuple[str, str]]:
    """Each metric under its name; a table of all classes (confusion) is for --json."""
    interval = metrics.get("interval")
    for key, value in metrics.items():
        name = key.replace("_", " ")
        if key == "folds":
            share = "mean_of_folds" in metrics  # else a mean average precision
            yield name, ", ".join(f"{fold}: {f'{of:.1%}' if share else cells.plain(of)}" for fold, of in value.items())
        elif key == "accuracy" and interval:
            yield name, "{} ({low:.1%} to {high:.1%}; {method})".format(cells.accuracy(value), **interval)
        elif "accuracy" in key or key in ("agreement", "mean_of_folds"):
            yield name, cells.accuracy(value)
        elif key not in ("members", "confusion", "labels", "interval"):
            yield name, cells.plain(value)


def _left_out(console: Console, result: Value) -> None:
    """The recordings that could not be used, each with what is wrong with it."""
    if wrong := result.get("left_out"):
        console.print(f"[yellow]left out:[/] {cells.counted(len(wrong), 'recording')} that cannot be used")
        cells.facts(console, [("", "", one["what"]) for one in wrong])


def _members(console: Console, value: Value) -> None:
    """What an ensemble's members do alone, and what it would do without each."""
    table = cells.table("member", ">INT8 alone", ">float", ">ensemble without it", ">gain")
    for name, one in value["each"].items():
        alone, in_float, without = (cells.accuracy(one[key]) for key in ("accuracy", "accuracy_float", "without"))
        table.add_row(escape(name), alone, in_float, without, f"{one['gain']:+.1%}")
    console.print(table)
    mean = cells.accuracy(value["accuracy_of_mean"])
    console.print(f"[dim]without, gain: of the mean of the members' INT8 probabilities, of all {mean}[/]")


def pruning(result: Value) -> None:
    """What each layer has become, and the totals, before and after."""
    table = cells.table("layer", ">channels", ">parameters", ">MACs", title=escape(result["name"]))
    for layer in result["layers"]:
        table.add_row(layer["name"], *(cells.change(*layer[key]) for key in ("channels", "parameters", "macs")))
    console = cells.console()
    console.print(table)
    sums = Table.grid(padding=(0, 2))
    sums.add_column()
    sums.add_column(justify="right")
    before, after = result["before"], result
    for key in ("with_statistics", "stored", "lowered"):
        name = f"parameters, {key.replace('_', ' ')}"
        sums.add_row(name, cells.change(before["parameters"][key], after["parameters"][key], share=True))
    sums.add_row("MACs of one inference", cells.change(before["macs"]["network"], after["macs"]["network"], share=True))
    console.print(sums)
    _left_out(console, result)
    heard = result["metrics"].get("training_accuracy")
    tuned = "" if heard is None else f"on the recordings it was fine-tuned on {heard:.1%}, on others "
    console.print(
        f"\n[green]wrote[/] {escape(result['bundle'])}; its accuracy {tuned}is yet to be measured", soft_wrap=True
    )
    console.print(f"[dim]next:[/] edgeq export {escape(result['bundle'])} --int8", soft_wrap=True)


def ensemble(result: Value) -> None:
    """The members and all of them together: what they cost, and where recordings were heard how well they hear."""
    heard, shared, parts = "clips" in result, result.get("shared"), result.get("leave_one_out")
    accuracy = (">INT8", ">float") if heard else ()
    gains = (">without", ">adds") if parts else ()
    table = cells.table("model", ">parameters", ">MACs", *accuracy, *gains, title=escape(result["name"]))
    for number, member in enumerate(result["members"]):
        rest = (cells.accuracy(parts[number]["accuracy"]), f"{parts[number]['gain']:+.1%}") if parts else ()
        costs = cells.count(member["parameters"]), cells.short(member["macs"])
        table.add_row(escape(member["name"]), *costs, *(cells.both(member) if heard else ()), *rest)
    table.add_section()
    for what, of in (("together", shared["before"]), ("maps shared", result)) if shared else (("together", result),):
        costs = cells.count(of["parameters"]["with_statistics"]), cells.short(of["macs"]["network"])
        table.add_row(f"[bold]{what}[/]", *costs, *(cells.both(of) if heard else ()))
    console = cells.console()
    console.print(table)
    if heard:
        gain = "; without each and what it adds: INT8" if parts else ""
        console.print(f"[dim]accuracy: of {result['clips']:,} clips, trained on or not{gain}[/]")
    if shared:
        _shared_maps(console, shared)
    if budget := result["budget"]:
        console.print(f"budget {escape(budget['name'])}: [green]kept[/]")
    console.print(f"\n[green]wrote[/] {escape(result['bundle'])}", soft_wrap=True)
    console.print(f"[dim]next:[/] edgeq export {escape(result['bundle'])} --int8", soft_wrap=True)


def _shared_maps(console: Console, shared: Value) -> None:
    """How many maps each layer takes over, and from whom."""
    if shared["layers"]:
        table = cells.table("layer", "of", "takes maps over from", ">maps")
        for row in shared["layers"]:
            table.add_row(escape(row["layer"]), escape(row["member"]), escape(row["source"]), cells.count(row["maps"]))
        console.print(table)
    saved = f"saves {shared['parameters_saved']:,} parameters and {shared['macs_saved']:,} MACs"
    what = f"{shared['maps']:,} maps within {shared['tolerance']:g} on {escape(shared['compared_on'])}"
    console.print(f"{what}: {saved if shared['maps'] else 'nothing is shared'}", soft_wrap=True)
    for note in shared["notes"]:
        console.print(Text(note, style="dim"), soft_wrap=True)
