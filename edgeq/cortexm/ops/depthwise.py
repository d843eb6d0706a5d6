"""DEPTHWISE_CONV_2D in C."""

from __future__ import annotations

import math

from edgeq.cortexm.ops.arrays import array
from edgeq.cortexm.ops.code import Code
from edgeq.cortexm.ops.shapes import map_literal
from edgeq.cortexm.ops.sums import rescaling
from edgeq.graph import ir

_MOST = 5
"""EDGEQ_DEPTHWISE_MOST of kernels/edgeq_depthwise.h."""


def depthwise(op: ir.DepthwiseConv2D, graph: ir.Graph, name: str) -> Code:
    """Channel by channel; weights lie (height, width, filter)."""
    weight = graph.tensors[op.inputs[1]].data
    assert weight is not None
    scaling = rescaling(op, graph)
    constants = (
        array("int8_t", f"{name}_weights", weight[..., 0].transpose(1, 2, 0), align=4),
        array("int32_t", f"{name}_parameters", scaling.parameters),
    )
    return Code(
        f"edgeq_depthwise({map_literal(op, graph, scaling.quick)},\n"
        f"                x0, {name}_weights, {name}_parameters, scratch, y);",
        constants,
        ("edgeq_depthwise.h",),
        scratch=_scratch(op, graph),
        in_place=(0,) if _in_place(op, graph) else (),
    )


def _scratch(op: ir.DepthwiseConv2D, graph: ir.Graph) -> int:
    """Weights and the ring of rows as edgeq_depthwise_dsp has them; the portable form's ring is half of its."""
    filters, height, width, _ = graph.tensors[op.inputs[1]].shape
    channels = graph.tensors[op.inputs[0]].shape[3]
    columns = (graph.tensors[op.output].shape[2] - 1) * op.stride[1] + (width - 1) * op.dilation[1] + 1
    ring = _rows(op, graph) * columns * channels
    if channels % 4 or filters != channels or max(height, width) > _MOST:
        return ring
    return 2 * (height * width * channels + ring)


def _in_place(op: ir.DepthwiseConv2D, graph: ir.Graph) -> bool:
    """Whether each row of outputs lies only where rows of the input did that were in the ring by then."""
    _, height, *rest = graph.tensors[op.inputs[0]].shape
    _, out_height, *out_rest = graph.tensors[op.output].shape
    row, out_row = math.prod(rest), math.prod(out_rest)
    copied = [min(height, y * op.stride[0] + _rows(op, graph) - op.padding[0]) for y in range(out_height)]
    return all((y + 1) * out_row <= rows * row for y, rows in enumerate(copied))


def _rows(op: ir.DepthwiseConv2D, graph: ir.Graph) -> int:
    return (graph.tensors[op.inputs[1]].shape[1] - 1) * op.dilation[0] + 1
