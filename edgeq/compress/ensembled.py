"""From several models to one that answers with their mean: what `edgeq ensemble` does."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq import budget as budgets
from edgeq import bundle, corpora, fresh, goldens, manifest, zoo
from edgeq.audio.frontend import FrontendSpec
from edgeq.batches import batches
from edgeq.bundle import GOLDENS, RANGES, WEIGHTS, Bundle
from edgeq.compress import marginal
from edgeq.compress.ensemble import merge
from edgeq.compress.marginal import Accuracy, Heard
from edgeq.compress.sharing import share
from edgeq.corpora import Corpus
from edgeq.errors import CheckFailed, InputError
from edgeq.goldens import Goldens
from edgeq.graph import quantize
from edgeq.graph.ir import Graph
from edgeq.lowering.trace import lower
from edgeq.nets import arrays
from edgeq.nets.count import Count, count, totals
from edgeq.nets.spec import EnsembleSpec, NetworkSpec
from edgeq.runtime.torch import network as network_of
from edgeq.training.trial import typical_windows

if TYPE_CHECKING:
    from torch import nn


def run(
    models: Sequence[str | Path],
    output: str | Path | None = None,
    *,
    share_tolerance: float | None = None,
    leave_one_out: bool = False,
    data: str | Path | None = None,
    budget: str | None = None,
) -> dict[str, Any]:
    """Merge models into one network that gives the mean of their answers, and write it as a bundle.

    models: zoo names, bundle folders, or architecture names (random weights). output: by default build/ensemble.
    share_tolerance: members take over maps that are so near to an earlier member's, see `sharing.share`. data: a folder
    of labelled recordings: maps are compared and activation ranges observed on them, and accuracy is over all whose
    label the models know, trained on or not. Without it maps are compared on synthetic sounds; ranges are those that
    the members carry, or come from synthetic sounds where maps are shared. leave_one_out: measure the ensemble without
    each member too, before maps are shared. budget: what the outcome has to keep.
    Returns the contract's keys; of each accuracy that of INT8, and as accuracy_float torch's.
    Raises InputError as `merge` and `share` do, where there are no recordings to leave one out on, or output is a
    member; CheckFailed where the budget is exceeded. Nothing is written then.
    """
    if leave_one_out and data is None:
        raise InputError("leaving one out takes recordings to measure accuracy on: add --data DIR")
    named = [str(model) for model in models]
    twice = next((model for model in named if named.count(model) > 1), None)
    if twice is not None:
        raise InputError(f"{twice}: named twice: it would count double; name it once")
    destination = Path(output) if output else Path("build") / "ensemble"
    name = manifest.checked_name(destination.resolve().name)
    bundle.check_place(destination)
    limits = budgets.find(budget) if budget else None
    corpus = None if data is None else corpora.open(data)
    with tempfile.TemporaryDirectory(prefix="edgeq-") as scratch:
        members = [_opened(model, Path(scratch) / str(number)) for number, model in enumerate(named)]
        for member in members:
            if destination.resolve() == member.folder.resolve():
                raise InputError(f"{destination}: is the member {member.name} itself; choose another folder with -o")
        hears = members[0].frontend
        whole = _Made(*merge(members), hears)
        heard = None if corpus is None else marginal.listen(corpus, members[0].labels, hears)
        typical = None if heard is None else typical_windows(heard.logmels, hears)
        made, told = whole, None
        if share_tolerance is not None:
            compared = goldens.inputs(range(goldens.COUNT), hears) if typical is None else typical
            network, spec, notes = share(whole.network, whole.spec, share_tolerance, compared)
            made = _Made(network, spec, hears)
            told = _shared(whole, made, members, share_tolerance, corpus, notes)
        if limits is not None:
            _check_budget(limits, f"{name} is over the budget {budget}", made)
        result = {
            "bundle": str(destination),
            "name": name,
            "members": [_costs(member.architecture, member) for member in members],
            "parameters": made.costs.parameters,
            "macs": made.costs.macs,
            "budget": None if limits is None else {"name": limits.name, "ok": True, "reasons": []},
            **({"shared": told} if told else {}),
        }
        if heard is not None and typical is not None:
            _measure(result, members, whole, made, heard, typical, leave_one_out)
        _write(destination, name, made, members, told, _ranges(made, members, typical, corpus))
    return result


@dataclass(frozen=True, eq=False)
class _Made:
    """An ensemble before it is a bundle."""

    network: nn.Module
    spec: EnsembleSpec
    frontend: FrontendSpec

    @cached_property
    def costs(self) -> Count:
        return count(self.spec, self.frontend)

    def graph(self) -> Graph:
        return lower(self.network, self.spec)

    def int8_graph(self, windows: np.ndarray) -> Graph:
        """Quantized by the ranges on windows (n, components, mels, frames)."""
        graph = self.graph()
        return quantize.quantize(graph, _observed(graph, windows))

    def predict(self, features: np.ndarray) -> np.ndarray:
        return arrays.probabilities(self.network, self.spec.output, features)


def _check_budget(limits: budgets.Budget, over: str, made: _Made) -> None:
    """Raises CheckFailed where an ensemble exceeds a budget. over: how the error begins."""
    if reasons := limits.judge(made.costs.parameters["lowered"], made.costs.macs["network"]):
        raise CheckFailed(f"{over}: {'; '.join(reasons)}; nothing was written")


def _write(
    destination: Path,
    name: str,
    made: _Made,
    members: Sequence[Bundle],
    shared: dict[str, Any] | None,
    ranges: tuple[quantize.Ranges, str],
) -> None:
    """Write the bundle; ranges: of activations, and what they come from."""
    bundle.write(
        destination,
        name=name,
        architecture=made.spec,
        frontend=made.frontend,
        labels=members[0].labels,
        weights=arrays.weights(made.network),
        ranges=ranges[0],
        goldens=_goldens(made, members),
        decision=members[0].decision.without_events(),
        provenance={
            "members": [{**_identity(member), "provenance": dict(member.provenance)} for member in members],
            **({"shared": shared} if shared else {}),
            "ranges": ranges[1],
            "edgeq": version("edgeq"),
        },
        licence=" AND ".join(dict.fromkeys(member.licence for member in members if member.licence)),
        metrics=totals(made.spec, made.frontend),
    )


def _opened(model: str, scratch: Path) -> Bundle:
    return fresh.write(model, scratch) if zoo.is_architecture(model) else zoo.find(model)


def _identity(member: Bundle) -> dict[str, Any]:
    return {"name": member.name, "weights_sha256": member.files[WEIGHTS].sha256}


def _costs(architecture: NetworkSpec, member: Bundle) -> dict[str, Any]:
    costs = totals(architecture, member.frontend)
    return {**_identity(member), "parameters": costs["parameters"], "macs": costs["macs"]}


def _shared(
    whole: _Made,
    made: _Made,
    members: Sequence[Bundle],
    tolerance: float,
    corpus: Corpus | None,
    notes: Sequence[str],
) -> dict[str, Any]:
    """What members take over, and what that saves."""
    places = dict.fromkeys((entry.member, entry.layer, entry.source) for entry in made.spec.shared)
    before, after = whole.costs, made.costs
    return {
        "tolerance": tolerance,
        "compared_on": "synthetic sounds" if corpus is None else corpus.name,
        "maps": sum(entry.channels for entry in made.spec.shared),
        "layers": [
            {
                "member": members[member].name,
                "layer": layer,
                "source": members[source].name,
                "maps": sum(one.channels for one in made.spec.borrowed(member, layer) if one.source == source),
            }
            for member, layer, source in places
        ],
        "parameters_saved": before.parameters["with_statistics"] - after.parameters["with_statistics"],
        "macs_saved": before.macs["network"] - after.macs["network"],
        "before": {"parameters": before.parameters, "macs": before.macs},
        "notes": list(notes),
    }


def _measure(
    result: dict[str, Any],
    members: Sequence[Bundle],
    whole: _Made,
    made: _Made,
    heard: Heard,
    typical: np.ndarray,
    leave_one_out: bool,
) -> None:
    """Add accuracies to the result: of each member, of all, before maps were shared and after, of all but each."""
    numbers = range(len(members))
    everyone, hears = tuple(numbers), whole.frontend
    rests = [tuple(other for other in numbers if other != number) for number in numbers] if leave_one_out else []
    predicts = [partial(arrays.probabilities, network_of(member), whole.spec.output) for member in members]
    groups = dict.fromkeys([everyone, *((number,) for number in numbers), *rests])
    found = marginal.accuracies(predicts, whole.int8_graph(typical), groups, heard, hears)
    result["clips"] = len(heard.logmels)
    for number, told in enumerate(result["members"]):
        told |= found[(number,)].to_json()
    result |= found[everyone].to_json()
    if made is not whole:
        result["shared"]["before"] |= found[everyone].to_json()
        result |= marginal.accuracy_of(made.predict, made.int8_graph(typical), heard, hears).to_json()
    if leave_one_out:
        result["leave_one_out"] = [
            _without(whole, member, rest, found[rest], found[everyone])
            for member, rest in zip(members, rests, strict=True)
        ]


def _without(
    whole: _Made, member: Bundle, rest: tuple[int, ...], its: Accuracy, all_of_them: Accuracy
) -> dict[str, Any]:
    """What is left without a member; gain: what it adds to the accuracy of INT8."""
    others = tuple(whole.spec.members[number] for number in rest)
    costs = totals(EnsembleSpec(others) if len(others) > 1 else others[0], whole.frontend)
    return {
        "without": member.name,
        "parameters": costs["parameters"],
        "macs": costs["macs"],
        **its.to_json(),
        "gain": all_of_them.int8 - its.int8,
    }


def _observed(graph: Graph, windows: np.ndarray) -> quantize.Ranges:
    return quantize.observe(graph, (np.moveaxis(few, 1, -1) for few in batches(windows, keep=True)))


def _ranges(
    made: _Made, members: Sequence[Bundle], typical: np.ndarray | None, corpus: Corpus | None
) -> tuple[quantize.Ranges, str]:
    """Activation ranges, and what they come from."""
    graph = made.graph()
    if typical is not None and corpus is not None:
        return _observed(graph, typical), corpus.name
    own = None if made.spec.shared else _ranges_of_members(graph, members)
    if own is not None:
        return own, "those of the members"
    return _observed(graph, goldens.inputs(range(goldens.COUNT), made.frontend)), "synthetic sounds"


def _ranges_of_members(graph: Graph, members: Sequence[Bundle]) -> quantize.Ranges | None:
    """The ranges that the members carry, by the names of the ensemble's graph; None where one carries none."""
    found: quantize.Ranges = {}
    ops = iter(graph.ops)
    answers: list[tuple[float, float]] = []
    for member in members:
        if RANGES not in member.files:
            return None
        ranges, alone = member.ranges(), lower(network_of(member), member.architecture)
        if not {alone.input, *(op.output for op in alone.ops)} <= set(ranges):
            return None
        found[graph.input] = _union([ranges[alone.input], found.get(graph.input, ranges[alone.input])])
        # Members are lowered one after another, each as it would be alone but for its probabilities at the end.
        found |= {next(ops).output: ranges[op.output] for op in alone.ops[:-1]}
        answers.append(ranges[alone.output])
    found |= {next(ops).output: answer for answer in answers}
    return found | {op.output: _union(answers) for op in ops}


def _union(ranges: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _goldens(made: _Made, members: Sequence[Bundle]) -> Goldens:
    """The gate: top-1 agreement, unless no member can be gated on it or too few synthetic sounds are decided upon."""
    if any(GOLDENS not in member.files or member.goldens().gate == goldens.TOP1 for member in members):
        return goldens.choose(made.predict, made.frontend)
    seeds = np.arange(goldens.COUNT, dtype=np.int64)
    outputs = made.predict(goldens.inputs(seeds, made.frontend))
    return Goldens(seeds, outputs, goldens.SQNR)
