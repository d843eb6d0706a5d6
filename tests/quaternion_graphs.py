"""Float graphs of quaternion networks, for the tests of their lowerings."""

from __future__ import annotations

import graphs
import numpy as np

from edgeq.graph import ir
from edgeq.lowering.block import block_kernel


def qresnet(seed: int = 0, width: int = 8) -> ir.Graph:
    """A stem, a residual block, two with pooled shortcuts of 1 x 1, and a head: QResNet's shape."""
    net = graphs.Builder((1, 16, 12, 4), seed)

    def convolution(x: str, channels: int, size: int = 3, activation: str = ir.RELU) -> str:
        depth, pad = net.tensors[x].shape[-1], size // 2
        weight, gain = net.hamilton(channels, depth, (size, size)), net.gain(channels)
        return net.conv(x, channels, (size, size), (1, 1), (pad,) * 4, activation, weight, gain=gain)

    x = net.average_pool(convolution(net.input, width), (2, 2))
    for channels, pooled in ((width, False), (2 * width, True), (3 * width, True)):
        y = convolution(net.average_pool(x, (2, 2)) if pooled else x, channels)
        y = convolution(y, channels, activation=ir.NONE)
        if pooled:
            x = convolution(net.average_pool(x, (2, 2)), channels, 1, ir.NONE)
        x = net.add(y, x, activation=ir.RELU)
    x = net.mean(x, (1,))
    x = net.add(net.mean(x, (1,)), net.reduce_max(x, (1,)))
    return net.graph("qresnet", net.softmax(net.dense(x, 5, activation=ir.NONE)))


def dense() -> ir.Graph:
    """A quaternion convolution, flattened for a quaternion dense layer, and a real one: columns change their order."""
    net = graphs.Builder((1, 6, 4, 8))
    x = net.conv("input", 12, (3, 3), weight=net.hamilton(12, 8, (3, 3)), gain=net.gain(12))
    components = net.rng.standard_normal((4, 5, 3 * 8)).astype(np.float32)
    columns = np.moveaxis(np.arange(96).reshape(12, 4, 2), 0, -1).ravel()  # channels first, as the network has them
    x = net.dense(net.flatten(x), 20, weight=block_kernel(components)[:, columns])
    return net.graph("dense", net.softmax(net.dense(x, 4, activation=ir.NONE)))
