"""Select the form of each quaternion layer: as told, by a table, or by timing both on the machine at hand."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import numpy as np

from edgeq import runtime as runtimes
from edgeq.errors import InputError
from edgeq.export.choice import BLOCK, FAST, STYLES, Choice, Times, layers, read_table, table
from edgeq.export.onnx import to_onnx
from edgeq.export.tflite import to_tflite
from edgeq.graph import ir
from edgeq.lowering.fast import lower_fast, quaternion_layers, worthwhile
from edgeq.progress import progress
from edgeq.runtime import Runtime

AUTO = "auto"

RUNTIMES = {"onnx": ("onnxruntime", "onnxruntime"), "tflite": ("litert", "ai-edge-litert")}
"""The runtime that each float format is timed in, and the package that it comes in."""

WORTH = 0.97
"""Ratio of fast to block below which fast is chosen; above it lies the noise, and nobody's gain."""

ROUNDS = 15
"""Pairs of samples."""

SAMPLE_SECONDS = 0.01
"""Least length of a sample: what runs shorter runs several times."""

_WRITERS: dict[str, Callable[[ir.Graph], bytes]] = {"onnx": to_onnx, "tflite": to_tflite}


@dataclass(frozen=True, eq=False)
class Selection:
    """Choices by format, none where every layer is block; the table that says so, where one is kept; what to tell."""

    choices: Mapping[str, Choice]
    table: bytes | None = None
    notes: tuple[str, ...] = ()


def check_lowering(lowering: str | Path, int8: bool) -> None:
    """Raises InputError where `select` would not know what `lowering` asks for, or INT8 files are asked to be fast."""
    if lowering == FAST and int8:
        raise InputError(
            "--lowering fast with --int8: INT8 stays block, since fast would round more sums to eight bits; "
            "leave out --int8, or say --lowering auto"
        )
    if lowering not in (BLOCK, FAST, AUTO) and not Path(lowering).is_file():
        raise InputError(
            f"--lowering {lowering}: expected {BLOCK}, {FAST}, {AUTO}, or the file of a table that {AUTO} wrote"
        )


def select(graph: ir.Graph, lowering: str | Path, forms: Sequence[str]) -> Selection:
    """What each quaternion layer becomes in the float files of these formats.

    lowering: BLOCK; FAST, for all that are `worthwhile`; AUTO, by timing; or a table that AUTO wrote into a bundle.
    Raises InputError where the table is none or of another network, or fast is asked of a network without such layers.
    """
    if lowering == BLOCK:
        return Selection({})
    quaternion = quaternion_layers(graph)
    if lowering == FAST:
        fast = worthwhile(graph)
        if not fast:
            found = "quaternion convolutions of 4 channels only" if quaternion else "no quaternion convolutions"
            raise InputError(f"{graph.name}: {found}: nothing for --lowering fast to do; leave it out")
        return Selection({form: Choice(layers(graph, fast)) for form in forms})
    if lowering == AUTO:
        if not quaternion:
            return Selection({}, notes=("no quaternion convolutions: --lowering auto had nothing to choose",))
        choices = {form: choose(graph, form) for form in forms}
        slower = [choice for choice in choices.values() if choice.network and not choice.fast]
        notes = (f"{choice.runtime}: what gains alone gains too little as a network: all is block" for choice in slower)
        return Selection(choices, table(choices), tuple(notes))
    return Selection(*read_table(Path(lowering), graph, forms))


def choose(graph: ir.Graph, form: str) -> Choice:
    """The faster form of each quaternion layer in the float file of a format, a key of RUNTIMES, on one thread.

    Each layer that is `worthwhile` is timed alone in both forms, its input given by a small real convolution and its
    output averaged; layers of equal shapes are timed once, and the others stay block. Then the whole network with the
    layers that gained by it is timed against the one in block form; where that does not gain, every layer is block.
    Raises InputError where the runtime is not installed.
    """
    runtime, package = RUNTIMES[form]
    known = worthwhile(graph)
    candidates = {op.output: op for op in graph.ops if isinstance(op, ir.Conv2D) and op.output in known}
    alike = {name: _shapes(graph, op) for name, op in candidates.items()}
    measured: dict[tuple[object, ...], Times] = {}
    with progress(f"{graph.name}: timing {runtime}", len(set(alike.values())) + 1) as advance:
        for name, op in candidates.items():
            if alike[name] not in measured:
                measured[alike[name]] = _timed(_alone(graph, op), [name], form)
                advance(1, name)
        times = {name: measured[shapes] for name, shapes in alike.items()}
        faster = [name for name, found in times.items() if found.ratio < WORTH]
        network = _timed(graph, faster, form) if faster else None
        advance(1, "the whole network")
    fast = faster if network and network.ratio < WORTH else ()
    return Choice(layers(graph, fast, times), network, runtime, metadata.version(package))


