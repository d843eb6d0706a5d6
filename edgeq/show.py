"""The commands' results for people: tables and lines from the very values that --json prints."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from edgeq.graph.sqnr import CEILING_DB

Value = Mapping[str, Any]

_LAYER_WIDTH = 18
"""Characters of a layer's name that leave a table of its costs within 80 columns."""


def models(rows: Sequence[Value]) -> None:
    """The zoo with its accuracies, then the architectures."""
    table = _table("model", ">stored", ">lowered", ">MACs", ">INT8 file", "accuracy")
    for kind, heading in (("zoo", "zoo"), ("architecture", "architectures")):
        table.add_row(f"[bold]{heading}[/]")
        for row in (row for row in rows if row["kind"] == kind):
            counts = (_short(row[key]) for key in ("stored", "lowered", "macs"))
            table.add_row(f"  {row['name']}", *counts, _bytes(row.get("int8_bytes")), _spread(row.get("accuracy")))
        table.add_section()
    console = _console()
    console.print(table)
    console.print("[dim]stored: each quaternion component once; lowered: as real convolutions[/]")
    console.print("[dim]MACs: of one inference; accuracy: cross-validated, INT8, 95 % over clips[/]")
    console.print("[dim]qcnn14-p50 and its like: half of the filters pruned, in the layers that the paper names[/]")


def inspection(report: Value) -> None:
    """The per-layer table, the totals and the budget."""
    table = _table("layer", "op", "output", ">parameters", ">MACs", title=escape(report["name"]))
    for layer in report["layers"]:
        shape = "x".join(str(size) for size in layer["output_shape"])  # without spaces: 80 columns are just enough
        table.add_row(escape(layer["name"]), layer["op"], shape, _count(layer["parameters"]), _count(layer["macs"]))
    console = _console()
    console.print(table)
    totals = [(f"parameters, {key.replace('_', ' ')}", value) for key, value in report["parameters"].items()]
    totals.append(("MACs of one inference", report["macs"]["network"]))
    totals.append(("MACs a second of audio", report.get("macs_per_second")))
    totals.append(("MACs of the front end, estimated", report["macs"].get("frontend")))
    sums = Table.grid(padding=(0, 2))
    sums.add_column()
    sums.add_column(justify="right")
    for name, value in totals:
        if value is not None:
            sums.add_row(name, f"[bold]{value:,}[/]")
    console.print(sums)
    if budget := report.get("budget"):
        verdict = "[green]kept[/]" if budget["ok"] else f"[red]exceeded[/]: {escape('; '.join(budget['reasons']))}"
        console.print(f"\nbudget {escape(budget['name'])}: {verdict}")


def training(result: Value) -> None:
    """Where the bundle is, and its metrics."""
    console = _console()
    for name, value in result["metrics"].items():
        if name == "members":
            _members(console, value)
        else:
            console.print(f"{name.replace('_', ' ')}: {_accuracy(value) if 'accuracy' in name else _plain(value)}")
    if result.get("bundle"):
        console.print(f"[green]wrote[/] {escape(str(result['bundle']))}")
        console.print(f"[dim]next:[/] edgeq export {escape(str(result['bundle']))} --int8", soft_wrap=True)


def _members(console: Console, value: Value) -> None:
    """What an ensemble's members do alone, and what it would do without each."""
    table = _table("member", ">INT8 alone", ">float", ">ensemble without it", ">gain")
    for name, one in value["each"].items():
        alone, in_float, without = (_accuracy(one[key]) for key in ("accuracy", "accuracy_float", "without"))
        table.add_row(escape(name), alone, in_float, without, f"{one['gain']:+.1%}")
    console.print(table)
    mean = _accuracy(value["accuracy_of_mean"])
    console.print(f"[dim]without, gain: of the mean of the members' INT8 probabilities, of all {mean}[/]")


