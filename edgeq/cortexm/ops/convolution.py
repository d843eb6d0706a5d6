"""CONV_2D in C."""

from __future__ import annotations

import math

from edgeq.cortexm.ops.arrays import array
from edgeq.cortexm.ops.code import Code, activation_limits, zero_point
from edgeq.cortexm.ops.sums import Rescaling, in_pairs, rescaling
from edgeq.graph import ir


def convolution(op: ir.Op, graph: ir.Graph, name: str) -> Code:
    """Patches of the input, by pairs of codes, times all filters."""
    assert isinstance(op, ir.Conv2D)
    weight = graph.tensors[op.inputs[1]].data
    assert weight is not None
    scaling = rescaling(op, graph)
    pairs = in_pairs(weight.reshape(len(weight), math.prod(weight.shape[1:])))
    constants = (
        array("int8_t", f"{name}_weights", pairs, align=4),
        array("int32_t", f"{name}_parameters", scaling.parameters),
    )
    return Code(
        f"edgeq_convolution({map_literal(op, graph, scaling)},\n"
        f"                  x0, {name}_weights, {name}_parameters, scratch, y);",
        constants,
        ("convolution.h",),
        scratch=_scratch(op, graph),
        in_place=(0,) if _in_place(op, graph) else (),
    )


def map_literal(op: ir.Conv2D | ir.DepthwiseConv2D, graph: ir.Graph, scaling: Rescaling) -> str:
    """A layer's `edgeq_map`, see kernels/map.h."""
    _, height, width, channels = graph.tensors[op.inputs[0]].shape
    filters, kernel_height, kernel_width, _ = graph.tensors[op.inputs[1]].shape
    _, out_height, out_width, _ = graph.tensors[op.output].shape
    low, high = activation_limits(graph, op)
    fields = {
        "height": height, "width": width, "channels": channels,
        "kernel_height": kernel_height, "kernel_width": kernel_width,
        "stride_down": op.stride[0], "stride_right": op.stride[1],
        "dilation_down": op.dilation[0], "dilation_right": op.dilation[1],
        "above": op.padding[0], "left": op.padding[2],
        "out_height": out_height, "out_width": out_width, "filters": filters,
        "zero_point_in": zero_point(graph, op.inputs[0]), "zero_point": zero_point(graph, op.output),
        "low": low, "high": high, "quick": int(scaling.quick),
    }  # fmt: skip
    return literal("edgeq_map", fields)


def _scratch(op: ir.Conv2D, graph: ir.Graph) -> int:
    """As edgeq_convolution_dsp says; the portable form takes a patch, which is less."""
    filters, height, width, channels = graph.tensors[op.inputs[1]].shape
    groups = (height * width * channels + 3) // 4
    outputs = math.prod(graph.tensors[op.output].shape[1:3])
    return 32 * groups + 4 * groups * (channels % 4 > 0) + 4 * filters * (outputs % 4 > 0)


def _in_place(op: ir.Conv2D, graph: ir.Graph) -> bool:
    """Whether outputs lie only where inputs did that are no longer needed: pixel by pixel, none of them larger."""
    filters, height, width, channels = graph.tensors[op.inputs[1]].shape
    return (height, width) == (1, 1) and not any(op.padding) and filters <= channels


def literal(ctype: str, fields: dict[str, int]) -> str:
    """A struct with its fields' names, a few a line."""
    words = [f".{key} = {value}" for key, value in fields.items()]
    lines = [", ".join(words[start : start + 5]) for start in range(0, len(words), 5)]
    return f"({ctype}){{\n    " + ",\n    ".join(lines) + "}"
