"""All of a model that becomes C, for one folder: network, front end, decision rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeq.audio.frontend import FrontendSpec
from edgeq.cortexm import build, decision, emit, frontend
from edgeq.cortexm.build import Surroundings
from edgeq.cortexm.targets import Target
from edgeq.decision import DecisionRule
from edgeq.errors import InputError
from edgeq.graph.ir import Graph, Quantization


@dataclass(frozen=True)
class Project:
    """files: bytes by file name. network: what of them is the network; around: the rest, where it has C.

    notes: what has no C, and why.
    """

    files: dict[str, bytes]
    network: emit.Sources
    around: Surroundings | None
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
    around, notes = None, []
    try:
        around = _around(graph, name, labels, spec, rule)
    except InputError as error:
        notes.append(f"C of the network alone: {error}")
    files = {**network.files, **(around.files if around else {})}
    return Project({path: text.encode() for path, text in sorted(files.items())}, network, around, tuple(notes))


def sizes(made: Project, target: Target) -> build.Sizes:
    """What all of a model's C takes of a target: the network, and what stands around it.

    A clip's sums and the samples that a microphone fills are the firmware's, and not in it. Raises CheckFailed where it
    does not fit, as `build.link`.
    """
    return build.sizes(build.link(made.network, target, made.around))


def told(made: Project, target: Target | None) -> list[str]:
    """What a model's C takes, a line each; target: where it has to fit. Raises CheckFailed as `sizes`."""
    network = made.network
    lines = [
        f"C of the network: {network.arena_bytes:,} bytes of RAM, {network.constants:,} bytes of constants in flash"
    ]
    if target is not None:
        taken = sizes(made, target)
        what = "the network takes" if made.around is None else "network and front end take"
        lines.append(
            f"{target.name}: {what} {taken.flash:,} of {target.flash.bytes:,} bytes of flash, "
            f"{taken.ram:,} of {target.ram.bytes:,} bytes of RAM; {build.STACK_BYTES:,} more were kept for the stack"
        )
    return lines


def _around(graph: Graph, name: str, labels: Sequence[str], spec: FrontendSpec, rule: DecisionRule) -> Surroundings:
    before = frontend.emit(spec, _quantization(graph, graph.input), name)
    after = decision.emit(rule, _quantization(graph, graph.output), len(labels), name, labels)
    functions = (*frontend.FUNCTIONS, *decision.functions(rule))
    return Surroundings({**before.files, **after}, tuple(f"{before.prefix}_{function}" for function in functions))


def _quantization(graph: Graph, name: str) -> Quantization:
    parameters = graph.tensors[name].quantization
    assert parameters is not None  # `emit` takes INT8 graphs only
    return parameters
