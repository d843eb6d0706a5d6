"""CONCATENATION, SLICE, PAD and TRANSPOSE: codes that move."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgeq.cortexm.ops.calls import call
from edgeq.cortexm.ops.code import Code, zero_point
from edgeq.errors import InputError
from edgeq.graph import ir

_HEADERS = ("edgeq_copy.h",)


def concatenation(op: ir.Op, graph: ir.Graph, name: str) -> Code:
    """The rows of each input beside those of the others."""
    assert isinstance(op, ir.Concatenation)
    rows, stride = _rows(graph.tensors[op.output].shape, op.axis)
    lines, begin = [], 0
    for number, source in enumerate(op.inputs):
        _, bytes_ = _rows(graph.tensors[source].shape, op.axis)
        lines.append(call("edgeq_copy_rows", f"x{number}", bytes_, f"y + {begin}", stride, rows, bytes_))
        begin += bytes_
    return Code("\n".join(lines), headers=_HEADERS)


def slice_(op: ir.Op, graph: ir.Graph, name: str) -> Code:
    """Part of each row."""
    assert isinstance(op, ir.Slice)
    shape = graph.tensors[op.inputs[0]].shape
    rows, stride = _rows(shape, op.axis)
    each = stride // shape[op.axis]
    begin = f"x0 + {op.begin * each}"
    if op.step == 1:
        return Code(call("edgeq_copy_rows", begin, stride, "y", op.size * each, rows, op.size * each), headers=_HEADERS)
    return Code(call("edgeq_copy_steps", begin, stride, "y", rows, op.size, op.step, each), headers=_HEADERS)


def pad(op: ir.Op, graph: ir.Graph, name: str) -> Code:
    """Rows and columns, and where channels are padded too, each column like a row before."""
    assert isinstance(op, ir.Pad)
    _, height, width, channels = graph.tensors[op.inputs[0]].shape
    above, below, left, right = op.padding
    code = zero_point(graph, op.output)
    if not any(op.channels):
        sizes = (height, width * channels, above, below, left * channels, right * channels)
        return Code(call("edgeq_pad", "x0", "y", *sizes, code), headers=_HEADERS)
    wide = channels + sum(op.channels)
    rows, columns = height + above + below, width + left + right
    lines = [
        f"edgeq_fill(y, {code}, {rows * columns * wide});",
        f"for (int32_t row = 0; row < {height}; ++row) {{",
        f"  int8_t *to = y + ((row + {above}) * {columns} + {left}) * {wide} + {op.channels[0]};",
        "  " + call("edgeq_copy_rows", f"x0 + row * {width * channels}", channels, "to", wide, width, channels),
        "}",
    ]
    return Code("\n".join(lines), headers=_HEADERS)


def transpose(op: ir.Op, graph: ir.Graph, name: str) -> Code:
    """Axes that stay neighbours move as one; none that moves: the output is the input as it lies."""
    assert isinstance(op, ir.Transpose)
    shape = graph.tensors[op.inputs[0]].shape
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    axes: list[tuple[int, int]] = []
    for axis in op.permutation:
        if shape[axis] == 1:
            continue
        if axes and axes[-1][1] == shape[axis] * strides[axis]:
            axes[-1] = (axes[-1][0] * shape[axis], strides[axis])
        else:
            axes.append((shape[axis], strides[axis]))
    if len(axes) <= 1:
        return Code("")
    if len(axes) > 4:
        raise InputError(f"{graph.name}: TRANSPOSE {op.output!r}: {len(axes)} axes that move: expected 4 at most in C")
    axes = [(1, 0)] * (4 - len(axes)) + axes
    sizes, steps = zip(*axes, strict=True)
    return Code(call("edgeq_transpose", "x0", "y", *sizes, *steps), headers=_HEADERS)


def _rows(shape: Sequence[int], axis: int) -> tuple[int, int]:
    """How many pieces an axis is in, and the bytes of a whole piece."""
    place = axis % len(shape)
    return math.prod(shape[:place]), math.prod(shape[place:])
