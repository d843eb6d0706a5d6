"""An INT8 graph as C: a source and a header that drop into a firmware project, and the kernel headers they need."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata

from edgeq.cortexm import headers, plan
from edgeq.cortexm.fold import without_pads
from edgeq.cortexm.ops import EMITTERS
from edgeq.cortexm.ops.arrays import Array, number
from edgeq.cortexm.ops.code import Code, scale, zero_point
from edgeq.cortexm.targets import Target
from edgeq.errors import CheckFailed, InputError
from edgeq.graph import ir

_LONGEST_NAME, _LONGEST_PREFIX = 40, 60
_RESERVED = {"input", "run", "labels", "arena"}
_C_LIBRARY = {
    "assert", "complex", "ctype", "errno", "fenv", "float", "inttypes", "iso646", "limits", "locale", "math", "setjmp",
    "signal", "stdarg", "stdbool", "stddef", "stdint", "stdio", "stdlib", "string", "tgmath", "time", "wchar", "wctype",
}  # fmt: skip
"""Headers of C99, whose place a model's own would take for whoever adds its folder to the include path."""


@dataclass(frozen=True)
class Layer:
    """One operator's part in the C: function is its name there, empty where nothing is left to compute; sizes in bytes.

    alive: what of the arena it needs at once, with all that waits there for later operators.
    """

    function: str
    kind: str
    output: str
    constants: int
    scratch: int
    alive: int


@dataclass(frozen=True)
class Sources:
    """The C of a model.

    prefix: what its names begin with, and its files' name. files: text by file name. arena_bytes: all memory but the
    stack; lower_bound: what of it is alive at once where most is. constants: bytes of weights, tables and the like.
    input_shape, output_shape: of the codes, with a batch of 1.
    """

    prefix: str
    files: Mapping[str, str]
    arena_bytes: int
    lower_bound: int
    constants: int
    layers: tuple[Layer, ...]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]


def emit(graph: ir.Graph, name: str, labels: Sequence[str] = (), target: Target | None = None) -> Sources:
    """The C of an INT8 graph; the same bytes every time.

    name: the model's, made a C identifier. labels: one an output, or none at all. target: where it is to go.
    Raises InputError where the graph is not quantized, has an operator without C, or labels don't fit its output;
    CheckFailed where its constants alone don't fit the target's flash, before megabytes of C are written and compiled.
    """
    if not graph.quantized:
        raise InputError(f"{graph.name or name}: takes float32: expected an INT8 model; quantize it first")
    outputs = math.prod(graph.tensors[graph.output].shape)
    if labels and len(labels) != outputs:
        raise InputError(f"{name}: {len(labels)} labels for {outputs} outputs: expected one an output")
    prefix = identifier(name)
    operators, graph = graph.ops, without_pads(graph)
    functions = _functions(graph, prefix)
    codes = [_code(op, graph, function) for op, function in zip(graph.ops, functions, strict=True)]
    places = _Places(graph, codes)
    layers = {op.output: Layer("", op.kind, op.output, 0, 0, 0) for op in operators}
    for op, function, code, alive in zip(graph.ops, functions, codes, places.alive, strict=True):
        size = sum(array.bytes for array in code.constants)
        layers[op.output] = Layer(function if code.body else "", op.kind, op.output, size, code.scratch, alive)
    constants = _distinct(code.constants for code in codes)
    if target is not None:
        _check_room(prefix, layers.values(), sum(array.bytes for array in constants), places.plan.bytes, target)
    files = {
        f"{prefix}.h": _header(graph, name, prefix, labels, places.plan.bytes),
        f"{prefix}.c": _source(graph, prefix, labels, list(zip(functions, codes, strict=True)), constants, places),
        **headers.with_includes(["edgeq.h", *(header for code in codes for header in code.headers)]),
    }
    return Sources(
        prefix,
        files,
        places.plan.bytes,
        places.plan.lower_bound,
        sum(array.bytes for array in constants),
        tuple(layers.values()),
        graph.tensors[graph.input].shape,
        graph.tensors[graph.output].shape,
    )


def identifier(name: str) -> str:
    """A model's name as the C identifier that its files and functions begin with."""
    prefix = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower()[:_LONGEST_PREFIX].rstrip("_")
    taken = (
        prefix in _C_LIBRARY or prefix == "edgeq" or prefix.startswith("edgeq_")
    )  # as the kernels' headers are called
    return f"model_{prefix}" if taken or not prefix or prefix[0].isdigit() else prefix


