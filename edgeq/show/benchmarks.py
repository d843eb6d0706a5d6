"""What models cost: times and costs of computers, of microcontrollers, scores, and where each is from."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from edgeq.show import cells
from edgeq.show.cells import Value

_PRECISIONS = "float32", "int8"
"""Those that a stage's name says."""


def benchmarks(result: Value | Sequence[Value]) -> None:
    """What models cost: times and costs of computers, of microcontrollers, scores, and where each figure is from."""
    results = [result] if isinstance(result, Mapping) else result
    console = cells.console()
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
                for row in rows(one):
                    table.add_row(*row)
        table.add_section()


def _title(results: Sequence[Value], what: str) -> str:
    names = {one["model"] for one in results}
    return f"{escape(names.pop())}: {what}" if len(names) == 1 else what


def _times_of_computers(console: Console, results: Sequence[Value]) -> None:
    several = {one["batch"] for one in results} != {1}
    columns = ["on", *([">batch"] if several else []), ">p50\nms", ">p95\nms", ">p99\nms"]
    columns += [">windows\na second"] if several else [">front end\nms", ">real\ntime"]
    table = cells.table(*columns, title=_title(results, "time of a call" if several else "time of one window"))
    marks = _marks(console)

    def rows(one: Value) -> list[list[str]]:
        times, front, factor = one["latency_ms"], one.get("frontend"), one.get("real_time_factor")
        found = [f"{one['batch']:,}"] if several else []
        found += [
            cells.digits(times["p50"], marks[times["kind"]]),
            cells.digits(times["p95"]),
            cells.digits(times["p99"]),
        ]
        if several:
            return [[_where(one), *found, cells.digits(one["windows_per_second"])]]
        found.append(cells.digits(front["latency_ms"]["p50"], marks[front["latency_ms"]["kind"]]) if front else "")
        return [[_where(one), *found, "" if factor is None else f"{cells.digits(factor)} x"]]

    _by_model(table, results, rows)
    console.print(table)
    if not several:
        console.print("[dim]front end: on top, a window; real time: such streams it keeps up with[/]")
    for line in dict.fromkeys(_parity(one, marks) for one in results if "parity" in one):
        console.print(line, soft_wrap=True)
    for said in dict.fromkeys(one["timed"] for one in results if "timed" in one):
        console.print(f"[dim]timed: {escape(said)}[/]", soft_wrap=True)


def _parity(one: Value, marks: Mapping[str, str]) -> str:
    said = one["parity"]
    same = f"the class of float32 in {said['top1_agreement']:.1%} of {said['windows']} windows"
    off = f"probabilities {said['max_abs_error']:.1e} off at most"
    return f"{marks[said['kind']]} {escape(one['model'])} on {_where(one)}: {same}, {off}"


def _costs_of_computers(console: Console, results: Sequence[Value]) -> None:
    table = cells.table("on", ">MACs", ">file", ">load\nms", ">memory", title=_title(results, "what it needs"))
    marks = _marks(console)

    def rows(one: Value) -> list[list[str]]:
        load, memory = one.get("load_ms"), one.get("memory_bytes")
        found = [
            "" if one.get("macs") is None else cells.millions(one["macs"]),
            cells.kilobytes(one.get("file_bytes")),
            "" if load is None else cells.digits(load["value"], marks[load["kind"]]),
            "" if memory is None else f"{marks[memory['kind']]} {memory['value'] / 1e6:,.1f} MB",
        ]
        return [[_where(one) + _batch(one), *found]]

    _by_model(table, results, rows)
    console.print(table)


def _energy_of_computers(console: Console, results: Sequence[Value]) -> None:
    emits = any("co2_g" in one for one in results)
    columns = [">energy\nmJ", *([">CO2, g\na million"] if emits else [])]
    table = cells.table("on", *columns, title=_title(results, "energy of one window"))
    marks = _marks(console)

    def rows(one: Value) -> list[list[str]]:
        energy, co2 = one.get("energy_mj"), one.get("co2_g")
        found = ["" if energy is None else cells.digits(energy["value"], marks[energy["kind"]])]
        found += ["" if co2 is None else cells.digits(1e6 * co2["value"], marks[co2["kind"]])] if emits else []
        return [[_where(one) + _batch(one), *found]]

    _by_model(table, results, rows)
    console.print(table)