def paired(block: Runtime, fast: Runtime, x: np.ndarray) -> Times:
    """Time two runtimes of one thread in turns on one input, after a run of each that is not counted.

    CPU time of this thread, in which they run: other work on the machine does not count, nor does a progress bar.
    """
    repeats = []
    for side in (block, fast):
        side.predict(x)
        repeats.append(math.ceil(SAMPLE_SECONDS / max(_seconds(side, x, 1), 1e-6)))
    samples = np.empty((ROUNDS, 2))
    for row in samples:
        for n, side in enumerate((block, fast)):
            row[n] = _seconds(side, x, repeats[n])
    figures = (*np.median(1000 * samples, axis=0), np.median(samples[:, 1] / samples[:, 0]))
    return Times(*(float(f"{figure:.4g}") for figure in figures))


def _seconds(side: Runtime, x: np.ndarray, repeats: int) -> float:
    start = time.thread_time()
    for _ in range(repeats):
        side.predict(x)
    return (time.thread_time() - start) / repeats


def _timed(graph: ir.Graph, fast: Collection[str], form: str) -> Times:
    """Times of a graph's file of this format in block form, and with these layers in fast form."""
    _, height, width, channels = graph.tensors[graph.input].shape
    x = np.random.default_rng(0).standard_normal((1, channels, height, width)).astype(np.float32)
    with tempfile.TemporaryDirectory(prefix="edgeq-") as scratch:

        def ready(name: str, one: ir.Graph) -> Runtime:
            path = Path(scratch) / f"{name}.{form}"
            path.write_bytes(_WRITERS[form](one))
            return runtimes.open(path, runtime=RUNTIMES[form][0], threads=1)

        return paired(ready("block", graph), ready("fast", lower_fast(graph, fast, STYLES[form])), x)


def _alone(graph: ir.Graph, layer: ir.Conv2D) -> ir.Graph:
    """One layer between a real 1 x 1 convolution, which gives its input, and a mean over the map of its output."""
    _, height, width, channels = graph.tensors[layer.inputs[0]].shape
    weights = np.random.default_rng(0).standard_normal((channels, 1, 1, 4)).astype(np.float32)
    constants = (
        ir.Tensor("given.weight", weights.shape, data=weights),
        ir.Tensor("given.bias", (channels,), data=np.zeros(channels, np.float32)),
        *(graph.tensors[name] for name in layer.inputs[1:]),
    )
    ops = (
        ir.Conv2D(("input", "given.weight", "given.bias"), "given", activation=ir.RELU),
        replace(layer, inputs=("given", *layer.inputs[1:])),
        ir.Mean((layer.output,), "mean", axes=(1, 2)),
    )
    result = graph.tensors[layer.output]
    activations = (
        ir.Tensor("input", (1, height, width, 4)),
        ir.Tensor("given", (1, height, width, channels)),
        result,
        ir.Tensor("mean", (1, result.shape[-1])),
    )
    tensors = {tensor.name: tensor for tensor in (*constants, *activations)}
    return ir.Graph(f"{graph.name}, {layer.output}", tensors, ops, "input", "mean")


def _shapes(graph: ir.Graph, layer: ir.Conv2D) -> tuple[object, ...]:
    """What decides how long a layer takes: equal for layers that need not be timed twice."""
    x, weight, _ = (graph.tensors[name] for name in layer.inputs)
    return x.shape, weight.shape, weight.gain is None, layer.stride, layer.padding