def _check_room(prefix: str, layers: Iterable[Layer], constants: int, arena: int, target: Target) -> None:
    if constants <= target.flash.bytes:
        return
    most = max(layers, key=lambda layer: layer.constants)
    reason = (
        f"{constants - target.flash.bytes:,} bytes of flash too many, the code not counted ({constants:,} of "
        f"{target.flash.bytes:,}; {most.kind} {most.output!r} holds most, {most.constants:,})"
    )
    if arena > target.ram.bytes:
        reason += f", and {arena - target.ram.bytes:,} bytes of RAM, the stack not counted"
    raise CheckFailed(f"{prefix} does not fit {target.name}: {reason}")


class _Places:
    """Where activations and scratch lie in the arena."""

    def __init__(self, graph: ir.Graph, codes: Sequence[Code]) -> None:
        self._roots = {graph.input: graph.input}
        for op, code in zip(graph.ops, codes, strict=True):
            self._roots[op.output] = op.output if code.body else self._roots[op.inputs[0]]
        first, last = {graph.input: 0}, {graph.input: 0}
        end = max(len(graph.ops) - 1, 0)
        for step, op in enumerate(graph.ops):
            for tensor in (*activations(op, graph), op.output):
                root = self._roots[tensor]
                first.setdefault(root, step)
                last[root] = step
        last[self._roots[graph.output]] = end + 1
        buffers = [
            plan.Buffer(root, math.prod(graph.tensors[root].shape), step, min(last[root], end), ())
            for root, step in first.items()
        ]
        over: dict[str, tuple[str, ...]] = {}
        for step, (op, code) in enumerate(zip(graph.ops, codes, strict=True)):
            inputs = activations(op, graph)
            roots = [self._roots[inputs[number]] for number in code.in_place]
            over[op.output] = tuple(dict.fromkeys(root for root in roots if last[root] == step))
            if code.scratch:
                buffers.append(plan.Buffer(_scratch(op), code.scratch, step, step))
        buffers = [
            plan.Buffer(buffer.name, buffer.bytes, buffer.first, buffer.last, over.get(buffer.name, ()))
            for buffer in buffers
        ]
        self.plan = plan.plan(buffers)
        self.alive = [plan.alive(buffers, step) for step in range(len(graph.ops))]

    def offset(self, tensor: str) -> int:
        return self.plan.offsets[self._roots[tensor]]

    def scratch(self, op: ir.Op) -> int:
        return self.plan.offsets[_scratch(op)]


def activations(op: ir.Op, graph: ir.Graph) -> list[str]:
    """An operator's inputs that are not constants."""
    return [name for name in op.inputs if graph.tensors[name].data is None]


def _scratch(op: ir.Op) -> str:
    return f"{op.output}\nscratch"  # which no tensor is called


def _code(op: ir.Op, graph: ir.Graph, function: str) -> Code:
    if op.kind not in EMITTERS:
        raise InputError(f"{graph.name}: {op.kind} {op.output!r}: has no C; these have: {', '.join(EMITTERS)}")
    return EMITTERS[op.kind](op, graph, function)


def _functions(graph: ir.Graph, prefix: str) -> list[str]:
    """A C name for each operator, after its output; TensorFlow strings the names of fused layers together by `;`."""
    taken = set(_RESERVED)
    names = []
    for op in graph.ops:
        stem = re.sub(r"\W+", "_", op.output.split(";")[0], flags=re.ASCII).strip("_").lower()
        stem = stem[-_LONGEST_NAME:].strip("_") or op.kind.lower()
        word, count = stem, 1
        while word in taken:
            count += 1
            word = f"{stem}_{count}"
        taken.add(word)
        names.append(f"{prefix}_{word}")
    return names


def _distinct(groups: Iterable[tuple[Array, ...]]) -> list[Array]:
    """All constants in order, those of one name once."""
    found: dict[str, Array] = {}
    for group in groups:
        for array in group:
            assert found.setdefault(array.name, array) == array, f"two constants called {array.name}"
    return list(found.values())


