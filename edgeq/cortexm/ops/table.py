"""Functions of one code: TANH, LOGISTIC, HARD_SWISH, RELU, RELU6, QUANTIZE, by a table of all 256 results."""

from __future__ import annotations

import math

import numpy as np

from edgeq.cortexm.ops import arrays
from edgeq.cortexm.ops.calls import call
from edgeq.cortexm.ops.code import Code
from edgeq.graph import ir
from edgeq.graph.int8_kernels import INT8_KERNELS


def table(op: ir.Op, graph: ir.Graph, name: str) -> Code:
    """The reference kernel's results; layers with the same share their table, one that changes nothing is free."""
    codes = np.arange(256).astype(np.uint8).view(np.int8)  # by the code as an unsigned byte
    results = INT8_KERNELS[type(op)](op, graph.tensors, codes)
    if np.array_equal(results, codes):
        return Code("")
    values = arrays.shared("int8_t", "table", results)
    count = math.prod(graph.tensors[op.output].shape)
    return Code(call("edgeq_table", "x0", "y", values.name, count), (values,), ("edgeq_table.h",), in_place=(0,))
