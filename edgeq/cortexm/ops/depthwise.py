"""DEPTHWISE_CONV_2D in C."""

from __future__ import annotations

from edgeq.cortexm.ops.arrays import array
from edgeq.cortexm.ops.code import Code
from edgeq.cortexm.ops.convolution import map_literal
from edgeq.cortexm.ops.sums import rescaling
from edgeq.graph import ir


def depthwise(op: ir.Op, graph: ir.Graph, name: str) -> Code:
    """Channel by channel; weights lie (height, width, filter)."""
    assert isinstance(op, ir.DepthwiseConv2D)
    weight = graph.tensors[op.inputs[1]].data
    assert weight is not None
    scaling = rescaling(op, graph)
    constants = (
        array("int8_t", f"{name}_weights", weight[..., 0].transpose(1, 2, 0), align=4),
        array("int32_t", f"{name}_parameters", scaling.parameters),
    )
    return Code(
        f"edgeq_depthwise({map_literal(op, graph, scaling)},\n"
        f"                x0, {name}_weights, {name}_parameters, y);",
        constants,
        ("depthwise.h",),
    )
