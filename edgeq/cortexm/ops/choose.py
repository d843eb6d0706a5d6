"""Which kernel a convolution or dense layer is given: what its weights and shape allow, and is fastest."""

from __future__ import annotations

import math

from edgeq.cortexm.ops import convolution, dense, depthwise, quaternion
from edgeq.cortexm.ops.code import Code
from edgeq.graph import ir


def conv_2d(op: ir.Op, graph: ir.Graph, name: str) -> Code:
    """Quaternion weights are stored once and read once, whatever the layer's shape."""
    assert isinstance(op, ir.Conv2D)
    weight = graph.tensors[op.inputs[1]].data
    assert weight is not None
    found = quaternion.recognise(weight.reshape(len(weight), -1, weight.shape[3]))
    if found is not None:
        return quaternion.quaternion_convolution(op, graph, name, found)
    return convolution.convolution(op, graph, name)


def depthwise_conv_2d(op: ir.Op, graph: ir.Graph, name: str) -> Code:
    """Filters of the one channel there is are an ordinary convolution."""
    assert isinstance(op, ir.DepthwiseConv2D)
    if graph.tensors[op.inputs[0]].shape[3] == 1:
        same = ir.Conv2D(op.inputs, op.output, op.stride, op.padding, op.activation, op.dilation)
        return convolution.convolution(same, graph, name)
    return depthwise.depthwise(op, graph, name)


def fully_connected(op: ir.Op, graph: ir.Graph, name: str) -> Code:
    """As a convolution; a layer behind a flattened map may have quaternions of that map's channels."""
    assert isinstance(op, ir.FullyConnected)
    weight = graph.tensors[op.inputs[1]].data
    assert weight is not None
    for places in _places(op, graph):
        found = quaternion.recognise(weight.reshape(len(weight), places, -1))
        if found is not None:
            return quaternion.quaternion_dense(op, graph, name, found)
    return dense.dense(op, graph, name)


def _places(op: ir.FullyConnected, graph: ir.Graph) -> list[int]:
    """Of how many places the inputs may hold the channels: one, or those of a map that was flattened into them."""
    producer = graph.producer(op.inputs[0])
    if not isinstance(producer, ir.Reshape):
        return [1]
    _, *places, channels = graph.tensors[producer.inputs[0]].shape
    whole = math.prod(places) * channels == graph.tensors[op.inputs[1]].shape[1]
    return [1, math.prod(places)] if whole else [1]
