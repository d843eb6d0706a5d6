"""FULLY_CONNECTED in C."""

from __future__ import annotations

from edgeq.cortexm.ops.arrays import array
from edgeq.cortexm.ops.code import Code
from edgeq.cortexm.ops.shapes import layer_literal
from edgeq.cortexm.ops.sums import factors_once, folded_bias, in_pairs
from edgeq.graph import ir
from edgeq.graph.fixed_point import wrap


def dense(op: ir.FullyConnected, graph: ir.Graph, name: str) -> Code:
    """Rows of weights by pairs of codes, two rows at once."""
    weight = graph.tensors[op.inputs[1]].data
    assert weight is not None
    factors = factors_once(op, graph)
    constants = (
        array("int8_t", f"{name}_weights", in_pairs(weight), align=4),
        array("int32_t", f"{name}_bias", wrap(folded_bias(op, graph))),
        array("int32_t", f"{name}_factors", factors),
    )
    return Code(
        f"edgeq_dense({layer_literal(op, graph, len(factors) > 1)},\n"
        f"            x0, {name}_weights, {name}_bias, {name}_factors, y);",
        constants,
        ("edgeq_dense.h",),
    )
