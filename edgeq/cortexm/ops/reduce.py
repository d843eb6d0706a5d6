"""MEAN and REDUCE_MAX."""

from __future__ import annotations

import math

from edgeq.cortexm.ops.calls import call, struct
from edgeq.cortexm.ops.code import Code, scale, zero_point
from edgeq.errors import InputError
from edgeq.graph import ir
from edgeq.graph.fixed_point import quantize_multiplier


def reduce_max(op: ir.Op, graph: ir.Graph, name: str) -> Code:
    """The largest code."""
    return Code(call("edgeq_reduce_max", "x0", "y", _axes(op, graph)), headers=("edgeq_reduce.h",))


def mean(op: ir.Op, graph: ir.Graph, name: str) -> Code:
    """1 / count is folded into the multiplier, truncated, as the reference kernel does."""
    assert isinstance(op, ir.Mean)
    source = op.inputs[0]
    count = math.prod(graph.tensors[source].shape[axis] for axis in op.axes)
    multiplier, shift = map(int, quantize_multiplier(scale(graph, source) / scale(graph, op.output)))
    halvings = count.bit_length() - 1
    factor = (multiplier << halvings) // count, shift - halvings
    offset = -zero_point(graph, source) * count
    body = call("edgeq_mean", "x0", "y", _axes(op, graph), offset, *factor, zero_point(graph, op.output))
    return Code(body, headers=("edgeq_reduce.h",))


def _axes(op: ir.Op, graph: ir.Graph) -> str:
    """The reduction with neighbouring axes that stay, or go, taken together."""
    assert isinstance(op, ir.Mean | ir.ReduceMax)
    shape = graph.tensors[op.inputs[0]].shape
    groups: list[tuple[bool, int, int]] = []  # over it is reduced, size, stride; the last axis first
    stride = 1
    for axis in reversed(range(len(shape))):
        gone = axis in op.axes
        if shape[axis] == 1:
            continue
        if groups and groups[-1][0] == gone:
            groups[-1] = (gone, groups[-1][1] * shape[axis], groups[-1][2])
        else:
            groups.append((gone, shape[axis], stride))
        stride *= shape[axis]
    fields: dict[str, int] = {}
    for gone, inner, outer in ((False, "inner", "outer"), (True, "over_inner", "over_outer")):
        found = [(size, stride) for group, size, stride in groups if group == gone]
        if len(found) > 2:
            raise InputError(f"{graph.name}: {op.kind} {op.output!r}: axes {op.axes} of {shape}: too scattered for C")
        for place, (size, step) in zip((inner, outer), (*found, (1, 0), (1, 0)), strict=False):
            fields |= {place: size, f"{place}_stride": step}
    return struct("edgeq_reduction", fields)
