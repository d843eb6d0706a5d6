"""Which form each quaternion layer of an exported file has, and the table by which an export can be repeated."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from edgeq import machine, manifest
from edgeq.errors import InputError, naming
from edgeq.graph import ir
from edgeq.lowering.fast import DEPTHWISE, SUB, lower_fast, quaternion_layers

BLOCK, FAST = "block", "fast"

STYLES = {"onnx": DEPTHWISE, "tflite": SUB}
"""How the runtimes of each format like to hear of differences, see lowering.fast."""

LARGEST_TABLE = 1 << 20
"""Bytes."""

_FORMAT = 1


@dataclass(frozen=True)
class Times:
    """CPU time of both forms in milliseconds, medians; ratio: the median of fast over block in runs of one pair."""

    block_ms: float
    fast_ms: float
    ratio: float


@dataclass(frozen=True)
class Layer:
    """A quaternion convolution: NHWC shapes, its form (BLOCK or FAST), and its times where it was timed."""

    name: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    lowering: str
    times: Times | None = None


@dataclass(frozen=True)
class Choice:
    """The forms of all quaternion layers of one file.

    network: times of the whole network in block form against the one with those layers fast that were the faster for
    it. runtime, version: what was timed. All of these are None where nothing was.
    """

    layers: tuple[Layer, ...]
    network: Times | None = None
    runtime: str | None = None
    version: str | None = None

    @property
    def fast(self) -> tuple[str, ...]:
        """Names of the layers in fast form."""
        return tuple(layer.name for layer in self.layers if layer.lowering == FAST)

    def to_json(self) -> dict[str, Any]:
        """What a table and a report say of it."""
        return asdict(self)


def layers(graph: ir.Graph, fast: Collection[str], times: Mapping[str, Times] | None = None) -> tuple[Layer, ...]:
    """The quaternion layers of a graph in order: these in fast form, the others in block form."""
    known, shapes = set(quaternion_layers(graph)), {name: tensor.shape for name, tensor in graph.tensors.items()}
    return tuple(
        Layer(
            op.output,
            shapes[op.inputs[0]],
            shapes[op.output],
            FAST if op.output in fast else BLOCK,
            (times or {}).get(op.output),
        )
        for op in graph.ops
        if op.output in known
    )


def lowered(graph: ir.Graph, form: str, choice: Choice) -> ir.Graph:
    """The graph as a file of this format, a key of STYLES, holds it."""
    return lower_fast(graph, choice.fast, STYLES[form]) if choice.fast else graph


def table(choices: Mapping[str, Choice]) -> bytes:
    """The choices by format as JSON, with this machine's description."""
    files = {form: choice.to_json() for form, choice in choices.items()}
    return manifest.dump({"format": _FORMAT, "machine": machine.describe(), "files": files})


def read_table(place: Path, graph: ir.Graph, forms: Collection[str]) -> tuple[dict[str, Choice], bytes]:
    """The choices for these formats in a table that `table` wrote, and the table itself.

    Raises InputError naming the file where it is none, lacks a format, or is of another network than the graph's.
    """
    try:
        with place.open("rb") as handle:
            content = handle.read(LARGEST_TABLE + 1)
    except OSError as error:
        raise InputError(
            f"--lowering {place}: {error.strerror or error}; expected block, fast, auto, or a table that auto wrote"
        ) from None
    if len(content) > LARGEST_TABLE:
        raise InputError(f"{place}: over {LARGEST_TABLE >> 20} MiB, expected a table that --lowering auto wrote")
    fields = manifest.parse(place, content, "expected a table that --lowering auto wrote")
    with naming(place):
        if not isinstance(fields, dict) or fields.get("format") != _FORMAT or not isinstance(fields.get("files"), dict):
            raise InputError(f"expected a table of format {_FORMAT}, as --lowering auto writes it")
        return {form: _choice(fields["files"], form, graph) for form in forms}, content


def _choice(files: Mapping[str, Any], form: str, graph: ir.Graph) -> Choice:
    if form not in files:
        raise InputError(f"has no {form}, only {', '.join(files) or 'nothing'}; run: --lowering auto --{form}")
    try:
        found = files[form]
        choice = Choice(
            tuple(_layer(**layer) for layer in found["layers"]),
            _times(found["network"]),
            _text(found["runtime"]),
            _text(found["version"]),
        )
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise InputError(f"{form}: a field is missing or of the wrong kind ({error}); run: --lowering auto") from error
    for stated, actual in zip_longest(choice.layers, layers(graph, choice.fast)):
        if stated is None or replace(stated, times=None) != actual:
            raise InputError(
                f"{form}: is of another network: found {_described(stated)}, expected {_described(actual)}; "
                "run: --lowering auto"
            )
    return choice


def _described(layer: Layer | None) -> str:
    return f"{layer.name:.60} from {layer.input_shape} to {layer.output_shape}" if layer else "no layer more"


def _layer(name: str, input_shape: list[int], output_shape: list[int], lowering: str, times: Any) -> Layer:
    if not isinstance(name, str):
        raise TypeError(f"name {name!r:.100}, expected text")
    if lowering not in (BLOCK, FAST):
        raise ValueError(f"{name:.60}: lowering {lowering!r:.100}, expected {BLOCK} or {FAST}")
    return Layer(name, _shape(input_shape), _shape(output_shape), lowering, _times(times))


def _shape(found: Any) -> tuple[int, ...]:
    if not isinstance(found, list) or not all(type(size) is int for size in found) or len(found) > 4:
        raise TypeError(f"shape {found!r:.100}, expected at most 4 whole numbers")
    return tuple(found)


def _times(found: Any) -> Times | None:
    if found is None:
        return None
    for key, value in found.items():
        if type(value) not in (int, float) or not 0 < value < math.inf:
            raise ValueError(f"{key} {value!r:.100}, expected a positive number")
    return Times(**{key: float(value) for key, value in found.items()})


def _text(found: Any) -> str | None:
    if found is not None and not isinstance(found, str):
        raise TypeError(f"{found!r:.100}, expected text or null")
    return found