def _costs_of_boards(console: Console, results: Sequence[Value]) -> None:
    table = cells.table(
        "target", ">ms", ">mJ", ">cycles", ">per MAC", ">flash", ">RAM", title=_title(results, "one window, simulated")
    )
    marks = _marks(console)

    def rows(one: Value) -> list[list[str]]:
        each, latency, energy = one.get("cycles_per_mac"), one["latency_ms"], one["energy_mj"]
        found = [
            [
                one["target"],
                f"{marks[latency['kind']]} {cells.band(latency)}",
                f"{marks[energy['kind']]} {cells.band(energy, digits=2)}",
                cells.millions(one["cycles"]),
                "" if each is None else f"{each:.2f}",
                cells.kilobytes(one["flash_bytes"]),
                cells.kilobytes(one["ram_bytes"]),
            ]
        ]
        if front := one.get("frontend"):
            sizes = cells.kilobytes(front["flash_bytes"]), cells.kilobytes(front["ram_bytes"])
            latency = f"{marks[front['latency_ms']['kind']]} {cells.band(front['latency_ms'])}"
            found.append(["  front end", latency, "", cells.millions(front["cycles"]), "", *sizes])
        return found

    _by_model(table, results, rows)
    console.print(table)
    console.print("[dim]cycles: of the core, with memory that never waits; RAM: the arena and the stack[/]")
    if any("frontend" in one for one in results):
        console.print("[dim]front end: on top, from one window to the next[/]")


def _board_layers(console: Console, result: Value) -> None:
    layers = cells.table("layer", "op", ">instructions", ">cycles", ">cycles/MAC", title=escape(result["target"]))
    for layer in result["layers"]:
        each = f"{layer['cycles'] / layer['macs']:.2f}" if layer["macs"] else ""
        name = escape(cells.ending(layer["name"]))
        layers.add_row(name, layer["op"], cells.count(layer["instructions"]), cells.count(layer["cycles"]), each)
    console.print(layers)


def _scores(console: Console, results: Sequence[Value]) -> None:
    """What models score on recordings, each form once: a microcontroller's is that of the codes it was held to."""
    scored = {(one["model"], *_scored(one)): one for one in results if "accuracy" in one}
    if not scored:
        return
    shown = list(scored.values())
    first = shown[0]["accuracy"]
    alone = "accuracy" not in first  # clips may have several labels
    columns = [] if alone else [">accuracy", ">95 %"]
    columns += (
        [">mean average\nprecision"] if "mean_average_precision" in first else [">log\nloss", ">calibration\nerror"]
    )
    clips = first["clips"] if alone else first["accuracy"]["clips"]
    table = cells.table("of", *columns, title=_title(shown, f"scores on {clips:,} recordings"))
    marks = _marks(console)

    def rows(one: Value) -> list[list[str]]:
        said = one["accuracy"]
        keys = ("mean_average_precision", "log_loss", "expected_calibration_error")
        found = [f"{said[key]:.3f}" for key in keys if key in said]
        if alone:
            return [[" ".join(_scored(one)), f"{marks[said['kind']]} {found[0]}"]]
        spread = said["accuracy"]
        low_high = f"{spread['low']:.1%}-{spread['high']:.1%}"
        return [[" ".join(_scored(one)), f"{marks[said['kind']]} {spread['mean']:.1%}", low_high, *found]]

    _by_model(table, shown, rows)
    console.print(table)


def _scored(one: Value) -> tuple[str, ...]:
    said = one["accuracy"]["runtime"], one["accuracy"]["stage"]
    return said if one["precision"] in _PRECISIONS else (*said, one["precision"])


def _where(one: Value) -> str:
    said = (
        one["target"] + ",",
        one["runtime"],
        one["stage"],
        "" if one["precision"] in _PRECISIONS else one["precision"],
    )
    return escape(" ".join(filter(None, (*said, "graphs" if one.get("cuda_graphs") else ""))))


def _batch(one: Value) -> str:
    return f" x{one['batch']}" if one["batch"] > 1 else ""


def _comparison(console: Console, one: Value, said: Value) -> None:
    where = one["target"] if "cycles" in one else _where(one) + _batch(one)
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
                    band = f" {cells.band(figure, 2, 1e6)} g a million," if word == "CO2" and "low" in figure else ""
                    said = f"  {word}{band} {figure['kind']}: {figure['source']}"
                    if one is here[0] or figure["kind"] == "measured":
                        console.print(Text(said, style="dim"), soft_wrap=True)
        # Of warnings that differ in a figure alone, the first.
        told = {re.sub(r"[\d.]+", "", warning): warning for one in reversed(here) for warning in one["warnings"]}
        for warning in reversed(told.values()):
            console.print(Text(f"  ! {warning}", style="yellow"), soft_wrap=True)
