"""What a graph costs: parameters and true MACs, operator by operator."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeq.graph.ir import Conv2D, DepthwiseConv2D, FullyConnected, Graph, Mul, Op


@dataclass(frozen=True)
class Layer:
    """One operator: its output's name and NHWC shape, constants it holds, MACs on one window."""

    name: str
    op: str
    output_shape: tuple[int, ...]
    parameters: int
    macs: int


def layers(graph: Graph) -> list[Layer]:
    """The cost of every operator, in execution order.

    MACs: Cin * Cout * kernel area * output area for convolutions, Cout * kernel area * output area for depthwise ones,
    in * out for each row of a dense layer, none for pooling, activations, sums and reductions. Parameters: weights and
    biases.
    """
    return [
        Layer(op.output, op.kind, graph.tensors[op.output].shape, _parameters(graph, op), _macs(graph, op))
        for op in graph.ops
    ]


def multiplies(graph: Graph) -> int:
    """Multiplications that a graph does on one window: those of its MACs, and one for each number that a MUL gives."""
    products = (math.prod(graph.tensors[op.output].shape) for op in graph.ops if isinstance(op, Mul))
    return sum(layer.macs for layer in layers(graph)) + sum(products)


def _parameters(graph: Graph, op: Op) -> int:
    if not isinstance(op, Conv2D | DepthwiseConv2D | FullyConnected):
        return 0  # Shapes and axes are constants in a file, but nothing that was learned.
    return sum(tensor.data.size for name in op.inputs if (tensor := graph.tensors[name]).data is not None)


def _macs(graph: Graph, op: Op) -> int:
    if not isinstance(op, Conv2D | DepthwiseConv2D | FullyConnected):
        return 0
    weight = math.prod(graph.tensors[op.inputs[1]].shape)
    _, *places, _ = graph.tensors[op.output].shape
    return weight * math.prod(places)