def pruning(result: Value) -> None:
    """What each layer has become, and the totals, before and after."""
    table = _table("layer", ">channels", ">parameters", ">MACs", title=escape(result["name"]))
    for layer in result["layers"]:
        table.add_row(layer["name"], *(_change(*layer[key]) for key in ("channels", "parameters", "macs")))
    console = _console()
    console.print(table)
    sums = Table.grid(padding=(0, 2))
    sums.add_column()
    sums.add_column(justify="right")
    before, after = result["before"], result
    for key in ("with_statistics", "stored", "lowered"):
        name = f"parameters, {key.replace('_', ' ')}"
        sums.add_row(name, _change(before["parameters"][key], after["parameters"][key], share=True))
    sums.add_row("MACs of one inference", _change(before["macs"]["network"], after["macs"]["network"], share=True))
    console.print(sums)
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
    table = _table("model", ">parameters", ">MACs", *accuracy, *gains, title=escape(result["name"]))
    for number, member in enumerate(result["members"]):
        rest = (_accuracy(parts[number]["accuracy"]), f"{parts[number]['gain']:+.1%}") if parts else ()
        costs = _count(member["parameters"]), _short(member["macs"])
        table.add_row(escape(member["name"]), *costs, *(_both(member) if heard else ()), *rest)
    table.add_section()
    for what, of in (("together", shared["before"]), ("maps shared", result)) if shared else (("together", result),):
        costs = _count(of["parameters"]["with_statistics"]), _short(of["macs"]["network"])
        table.add_row(f"[bold]{what}[/]", *costs, *(_both(of) if heard else ()))
    console = _console()
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


def exported(result: Value) -> None:
    """The files, the verdict of the gate, and what firmware needs to know."""
    verification(result["verify"])
    console = _console()
    table = _table("file", "format", ">size")
    for file in result["files"]:
        table.add_row(escape(file["path"]), file["format"], _bytes(file["bytes"]))
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


def benchmarks(result: Value | Sequence[Value]) -> None:
    """What models cost: times and costs of computers, of microcontrollers, scores, and where each figure is from."""
    results = [result] if isinstance(result, Mapping) else result
    console = _console()
    boards = [one for one in results if "cycles" in one]
    computers = [one for one in results if "cycles" not in one]
    if len(results) == 1 and boards:
        _board_layers(console, boards[0])
    if computers:
        _times_of_computers(console, computers)
        _costs_of_computers(console, computers)
        if any("energy_mj" in one for one in computers):
            _energy_of_computers(console, computers)
    if boards:
        _costs_of_boards(console, boards)
    _scores(console, results)
    for one in results:
        if said := one.get("comparison"):
            _comparison(console, one, said)
    marks = _marks(console)
    console.print(f"[dim]{', '.join(f'{mark} {kind}' for kind, mark in marks.items() if mark.strip())}[/]")
    _sources(console, results)


def _marks(console: Console) -> dict[str, str]:
    """How a figure was come by, in a character."""
    known = "●◐○ " if console.encoding.startswith("utf") else "=~? "
    return dict(zip(("measured", "simulated", "estimated", "counted"), known, strict=True))


def _by_model(table: Table, results: Sequence[Value], rows: Callable[[Value], Sequence[Sequence[str]]]) -> None:
    """Rows of results; where there are several models, each below its name."""
    names = list(dict.fromkeys(one["model"] for one in results))
    for name in names:
        if len(names) > 1:
            table.add_row(f"[bold]{escape(name)}[/]")
        for one in results:
            if one["model"] == name:
                for cells in rows(one):
                    table.add_row(*cells)
        table.add_section()


def _title(results: Sequence[Value], what: str) -> str:
    names = {one["model"] for one in results}
    return f"{escape(names.pop())}: {what}" if len(names) == 1 else what


def _times_of_computers(console: Console, results: Sequence[Value]) -> None:
    batches = {one["batch"] for one in results} - {1}
    of = f"a call of {', '.join(map(str, sorted(batches)))} windows" if batches else "one window"
    title = _title(results, f"time of {of}")
    table = _table("on", ">p50\nms", ">p95\nms", ">p99\nms", ">front end\nms", ">real\ntime", title=title)
    marks = _marks(console)

    def rows(one: Value) -> list[list[str]]:
        times, front, factor = one["latency_ms"], one.get("frontend"), one.get("real_time_factor")
        cells = [_digits(times["p50"], marks[times["kind"]]), _digits(times["p95"]), _digits(times["p99"])]
        cells.append(_digits(front["latency_ms"]["p50"], marks[front["latency_ms"]["kind"]]) if front else "")
        return [[_where(one), *cells, "" if factor is None else f"{_digits(factor)} x"]]

    _by_model(table, results, rows)
    console.print(table)
    console.print("[dim]front end: on top, a window; real time: such streams it keeps up with[/]")


