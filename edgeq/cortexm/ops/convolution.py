"""CONV_2D in C."""

from __future__ import annotations

import math

from edgeq.cortexm.ops.arrays import array
from edgeq.cortexm.ops.code import Code
from edgeq.cortexm.ops.shapes import in_place, map_literal
from edgeq.cortexm.ops.sums import in_pairs, rescaling
from edgeq.graph import ir


def convolution(op: ir.Conv2D, graph: ir.Graph, name: str) -> Code:
    """Patches of the input, by pairs of codes, times all filters."""
    weight = graph.tensors[op.inputs[1]].data
    assert weight is not None
    scaling = rescaling(op, graph)
    pairs = in_pairs(weight.reshape(len(weight), math.prod(weight.shape[1:])))
    constants = (
        array("int8_t", f"{name}_weights", pairs, align=4),
        array("int32_t", f"{name}_parameters", scaling.parameters),
    )
    return Code(
        f"edgeq_convolution({map_literal(op, graph, scaling.quick)},\n"
        f"                  x0, {name}_weights, {name}_parameters, scratch, y);",
        constants,
        ("edgeq_convolution.h",),
        scratch=_scratch(op, graph),
        in_place=(0,) if in_place(op, graph) else (),
    )


def _scratch(op: ir.Conv2D, graph: ir.Graph) -> int:
    """As edgeq_convolution_dsp says; the portable form takes a patch, which is less."""
    filters, height, width, channels = graph.tensors[op.inputs[1]].shape
    groups = (height * width * channels + 3) // 4
    outputs = math.prod(graph.tensors[op.output].shape[1:3])
    return 32 * groups + 4 * groups * (channels % 4 > 0) + 4 * filters * (outputs % 4 > 0)
