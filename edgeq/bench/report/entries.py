"""Results and what they are called in a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

QUALIFIERS = {"runtime": "{}", "threads": "threads {}", "batch": "batch {}"}
"""What tells results of one target apart."""


@dataclass(frozen=True)
class Entry:
    """A result and its names: the model with its precision where both are there, and the place where it ran."""

    result: Mapping[str, Any]
    name: str
    model: str
    place: str


def entries_of(results: Sequence[Mapping[str, Any]]) -> list[Entry]:
    """Names for results: a model's tell its precisions apart, a target's its runtimes, threads and batches."""
    precisions: dict[str, set[str]] = {}
    qualifiers: dict[tuple[str, str], set[Any]] = {}
    for result in results:
        precisions.setdefault(name_of(result), set()).add(precision_of(result))
        for key in QUALIFIERS:
            if result.get(key) is not None:
                qualifiers.setdefault((target_of(result), key), set()).add(result[key])
    entries = []
    for result in results:
        name, target = name_of(result), target_of(result)
        told = [
            QUALIFIERS[key].format(result[key])
            for key in QUALIFIERS
            if result.get(key) is not None and len(qualifiers[target, key]) > 1
        ]
        model = f"{name} {precision_of(result)}".strip() if len(precisions[name]) > 1 else name
        entries.append(Entry(result, name, model, " · ".join((target, *told))))
    return entries


def name_of(result: Mapping[str, Any]) -> str:
    """The model's name."""
    return str(result.get("model") or "model")


def target_of(result: Mapping[str, Any]) -> str:
    """The target's name."""
    return str(result.get("target") or "target")


def precision_of(result: Mapping[str, Any]) -> str:
    """Float or INT8, as the stage says; empty where there is none."""
    stage = result.get("stage")
    return "" if stage is None else "INT8" if str(stage).endswith("int8") else "float"


def once(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once, in the order in which they come."""
    return tuple(dict.fromkeys(names))
