"""All of a model that becomes C, for one folder: network, front end, decision rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeq.audio.frontend import FrontendSpec
from edgeq.cortexm import decision, emit, frontend
from edgeq.cortexm.targets import Target
from edgeq.decision import DecisionRule
from edgeq.errors import InputError
from edgeq.graph.ir import Graph, Quantization


@dataclass(frozen=True)
class Project:
    """files: bytes by file name. network: what of them is the network. notes: what has no C, and why."""

    files: dict[str, bytes]
    network: emit.Sources
    notes: tuple[str, ...]


def project(
    graph: Graph,
    name: str,
    labels: Sequence[str],
    spec: FrontendSpec,
    rule: DecisionRule,
    target: Target | None = None,
) -> Project:
    """The C of an INT8 graph with what stands before and after it; the same bytes every time.

    A front end or rule that has no C is left out and noted. Raises InputError and CheckFailed as `emit.emit`.
    """
    network = emit.emit(graph, name, labels, target)
    files = dict(network.files)
    notes = []
    try:
        files |= frontend.emit(spec, _quantization(graph, graph.input), name).files
        files |= decision.emit(rule, _quantization(graph, graph.output), len(labels), name)
    except InputError as error:
        notes.append(f"C of the network alone: {error}")
    return Project({path: text.encode() for path, text in sorted(files.items())}, network, tuple(notes))


def _quantization(graph: Graph, name: str) -> Quantization:
    parameters = graph.tensors[name].quantization
    assert parameters is not None  # `emit` takes INT8 graphs only
    return parameters