def _header(graph: ir.Graph, name: str, prefix: str, labels: Sequence[str], arena_bytes: int) -> str:
    upper = prefix.upper()
    taken, given = graph.tensors[graph.input], graph.tensors[graph.output]
    licence = graph.metadata.get("licence")
    facts = {
        "INPUT_BYTES": math.prod(taken.shape),
        "OUTPUT_BYTES": math.prod(given.shape),
        "CLASSES": math.prod(given.shape),
        "ARENA_BYTES": arena_bytes,
        "INPUT_SCALE": number(scale(graph, graph.input)),
        "INPUT_ZERO_POINT": f"({zero_point(graph, graph.input)})",
        "OUTPUT_SCALE": number(scale(graph, graph.output)),
        "OUTPUT_ZERO_POINT": f"({zero_point(graph, graph.output)})",
    }
    macros = "\n".join(f"#define {upper}_{key} {value}" for key, value in facts.items())
    words = ""
    if labels:
        words = f"/* What each output stands for. */\nextern const char *const {prefix}_labels[{upper}_CLASSES];\n\n"
    return f"""/* {_comment(name)}: an INT8 model, written by edgeq {metadata.version("edgeq")}.
{f"   Licence of the model: {_comment(licence)}." if licence else "   The model's licence is not stated in it."}
   SPDX-License-Identifier of the code: Apache-2.0

   Input: {" x ".join(map(str, taken.shape))} codes, the last axis fastest. Output: {" x ".join(map(str, given.shape))}.
   code = round(value / SCALE) + ZERO_POINT, limited to -128..127; value = (code - ZERO_POINT) * SCALE.

     int8_t *input = {prefix}_input();
     ... write {upper}_INPUT_BYTES codes to input ...
     const int8_t *output = {prefix}_run();

   Write the whole input before each run: its memory is used again. One arena serves all calls, which is all memory but
   the stack: run it from one thread at a time. */
#ifndef {upper}_H
#define {upper}_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

{macros}

{words}/* Where the input's codes go; they are gone after a run. */
int8_t *{prefix}_input(void);

/* Runs the model. Returns the output's codes, which stay until the input is written or the model runs again. */
const int8_t *{prefix}_run(void);

#ifdef __cplusplus
}}
#endif

#endif
"""


def _source(
    graph: ir.Graph,
    prefix: str,
    labels: Sequence[str],
    layers: Sequence[tuple[str, Code]],
    constants: Sequence[Array],
    places: _Places,
) -> str:
    upper = prefix.upper()
    used = dict.fromkeys(["edgeq.h", *(header for _, code in layers for header in code.headers)])
    includes = "\n".join(f'#include "{header}"' for header in (f"{prefix}.h", *used))
    parts = [f"{includes}\n\nstatic EDGEQ_ALIGNED({plan.ALIGNMENT}) int8_t {prefix}_arena[{upper}_ARENA_BYTES];"]
    parts += [array.declaration for array in constants]
    calls = []
    for op, (function, code) in zip(graph.ops, layers, strict=True):
        if code.body:
            parts.append(_function(graph, op, function, code))
            calls.append(_call(graph, prefix, op, function, code, places))
    if labels:
        words = ",\n  ".join(_string(label) for label in labels)
        parts.append(f"const char *const {prefix}_labels[{upper}_CLASSES] = {{\n  {words}\n}};")
    parts.append(
        f"int8_t *{prefix}_input(void)\n{{\n  return {prefix}_arena + {places.offset(graph.input)};\n}}\n\n"
        f"const int8_t *{prefix}_run(void)\n{{\n{''.join(calls)}"
        f"  return {prefix}_arena + {places.offset(graph.output)};\n}}"
    )
    return "\n\n".join(parts) + "\n"


def _function(graph: ir.Graph, op: ir.Op, function: str, code: Code) -> str:
    shapes = [" x ".join(map(str, graph.tensors[name].shape[1:])) for name in (*activations(op, graph), op.output)]
    parameters = [f"const int8_t *x{number}" for number in range(len(shapes) - 1)] + ["int8_t *y"]
    if code.scratch:
        parameters.append("int8_t *scratch")
    body = "".join(f"  {line}\n" if line else "\n" for line in code.body.strip("\n").split("\n"))
    told = f"/* {op.kind}: {', '.join(shapes[:-1])} to {shapes[-1]} */"
    return f"{told}\nstatic EDGEQ_NOINLINE void {function}({', '.join(parameters)})\n{{\n{body}}}"


def _call(graph: ir.Graph, prefix: str, op: ir.Op, function: str, code: Code, places: _Places) -> str:
    offsets = [places.offset(tensor) for tensor in (*activations(op, graph), op.output)]
    if code.scratch:
        offsets.append(places.scratch(op))
    return f"  {function}({', '.join(f'{prefix}_arena + {offset}' for offset in offsets)});\n"


def _string(text: str) -> str:
    """A C string: what is not plain ASCII as octal bytes of its UTF-8, question marks so that none is a trigraph."""
    plain = {chr(code) for code in range(32, 127)} - set('"\\?')
    return '"' + "".join(c if c in plain else "".join(f"\\{b:03o}" for b in c.encode()) for c in text) + '"'


def _comment(text: str | None) -> str:
    """Words that can't end the comment they stand in."""
    return re.sub(r"[^\x20-\x7e]+", " ", text or "").replace("*/", "* /").replace("/*", "/ *")
