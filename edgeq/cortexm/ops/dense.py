"""FULLY_CONNECTED in C."""

from __future__ import annotations

import math

from edgeq.cortexm.ops.arrays import array
from edgeq.cortexm.ops.code import Code, activation_limits, zero_point
from edgeq.cortexm.ops.convolution import literal
from edgeq.cortexm.ops.sums import factors_once, folded_bias, in_pairs
from edgeq.graph import ir
from edgeq.graph.fixed_point import wrap


def dense(op: ir.Op, graph: ir.Graph, name: str) -> Code:
    """Rows of weights by pairs of codes, two rows at once."""
    assert isinstance(op, ir.FullyConnected)
    weight = graph.tensors[op.inputs[1]].data
    assert weight is not None
    factors = factors_once(op, graph)
    low, high = activation_limits(graph, op)
    fields = {
        "rows": math.prod(graph.tensors[op.output].shape[:-1]), "inputs": weight.shape[1], "outputs": weight.shape[0],
        "zero_point": zero_point(graph, op.output), "low": low, "high": high, "per_output": int(len(factors) > 1),
    }  # fmt: skip
    pairs = in_pairs(weight)
    constants = (
        array("int8_t", f"{name}_weights", pairs, align=4),
        array("int32_t", f"{name}_bias", wrap(folded_bias(op, graph))),
        array("int32_t", f"{name}_factors", factors),
    )
    return Code(
        f"edgeq_dense({literal('edgeq_layer', fields)},\n"
        f"            x0, {name}_weights, {name}_bias, {name}_factors, scratch, y);",
        constants,
        ("dense.h",),
        scratch=4 * pairs.shape[1],
    )