def _costs_of_computers(console: Console, results: Sequence[Value]) -> None:
    table = _table("on", ">MACs", ">file", ">load\nms", ">memory", title=_title(results, "what it needs"))
    marks = _marks(console)

    def rows(one: Value) -> list[list[str]]:
        load, memory = one.get("load_ms"), one.get("memory_bytes")
        cells = [
            "" if one.get("macs") is None else _millions(one["macs"]),
            _bytes(one.get("file_bytes")),
            "" if load is None else _digits(load["value"], marks[load["kind"]]),
            "" if memory is None else f"{marks[memory['kind']]} {memory['value'] / 1e6:,.1f} MB",
        ]
        return [[_where(one), *cells]]

    _by_model(table, results, rows)
    console.print(table)


def _energy_of_computers(console: Console, results: Sequence[Value]) -> None:
    emits = any("co2_g" in one for one in results)
    columns = [">energy\nmJ", *([">CO2, g\na million"] if emits else [])]
    table = _table("on", *columns, title=_title(results, "energy of one window"))
    marks = _marks(console)

    def rows(one: Value) -> list[list[str]]:
        energy, co2 = one.get("energy_mj"), one.get("co2_g")
        cells = ["" if energy is None else _digits(energy["value"], marks[energy["kind"]])]
        cells += ["" if co2 is None else _digits(1e6 * co2["value"], marks[co2["kind"]])] if emits else []
        return [[_where(one), *cells]]

    _by_model(table, results, rows)
    console.print(table)


def _costs_of_boards(console: Console, results: Sequence[Value]) -> None:
    table = _table(
        "target", ">ms", ">mJ", ">cycles", ">per MAC", ">flash", ">RAM", title=_title(results, "one window, simulated")
    )
    marks = _marks(console)

    def rows(one: Value) -> list[list[str]]:
        each, latency, energy = one.get("cycles_per_mac"), one["latency_ms"], one["energy_mj"]
        found = [
            [
                one["target"],
                f"{marks[latency['kind']]} {_band(latency)}",
                f"{marks[energy['kind']]} {_band(energy, digits=2)}",
                _millions(one["cycles"]),
                "" if each is None else f"{each:.2f}",
                _bytes(one["flash_bytes"]),
                _bytes(one["ram_bytes"]),
            ]
        ]
        if front := one.get("frontend"):
            sizes = _bytes(front["flash_bytes"]), _bytes(front["ram_bytes"])
            latency = f"{marks[front['latency_ms']['kind']]} {_band(front['latency_ms'])}"
            found.append(["  front end", latency, "", _millions(front["cycles"]), "", *sizes])
        return found

    _by_model(table, results, rows)
    console.print(table)
    console.print("[dim]cycles: of the core, with memory that never waits; RAM: the arena and the stack[/]")
    if any("frontend" in one for one in results):
        console.print("[dim]front end: on top, from one window to the next[/]")


def _board_layers(console: Console, result: Value) -> None:
    layers = _table("layer", "op", ">instructions", ">cycles", ">cycles/MAC", title=escape(result["target"]))
    for layer in result["layers"]:
        each = f"{layer['cycles'] / layer['macs']:.2f}" if layer["macs"] else ""
        name = escape(_ending(layer["name"]))
        layers.add_row(name, layer["op"], _count(layer["instructions"]), _count(layer["cycles"]), each)
    console.print(layers)


