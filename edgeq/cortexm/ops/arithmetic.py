"""ADD, SUB and MUL, of two activations or one and a constant."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgeq.cortexm.ops import arrays
from edgeq.cortexm.ops.calls import call, struct
from edgeq.cortexm.ops.code import Code, activation_limits, scale, zero_point
from edgeq.errors import InputError
from edgeq.graph import ir
from edgeq.graph.fixed_point import quantize_multiplier
from edgeq.graph.int8_kernels import SUM_LEFT_SHIFT

_SIDES = ("left", "right")


def add(op: ir.Op, graph: ir.Graph, name: str) -> Code:
    """Inputs are brought to twice the larger scale with more bits, their sum or difference to the output's scale."""
    factors: dict[str, int] = {}
    common = 2 * max(scale(graph, source) for source in op.inputs)
    for side, source in zip(_SIDES, op.inputs, strict=True):
        multiplier, shift = map(int, quantize_multiplier(scale(graph, source) / common))
        factors |= {
            f"{side}_zero_point": zero_point(graph, source),
            f"{side}_multiplier": multiplier,
            f"{side}_shift": shift,
        }
    factors["right_sign"] = -1 if isinstance(op, ir.Sub) else 1
    factors |= _output(op, graph, common / ((1 << SUM_LEFT_SHIFT) * scale(graph, op.output)))
    assert all(value <= 0 for field, value in factors.items() if field.endswith("shift"))  # which graph.check sees to
    return _code("edgeq_add", "edgeq_sum_factors", factors, op, graph, name)


def mul(op: ir.Op, graph: ir.Graph, name: str) -> Code:
    """Products of what lies above the zero points, brought to the output's scale."""
    factors = {f"{side}_zero_point": zero_point(graph, source) for side, source in zip(_SIDES, op.inputs, strict=True)}
    scales = [np.float32(scale(graph, tensor)) for tensor in (*op.inputs, op.output)]
    factors |= _output(op, graph, float(scales[0] * scales[1] / scales[2]))
    return _code("edgeq_multiply", "edgeq_product_factors", factors, op, graph, name)


def _output(op: ir.Op, graph: ir.Graph, real: float) -> dict[str, int]:
    """The factor to the output's scale, its zero point and its limits."""
    multiplier, shift = map(int, quantize_multiplier(real))
    low, high = activation_limits(graph, op)
    zero = zero_point(graph, op.output)
    return {"multiplier": multiplier, "shift": shift, "zero_point": zero, "low": low, "high": high}


def _code(kernel: str, kind: str, factors: dict[str, int], op: ir.Op, graph: ir.Graph, name: str) -> Code:
    result = graph.tensors[op.output].shape
    constants, arguments, in_place = [], [], []
    for source in op.inputs:
        tensor = graph.tensors[source]
        if tensor.data is not None:
            constants.append(arrays.array("int8_t", f"{name}_constant", tensor.data))
            arguments.append(constants[-1].name)
            continue
        number = sum(argument.startswith("x") for argument in arguments)
        arguments.append(f"x{number}")
        if math.prod(tensor.shape) == math.prod(result):
            in_place.append(number)
    axes = _broadcast(result, [graph.tensors[source].shape for source in op.inputs])
    if len(axes) > 4:
        raise InputError(f"{graph.name}: {op.kind} {op.output!r}: {len(axes)} axes: expected 4 at most in C")
    fields: dict[str, int] = {}
    for words, column in zip(("size", *_SIDES), zip(*[(1, 0, 0)] * (4 - len(axes)), *axes, strict=True), strict=True):
        fields |= {f"{words}_{number}": value for number, value in enumerate(column)}
    body = call(kernel, *arguments, "y", struct("edgeq_broadcast", fields), struct(kind, factors))
    return Code(body, tuple(constants), ("edgeq_arithmetic.h",), in_place=tuple(in_place))


def _broadcast(result: Sequence[int], shapes: Sequence[Sequence[int]]) -> list[tuple[int, int, int]]:
    """Axes as (size, stride of the left, stride of the right), neighbours taken together where both step evenly."""
    axes: list[tuple[int, int, int]] = []  # the last axis first
    strides = [1, 1]
    for back, size in enumerate(reversed(result), 1):
        found = [shape[-back] if back <= len(shape) else 1 for shape in shapes]
        steps = [stride if own > 1 else 0 for stride, own in zip(strides, found, strict=True)]
        strides = [stride * own for stride, own in zip(strides, found, strict=True)]
        if size == 1:
            continue
        if axes and all(step == axes[-1][0] * before for step, before in zip(steps, axes[-1][1:], strict=True)):
            axes[-1] = (axes[-1][0] * size, *axes[-1][1:])
        else:
            axes.append((size, steps[0], steps[1]))
    return axes[::-1]
