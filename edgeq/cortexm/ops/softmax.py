"""SOFTMAX over the last axis."""

from __future__ import annotations

import math

import numpy as np

from edgeq.cortexm.ops import arrays
from edgeq.cortexm.ops.calls import call
from edgeq.cortexm.ops.code import Code, scale
from edgeq.graph import ir
from edgeq.graph.int8_kernels import softmax_exponentials


def softmax(op: ir.Op, graph: ir.Graph, name: str) -> Code:
    """Exponentials come from a table, of as many differences of codes as have one that is not 0."""
    shape = graph.tensors[op.output].shape
    exponentials = np.trim_zeros(softmax_exponentials(scale(graph, op.inputs[0])), "b")
    values = arrays.shared("int32_t", "exponentials", exponentials)
    rows = math.prod(shape[:-1])
    body = call("edgeq_softmax", "x0", "y", values.name, len(exponentials), rows, shape[-1])
    return Code(body, (values,), ("edgeq_softmax.h",), in_place=(0,))