def _scores(console: Console, results: Sequence[Value]) -> None:
    """What models score on recordings, each form once: a microcontroller's is that of the codes it was held to."""
    scored = {(one["model"], *_scored(one)): one for one in results if "accuracy" in one}
    if not scored:
        return
    first = next(iter(scored.values()))["accuracy"]
    several = "mean_average_precision" in first
    columns = (">mean average\nprecision",) if several else (">log\nloss", ">calibration\nerror")
    shown = list(scored.values())
    title = _title(shown, f"scores on {first['accuracy']['clips']:,} recordings")
    table = _table("of", ">accuracy", ">95 %", *columns, title=title)
    marks = _marks(console)

    def rows(one: Value) -> list[list[str]]:
        said, keys = one["accuracy"], ("log_loss", "expected_calibration_error")
        found = [said["mean_average_precision"]] if several else [said[key] for key in keys]
        spread = said["accuracy"]
        low_high = f"{spread['low']:.1%}-{spread['high']:.1%}"
        mean = f"{marks[said['kind']]} {spread['mean']:.1%}"
        return [[" ".join(_scored(one)), mean, low_high, *(f"{value:.3f}" for value in found)]]

    _by_model(table, shown, rows)
    console.print(table)


def _scored(one: Value) -> tuple[str, str]:
    return one["accuracy"]["runtime"], one["accuracy"]["stage"]


def _where(one: Value) -> str:
    return escape(f"{one['target']}, {one['runtime']} {one['stage']}")


def _comparison(console: Console, one: Value, said: Value) -> None:
    where = one["target"] if "cycles" in one else _where(one)
    console.print(
        f"{_marks(console)[said['kind']]} [bold]{escape(one['model'])}[/] takes [bold]{said['ratio']:.3f}[/] of the "
        f"time of [bold]{escape(said['other'])}[/]: {said['low']:.3f} to {said['high']:.3f}",
        soft_wrap=True,
    )
    of = f"{said['pairs']:,} interleaved pairs" if said["kind"] == "measured" else "simulated"
    console.print(f"  [dim]{where}; {of}; {escape(said['method'])}[/]", soft_wrap=True)


def _sources(console: Console, results: Sequence[Value]) -> None:
    """Where it ran, what figures follow from, and what may have disturbed them; the same of several is said once."""
    for target in dict.fromkeys(one["target"] for one in results):
        here = [one for one in results if one["target"] == target]
        machine = here[0]["machine"]
        if "part" in machine:
            what = f"{machine['part']}, {machine['clock_mhz']:g} MHz, not measured"
        else:
            threads = here[0]["threads"]
            what = f"{machine['processor']}, {machine['cores']} cores; {threads} thread{'s' * (threads > 1)}"
        console.print(f"[bold]{escape(target)}[/]: {escape(what)}", soft_wrap=True)
        for one in here:
            for word, key in (("latency", "latency_ms"), ("energy", "energy_mj"), ("CO2", "co2_g")):
                figure = one.get(key)
                if figure is not None and "source" in figure:
                    band = f" {_band(figure, 2, 1e6)} g a million," if word == "CO2" and "low" in figure else ""
                    said = f"  {word}{band} {figure['kind']}: {figure['source']}"
                    if one is here[0] or figure["kind"] == "measured":
                        console.print(Text(said, style="dim"), soft_wrap=True)
        # Of warnings that differ in a figure alone, the first.
        told = {re.sub(r"[\d.]+", "", warning): warning for one in reversed(here) for warning in one["warnings"]}
        for warning in reversed(told.values()):
            console.print(Text(f"  ! {warning}", style="yellow"), soft_wrap=True)


def verification(report: Value) -> None:
    """One line a stage, the layers that lose most in INT8, and the verdict."""
    labelled = any("accuracy" in stage for stage in report["stages"])
    table = _table("stage", "on", ">agreement", ">max error", ">SQNR", *([">accuracy"] if labelled else []), "")
    for stage in report["stages"]:
        table.add_row(
            stage["name"],
            f"{stage['clips']} {'clips' if stage['inputs'] == 'data' else stage['inputs']}",
            f"{stage['top1_agreement']:.1%}",
            f"{stage['max_abs_error']:.1e}",
            _decibels(stage["sqnr_db"]),
            *([_accuracy(stage.get("accuracy"))] if labelled else []),
            "[green]ok[/]" if stage["passed"] else "[red]FAILED[/]",
        )
    console = _console()
    console.print(table)
    if report["layers"]:
        worst = ", ".join(f"{layer['name']} {_decibels(layer['sqnr_db'])}" for layer in report["layers"][:3])
        console.print(f"[dim]noisiest INT8 layers: {worst}[/]")
    for note in report["notes"]:
        console.print(Text(note, style="dim"), soft_wrap=True)
    verdict = "[bold green]passed[/]" if report["passed"] else "[bold red]FAILED[/]"
    console.print(f"{escape(report['name'])}: {verdict}")


