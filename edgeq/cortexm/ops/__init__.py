"""The operators that become C, each family in a module of its own."""

from __future__ import annotations

from edgeq.cortexm.ops.arithmetic import add, mul
from edgeq.cortexm.ops.choose import conv_2d, depthwise_conv_2d, fully_connected
from edgeq.cortexm.ops.code import Emitter
from edgeq.cortexm.ops.copy import concatenation, pad, slice_, transpose
from edgeq.cortexm.ops.pool import pool
from edgeq.cortexm.ops.reduce import mean, reduce_max
from edgeq.cortexm.ops.reshape import reshape
from edgeq.cortexm.ops.softmax import softmax
from edgeq.cortexm.ops.table import table
from edgeq.graph import ir

EMITTERS: dict[str, Emitter] = {
    ir.Conv2D.kind: conv_2d,
    ir.DepthwiseConv2D.kind: depthwise_conv_2d,
    ir.FullyConnected.kind: fully_connected,
    ir.AveragePool2D.kind: pool,
    ir.MaxPool2D.kind: pool,
    ir.Mean.kind: mean,
    ir.ReduceMax.kind: reduce_max,
    ir.Add.kind: add,
    ir.Sub.kind: add,
    ir.Mul.kind: mul,
    ir.Concatenation.kind: concatenation,
    ir.Slice.kind: slice_,
    ir.Relu.kind: table,
    ir.Relu6.kind: table,
    ir.HardSwish.kind: table,
    ir.Tanh.kind: table,
    ir.Logistic.kind: table,
    ir.Quantize.kind: table,
    ir.Softmax.kind: softmax,
    ir.Reshape.kind: reshape,
    ir.Pad.kind: pad,
    ir.Transpose.kind: transpose,
}
"""By the operator's kind: what makes its C."""
