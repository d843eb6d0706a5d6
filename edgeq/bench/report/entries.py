"""Results and what they are called in a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

QUALIFIERS = {"runtime": "{}", "threads": "threads {}", "batch": "batch {}", "cuda_graphs": "CUDA graphs"}
"""What tells results of one target apart."""

_PRECISIONS = {"float32": "float", "int8": "INT8"}


@dataclass(frozen=True)
class Entry:
    """A result and its names: the model with its precision where it has several, and the place where it ran.

    place: the target, with the batch where there are several. where: the same without the batch.
    """

    result: Mapping[str, Any]
    name: str
    model: str
    place: str
    where: str


def entries_of(results: Sequence[Mapping[str, Any]]) -> list[Entry]:
    """Names for results: a model's tell its precisions apart, a target's its runtimes, threads and batches."""
    precisions: dict[str, set[str]] = {}
    qualifiers: dict[tuple[str, str], set[Any]] = {}
    for result in results:
        precisions.setdefault(name_of(result), set()).add(precision_of(result))
        for key in QUALIFIERS:
            if result.get(key) is not None:
                qualifiers.setdefault((target_of(result), key), set()).add(result[key])
            elif key == "cuda_graphs":
                qualifiers.setdefault((target_of(result), key), set()).add(None)
    entries = []
    for result in results:
        name, target = name_of(result), target_of(result)
        told = {
            key: QUALIFIERS[key].format(result[key])
            for key in QUALIFIERS
            if result.get(key) is not None and len(qualifiers[target, key]) > 1
        }
        model = f"{name} {precision_of(result)}".strip() if len(precisions[name]) > 1 else name
        where = " · ".join((target, *(words for key, words in told.items() if key != "batch")))
        entries.append(Entry(result, name, model, " · ".join((target, *told.values())), where))
    return entries


def by_batch(entries: Sequence[Entry]) -> tuple[list[Entry], list[Entry]]:
    """The smallest batch of each model in each place, and all batches of those that have several."""
    batches: dict[tuple[str, str], set[int]] = {}
    for entry in entries:
        batches.setdefault((entry.model, entry.where), set()).add(entry.result.get("batch", 1))
    smallest = [one for one in entries if one.result.get("batch", 1) == min(batches[one.model, one.where])]
    return smallest, [one for one in entries if len(batches[one.model, one.where]) > 1]


def name_of(result: Mapping[str, Any]) -> str:
    """The model's name."""
    return str(result.get("model") or "model")


def target_of(result: Mapping[str, Any]) -> str:
    """The target's name."""
    return str(result.get("target") or "target")


def precision_of(result: Mapping[str, Any]) -> str:
    """Float, INT8, or what else is said; of what says none as the stage does; empty where there is neither."""
    stage = result.get("stage")
    of_stage = "" if stage is None else "INT8" if str(stage).endswith("int8") else "float"
    said = result.get("precision")
    return of_stage if said is None else _PRECISIONS.get(str(said), str(said))


def once(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once, in the order in which they come."""
    return tuple(dict.fromkeys(names))