def classified(results: Sequence[Value]) -> None:
    """One block a recording: its labels with a bar each."""
    console = _console()
    block = "█" if console.encoding.startswith("utf") else "#"
    for result in results:
        silent = "  [yellow]silence: nothing in it is above the gate[/]" if result["silent"] else ""
        console.print(f"[bold]{escape(result['file'])}[/]  {result['seconds']:.1f} s{silent}", soft_wrap=True)
        for entry in result["top"]:
            bar = block * round(20 * entry["score"])
            console.print(f"  {entry['score']:6.1%}  {bar:<20}  {escape(entry['label'])}")


def tuned(result: Value) -> None:
    """What the thresholds give, what stands behind that, and what others would have given."""
    console = _console()
    counts, intervals = result["counts"], result["intervals"]
    table = _table(">on", ">off", ">false alarms an hour", ">missed")
    for one in (*result["curve"][9::10], counts):
        style = "bold" if one is counts else "dim"
        alarms, missed = one["false_alarms"] / counts["hours"], one["missed"] / counts["events"]
        table.add_row(f"{one['on']:.2f}", f"{one['off']:.2f}", f"{alarms:.2f}", f"{missed:.1%}", style=style)
    console.print(table)
    alarms, missed = intervals["false_alarms_per_hour"], intervals["missed"]
    console.print(
        f"{counts['false_alarms']} false alarms in {_hours(counts['hours'])} "
        f"(95 %: {alarms['low']:.2f} to {alarms['high']:.2f} an hour); "
        f"{counts['missed']} of {counts['events']} events missed (95 %: {missed['low']:.1%} to {missed['high']:.1%})",
        soft_wrap=True,
    )
    console.print("[dim]on the very recordings that they were fitted to: expect somewhat worse on others[/]")
    for line in result["warnings"]:
        console.print(f"[yellow]{escape(line)}[/]", soft_wrap=True)
    console.print(f"[green]wrote[/] {escape(result['bundle'])}", soft_wrap=True)


def mined(result: Value) -> None:
    """How many hits there are of each kind and label, and where they are."""
    console = _console()
    kinds = Counter((hit["kind"], hit["label"]) for hit in result["hits"])
    if kinds:
        table = _table("kind", "label", ">hits")
        for (kind, label), count in sorted(kinds.items()):
            table.add_row(kind, escape(label), _count(count))
        console.print(table)
    lasted = _hours(result["seconds"] / 3600)
    console.print(f"{len(result['hits'])} hits in {result['recordings']} recordings, {lasted}")
    for line in result["warnings"]:
        console.print(f"[yellow]{escape(line)}[/]", soft_wrap=True)
    console.print(f"[green]kept in[/] {escape(result['folder'])}", soft_wrap=True)


def checks(rows: Sequence[Value]) -> None:
    """One row a check; where something is missing, the mend below what was found."""
    table = _table("", "check", "found")
    for row in rows:
        mark = "[green]ok[/]" if row["ok"] else "[yellow]--[/]" if row.get("optional") else "[red]NO[/]"
        found = escape(row["detail"])
        if not row["ok"] and row["mend"] not in row["detail"]:
            found += f"\n[dim]mend:[/] {escape(row['mend'])}"
        table.add_row(mark, row["check"], found)
    _console().print(table)


