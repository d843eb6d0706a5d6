"""What a report says of results: tables, charts and notes, in no format yet."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeq.bench.report import cells, scores, spans, tables
from edgeq.bench.report.cells import Number, Sources, Text, is_number, joined
from edgeq.bench.report.entries import Entry, by_batch, entries_of, once, target_of
from edgeq.bench.report.scores import Confusion
from edgeq.bench.report.spans import Chart, Span, Sweep
from edgeq.bench.report.tables import AGAINST_BATCH, MORE, SUMMARY, Table

KINDS = {
    "measured": "timed, scored or read from a sensor on the machine that is named",
    "simulated": "counted while the program ran in a simulator of its processor, and carried over to the board",
    "estimated": "worked out from other figures and a stated source, never observed",
    "counted": "exact, from the file, the linked program or the network's graph",
}
"""How a figure was come by, from what was observed to what was not."""

_ASKED = {"accuracy": "accuracy", "energy_mj": "energy", "co2_g": "CO₂"}
"""What a reader looks for, and is told where no result has it."""

_NUMBER = re.compile(r"\d+(?:\.\d+)?")

_WORDS = {"mhz": "MHz", "ram": "RAM", "cpu": "CPU", "gpu": "GPU", "cuda": "CUDA"}
"""Words of a machine's description that are no common ones."""


@dataclass(frozen=True)
class Page:
    """All that a report says, in its order; what the results don't have is None or empty.

    Of several batches of a model in a place, sweeps and batches show all, and everything else the smallest.
    """

    title: str
    subtitle: str
    models: tuple[str, ...]
    places: tuple[str, ...]
    warnings: tuple[tuple[str, str], ...]
    summary: Table
    latency: tuple[tuple[str, tuple[Span, ...]], ...]
    sweeps: tuple[tuple[str, tuple[Sweep, ...]], ...]
    batches: Table | None
    charts: tuple[Chart, ...]
    more: Table
    comparisons: Table | None
    scores: Table | None
    intervals: tuple[str, ...]
    confusions: tuple[Confusion, ...]
    layers: tuple[tuple[str, Table], ...]
    verify: Mapping[str, Any] | None
    gate: Table | None
    modelled: Table
    missing: tuple[str, ...]
    machines: tuple[tuple[str, tuple[tuple[str, Text], ...]], ...]
    sources: tuple[str, ...]


def build(results: Sequence[Mapping[str, Any]], verify: Mapping[str, Any] | None = None) -> Page:
    """What is said of results, values of `edgeq bench --json`, and of a verification, the value of `edgeq verify`."""
    entries, sources = entries_of(results), Sources()
    names, targets = once(entry.name for entry in entries), once(map(target_of, results))
    single, several = by_batch(entries)
    models, places = once(entry.model for entry in entries), once(entry.place for entry in single)
    return Page(
        title=f"{_listed(names, 'models')} on {_listed(targets, 'targets')}",
        subtitle="; ".join(", ".join(of) for of in (names, targets) if len(of) > 2),
        models=models,
        places=places,
        warnings=tuple(_warnings(entries)),
        summary=tables.figures(single, SUMMARY, sources),
        latency=spans.latency(single) if len(single) > 1 else (),
        sweeps=tuple(spans.sweeps(several)),
        batches=tables.figures(several, AGAINST_BATCH, sources) if several else None,
        charts=tuple(spans.charts(single)),
        more=tables.figures(single, MORE, sources),
        comparisons=tables.comparisons(entries, sources),
        scores=scores.table(entries),
        intervals=once(
            str(method) for *_, found in scores.scored(entries) if (method := found.get("accuracy", {}).get("method"))
        ),
        confusions=tuple(scores.confusions(entries)),
        layers=tuple(tables.layers(entries)),
        verify=verify,
        gate=None if verify is None else tables.gate(verify),
        modelled=tables.modelled(single, sources),
        missing=tuple(_ASKED[name] for name in _ASKED if all(result.get(name) is None for result in results)),
        machines=tuple(_machines(results, sources)),  # after all that has a source
        sources=tuple(sources),
    )


def _listed(names: Sequence[str], what: str) -> str:
    return " and ".join(names) if len(names) < 3 else f"{len(names)} {what}"


def _warnings(entries: Sequence[Entry]) -> Iterator[tuple[str, str]]:
    """Where and what: those that differ in numbers alone once; a place alone where it is about all that ran there."""
    texts: dict[str, list[str]] = {}
    about: dict[str, dict[str, list[str]]] = {}
    for entry in entries:
        for warning in once(map(str, entry.result.get("warnings") or ())):
            shape = _NUMBER.sub("#", warning)
            texts.setdefault(shape, []).append(warning)
            models = about.setdefault(shape, {}).setdefault(entry.place, [])
            if entry.model not in models:
                models.append(entry.model)
    ran: dict[str, set[str]] = {}
    for entry in entries:
        ran.setdefault(entry.place, set()).add(entry.model)
    for shape, places in about.items():
        where = (
            place if len(models) == len(ran[place]) else f"{', '.join(models)} on {place}"
            for place, models in places.items()
        )
        yield "; ".join(where), _together(texts[shape])


def _together(warnings: Sequence[str]) -> str:
    """Warnings that differ in numbers alone as one, from the least number to the largest in each place."""
    ranges = iter(zip(*map(_NUMBER.findall, warnings), strict=True))

    def between(_: re.Match[str]) -> str:
        found = sorted(next(ranges), key=float)
        return found[0] if float(found[0]) == float(found[-1]) else f"{found[0]} to {found[-1]}"

    return _NUMBER.sub(between, warnings[0])


def _machines(
    results: Iterable[Mapping[str, Any]], sources: Sources
) -> Iterator[tuple[str, tuple[tuple[str, Text], ...]]]:
    """Each target's description; where its results differ in something, all that they say."""
    targets: dict[str, dict[str, list[Text]]] = {}
    for result in results:
        timed = {"timed": result["timed"]} if "timed" in result else {}
        for name, text in _said({**(result.get("machine") or {}), **timed}, sources):
            known = targets.setdefault(target_of(result), {}).setdefault(name, [])
            if text not in known:
                known.append(text)
    for target, said in targets.items():
        yield target, tuple((name, joined(texts)) for name, texts in said.items())


def _said(machine: Mapping[str, Any], sources: Sources, prefix: str = "") -> Iterator[tuple[str, Text]]:
    """Names and values, nested ones too; a source that has a number in the report is not said again."""
    for key, value in machine.items():
        name = prefix + " ".join(_WORDS.get(word, word) for word in str(key).split("_"))
        if isinstance(value, Mapping):
            yield from _said(value, sources, "source of " if key == "sources" else f"{name}: ")
        elif isinstance(value, list | tuple):
            yield name, (", ".join(map(str, value)),)
        elif is_number(value) and name.endswith(" bytes"):
            yield name.removesuffix(" bytes"), (Number(value, cells.size(value)),)
        elif is_number(value):
            yield name, (Number(value, f"{value:g}" if isinstance(value, float) else str(value)),)
        elif value is not None and str(value) not in sources:
            yield name, (str(value),)
