"""AVERAGE_POOL_2D and MAX_POOL_2D."""

from __future__ import annotations

from edgeq.cortexm.fold import MaxPoolOfPadded
from edgeq.cortexm.ops.calls import call, struct
from edgeq.cortexm.ops.code import Code, activation_limits
from edgeq.graph import ir
from edgeq.graph.int8_kernels import CODE_MIN


def pool(op: ir.Op, graph: ir.Graph, name: str) -> Code:
    """In place where windows don't reach beyond the map."""
    assert isinstance(op, ir.AveragePool2D | ir.MaxPool2D)
    _, height, width, channels = graph.tensors[op.inputs[0]].shape
    _, rows, columns, _ = graph.tensors[op.output].shape
    shape = {
        "height": height, "width": width, "channels": channels,
        "window_height": op.window[0], "window_width": op.window[1],
        "stride_height": op.stride[0], "stride_width": op.stride[1],
        "above": op.padding[0], "left": op.padding[2],
        "outside": op.outside if isinstance(op, MaxPoolOfPadded) else CODE_MIN,
        "rows": rows, "columns": columns,
    }  # fmt: skip
    kernel = "edgeq_average_pool" if isinstance(op, ir.AveragePool2D) else "edgeq_max_pool"
    body = call(kernel, "x0", "y", struct("edgeq_pool_shape", shape), *activation_limits(graph, op))
    return Code(body, headers=("edgeq_pool.h",), in_place=() if any(op.padding) else (0,))