def _shared_maps(console: Console, shared: Value) -> None:
    """How many maps each layer takes over, and from whom."""
    if shared["layers"]:
        table = _table("layer", "of", "takes maps over from", ">maps")
        for row in shared["layers"]:
            table.add_row(escape(row["layer"]), escape(row["member"]), escape(row["source"]), _count(row["maps"]))
        console.print(table)
    saved = f"saves {shared['parameters_saved']:,} parameters and {shared['macs_saved']:,} MACs"
    what = f"{shared['maps']:,} maps within {shared['tolerance']:g} on {escape(shared['compared_on'])}"
    console.print(f"{what}: {saved if shared['maps'] else 'nothing is shared'}", soft_wrap=True)
    for note in shared["notes"]:
        console.print(Text(note, style="dim"), soft_wrap=True)


def _lowering(console: Console, form: str, choice: Value) -> None:
    """The form of each quaternion layer in one file, and why."""
    timed = any(layer["times"] for layer in choice["layers"])
    table = _table(form, "output", "form", *((">block ms", ">fast ms", ">ratio") if timed else ()))
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


def _console() -> Console:
    return Console(highlight=False)


def devices(rows: Sequence[Value]) -> None:
    """The microphones, by the number that chooses one."""
    table = _table(">--device", "name", ">channels", ">rate")
    for row in rows:
        default = "  [dim](default)[/]" if row["default"] else ""
        table.add_row(str(row["number"]), escape(row["name"]) + default, str(row["channels"]), f"{row['rate']:,} Hz")
    console = _console()
    console.print(table if rows else "no microphone")


def _table(*columns: str, title: str | None = None) -> Table:
    """A table whose columns are named; a leading '>' right-aligns one."""
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for column in columns:
        table.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    return table


def _ending(name: str) -> str:
    """The end of a long name, as those that TensorFlow strings together by `;` begin alike."""
    first = name.split(";")[0]
    return first if len(first) <= _LAYER_WIDTH else f"..{first[2 - _LAYER_WIDTH :]}"


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _change(before: int, after: int, share: bool = False) -> str:
    """A count before and after, and with `share` how much of it is gone."""
    if before == after:
        return f"{after:,}"
    return f"{before:,} -> {after:,}" + (f"  [dim]-{1 - after / before:.1%}[/]" if share else "")


def _short(value: int | None) -> str:
    """A count in at most ten characters, so that a table of them fits 80 columns: exact below 10 millions."""
    if value is None or value < 10_000_000:
        return _count(value)
    return f"{value / 1e9:,.2f} G" if value >= 1_000_000_000 else f"{value / 1e6:.1f} M"


def _bytes(value: int | None) -> str:
    return "" if value is None else f"{value / 1000:,.1f} kB"


def _hours(value: float) -> str:
    return f"{value:.1f} hours" if value >= 1 else f"{60 * value:.1f} minutes"


def _decibels(value: float) -> str:
    return "exact" if value >= CEILING_DB else f"{value:.1f} dB"


def _accuracy(value: float | Value | None) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):
        low, high = value["low"], value["high"]
        return f"{value['mean']:.1%} ({low:.1%} to {high:.1%}, {value['seeds']} seeds)"
    return f"{value:.1%}"


def _both(value: Value) -> tuple[str, str]:
    """Accuracy in INT8 and in float."""
    return _accuracy(value["accuracy"]), _accuracy(value["accuracy_float"])


def _band(values: Value, digits: int = 3, factor: float = 1) -> str:
    """Two figures that a third lies between, in so many digits, times a factor."""
    return "-".join(f"{factor * values[end]:#.{digits}g}".removesuffix(".") for end in ("low", "high"))


def _digits(value: float, mark: str = "") -> str:
    """A figure in three digits, behind how it was come by."""
    digits = f"{value:,.0f}" if value >= 100 else f"{value:#.3g}".removesuffix(".")
    return f"{mark} {digits}" if mark else digits


def _millions(value: int) -> str:
    return f"{value / 1e9:,.2f} G" if value >= 1e9 else f"{value / 1e6:,.2f} M"


def _spread(value: float | Value | None) -> str:
    """An accuracy in few characters: half of its interval instead of both ends."""
    if isinstance(value, Mapping):
        return f"{value['mean']:.1%} ±{max(value['high'] - value['mean'], value['mean'] - value['low']):.1%}"
    return _accuracy(value)


def _plain(value: object) -> str:
    """A metric's value, as the tables write numbers."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else escape(str(value))
