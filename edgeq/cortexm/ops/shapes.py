"""The shapes of a layer as C kernels take them."""

from __future__ import annotations

import math

from edgeq.cortexm.ops.calls import struct
from edgeq.cortexm.ops.code import activation_limits, zero_point
from edgeq.graph import ir


def map_literal(op: ir.Conv2D | ir.DepthwiseConv2D, graph: ir.Graph, quick: bool) -> str:
    """A convolution's `edgeq_map`, see kernels/edgeq_map.h. quick: whether all sums become codes in 32 bits."""
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
        "low": low, "high": high, "quick": int(quick),
    }  # fmt: skip
    return struct("edgeq_map", fields)


def layer_literal(op: ir.FullyConnected, graph: ir.Graph, per_output: bool) -> str:
    """A dense layer's `edgeq_layer`, see kernels/edgeq_dense.h. per_output: whether each output has its own factor."""
    outputs, inputs = graph.tensors[op.inputs[1]].shape
    low, high = activation_limits(graph, op)
    fields = {
        "rows": math.prod(graph.tensors[op.output].shape[:-1]), "inputs": inputs, "outputs": outputs,
        "zero_point": zero_point(graph, op.output), "low": low, "high": high, "per_output": int(per_output),
    }  # fmt: skip
    return struct("edgeq_layer", fields)


def in_place(op: ir.Conv2D, graph: ir.Graph) -> bool:
    """Whether outputs lie only where inputs did that are no longer needed: pixel by pixel, none of them larger."""
    filters, height, width, channels = graph.tensors[op.inputs[1]].shape
    return (height, width) == (1, 1) and not any(op.padding) and filters <= channels
