"""A model's C on a simulated microcontroller, its codes compared with the reference's."""

from __future__ import annotations

from dataclasses import replace
from importlib import metadata
from typing import Any

import numpy as np

from edgeq.bench import frontend
from edgeq.bench.result import COUNTED, SIMULATED, Band, Figure, Layer, Result
from edgeq.bench.subject import Subject, int8_graph
from edgeq.cortexm import build, project, simulate
from edgeq.cortexm.emit import Sources, emit
from edgeq.cortexm.simulate import Count, Run
from edgeq.cortexm.targets import ESTIMATED, Target
from edgeq.errors import CheckFailed, InputError
from edgeq.graph import cost, reference
from edgeq.graph.ir import Graph

_SIMULATED = Figure(SIMULATED, "a simulated Cortex-M that executes the compiled C; cycles by the manuals of its core")

FIGURES = {
    "macs": Figure(COUNTED, "the model's graph"),
    "instructions": _SIMULATED,
    "cycles": _SIMULATED,
    "cycles_per_mac": _SIMULATED,
    "layers": _SIMULATED,
    "flash_bytes": Figure(COUNTED, "the linked program's sections"),
    "ram_bytes": Figure(SIMULATED, "the linked program's sections, and the deepest stack of the simulated run"),
}
"""How the figures of a simulated microcontroller were come by, those of its front end too."""


def measure(graph: Graph, name: str, target: Target) -> Result:
    """What one inference of an INT8 graph costs on a target.

    The input is random, the same every time: what a network costs hardly depends on it.
    Raises InputError where the graph is not INT8 or has an operator without C, or the extra is not installed;
    CheckFailed where it does not fit the target, or gives other codes than the reference.
    """
    sources = emit(graph, name, target=target)
    elf = build.link(sources, target)
    codes = np.random.default_rng(0).integers(-128, 128, (1, *sources.input_shape[1:]), dtype=np.int8)
    run = simulate.simulate(elf, target, sources, codes)
    if not np.array_equal(run.outputs, reference.run(graph, codes).reshape(run.outputs.shape)):
        raise CheckFailed(f"{name}: its C gives other codes on {target.name} than the reference: do not use it")
    macs = sum(layer.macs for layer in cost.layers(graph))
    cycles = round(run.count.cycles / target.cycles.per_m4)
    latency, energy = target.latency_ms(run.board_cycles), target.energy_mj(run.board_cycles)
    return Result(
        model=name,
        target=target.name,
        runtime="c",
        stage="c-int8",
        kind=target.cycles.kind,
        precision="int8",
        latency_ms=Band(latency.low, latency.high, target.cycles.kind, target.sources["cycles"]),
        macs=macs,
        instructions=run.count.instructions,
        cycles=cycles,
        cycles_per_mac=cycles / macs if macs else None,
        # Currents were never simulated: they are other networks' on the same chip, or the maker's.
        energy_mj=Band(energy.low, energy.high, ESTIMATED, target.sources["energy"]),
        flash_bytes=run.flash_bytes,
        ram_bytes=run.ram_bytes,
        layers=_layers(graph, sources, run, target),
        machine=_machine(target),
        figures=FIGURES,
    )


def whole(one: Subject, board: Target) -> Result:
    """What one inference of a model costs on a target, and its front end beside it where the model has one.

    Raises as `measure`; InputError too where the model has no INT8 TFLite file, CheckFailed where both do not fit.
    """
    graph, name = int8_graph(one), one.path.stem if one.bundle is None else one.bundle.name
    result = replace(measure(graph, name, board), model=one.name)
    if one.bundle is None or one.frontend is None:
        return result
    made = project.project(graph, name, one.bundle.labels, one.frontend, one.bundle.decision, board)
    project.sizes(made, board)  # or the front end does not fit beside the network
    quantization = graph.tensors[graph.input].quantization
    assert quantization is not None  # or there was no C of the network
    try:
        front = frontend.measure(one.frontend, quantization, name, board)
    except InputError as error:
        return replace(result, warnings=(*result.warnings, f"without the front end, which has no C: {error}"))
    assert isinstance(front.latency_ms, Band) and isinstance(result.latency_ms, Band)  # both simulated
    slowest = front.latency_ms.high + result.latency_ms.high
    return replace(
        result,
        frontend=front,
        real_time_factor=1e3 * one.frontend.window_hop_seconds / slowest,
        figures={**result.figures, "real_time_factor": Figure(result.kind, result.latency_ms.source)},
    )


def _layers(graph: Graph, sources: Sources, run: Run, target: Target) -> tuple[Layer, ...]:
    """In the order in which they run; those of which nothing is left to compute cost nothing."""
    layers = []
    for emitted, counted in zip(sources.layers, cost.layers(graph), strict=True):
        count = run.by_layer.get(emitted.function, Count())
        cycles = round(count.cycles / target.cycles.per_m4)
        layers.append(Layer(counted.name, counted.op, counted.macs, count.instructions, cycles))
    return tuple(layers)


def _machine(target: Target) -> dict[str, Any]:
    return {
        "part": target.part,
        "core": target.core,
        "clock_mhz": target.clock_mhz,
        "wait_states": target.wait_states,
        "flash_bytes": target.flash.bytes,
        "ram_bytes": target.ram.bytes,
        "compiler": f"ziglang {metadata.version('ziglang')}",
        "simulator": f"unicorn {metadata.version('unicorn')}",
        "sources": dict(target.sources),
    }
