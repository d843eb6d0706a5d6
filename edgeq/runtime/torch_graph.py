"""A float graph in torch: what lets torch run the very operators that exported files hold, on a CPU or a GPU.

Channels stand second here, as torch wants them, and last in the graph; the other axes keep their order. To run one
more operator, add a function to FUNCTIONS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from edgeq.errors import InputError
from edgeq.graph import ir
from edgeq.graph.check import check_own
from edgeq.graph.reference import constant

Function = Callable[..., Tensor]
Shapes = Sequence[tuple[int, ...]]


class GraphModule(fx.GraphModule):
    """A float graph as a torch module, for inference: constants are buffers, nothing is trained.

    Takes (N, components, mels, frames), gives what the graph gives: probabilities (N, classes). `.to(device)`,
    `.half()`, `torch.compile` and CUDA graphs work as on any module, and `.code` shows what runs;
    `.to(memory_format=torch.channels_last)` makes its convolutions run channels last, whatever its input's format.
    Raises InputError where the graph is quantized, or holds what only .tflite files by others do.
    """

    def __init__(self, graph: ir.Graph) -> None:
        if graph.quantized:
            raise InputError(f"{graph.name}: quantized: expected a float graph; torch does not run INT8 graphs")
        check_own(graph, "a torch module")
        operators = _Operators(graph)
        # Traced, so that strides and shapes are literals in straight code: torch.compile would take attributes that
        # differ between two graphs for variables.
        super().__init__(operators, fx.Tracer().trace(operators), type(self).__name__)


class _Operators(nn.Module):
    """Walks the graph's operators in order."""

    def __init__(self, graph: ir.Graph) -> None:
        super().__init__()
        self.graph = graph
        for index, op in enumerate(graph.ops):
            for position, name in enumerate(op.inputs):
                tensor = graph.tensors[name]
                if tensor.data is not None:
                    rank = len(graph.tensors[op.output].shape)
                    self.register_buffer(_buffer(index, position), _as_buffer(op, tensor, rank))

    def forward(self, x: Tensor) -> Tensor:
        values = {self.graph.input: x}
        for index, op in enumerate(self.graph.ops):
            inputs = [
                values[name] if name in values else getattr(self, _buffer(index, position))
                for position, name in enumerate(op.inputs)
            ]
            shapes = [self.graph.tensors[name].shape for name in (op.inputs[0], op.output)]
            values[op.output] = FUNCTIONS[type(op)](op, shapes, *inputs)
        return values[self.graph.output]


def _buffer(index: int, position: int) -> str:
    """The buffer of a constant: names of tensors may hold dots, which those of buffers may not."""
    return f"op_{index}_input_{position}"


def _as_buffer(op: ir.Op, tensor: ir.Tensor, rank: int) -> Tensor:
    """A constant with channels second; one that is added or multiplied gets the axes of the result first."""
    value = constant(tensor)
    if isinstance(op, ir.Add | ir.Sub | ir.Mul):
        value = value.reshape((1,) * (rank - value.ndim) + value.shape)
    if value.ndim > 2:
        value = np.moveaxis(value, -1, 1)
    return torch.from_numpy(np.array(value, np.float32, order="C"))


def _conv(op: ir.Conv2D, shapes: Shapes, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return _convolved(op, x, weight, bias, groups=1)


def _depthwise(op: ir.DepthwiseConv2D, shapes: Shapes, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return _convolved(op, x, weight, bias, groups=shapes[0][-1])


def _convolved(op: ir.Conv2D | ir.DepthwiseConv2D, x: Tensor, weight: Tensor, bias: Tensor, groups: int) -> Tensor:
    above, below, left, right = op.padding
    padding = above, left
    if above != below or left != right:
        x, padding = _padded(x, op.padding), (0, 0)
    return _activated(functional.conv2d(x, weight, bias, op.stride, padding, 1, groups), op.activation)


def _dense(op: ir.FullyConnected, shapes: Shapes, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return _activated(functional.linear(x, weight, bias), op.activation)


def _average_pool(op: ir.AveragePool2D, shapes: Shapes, x: Tensor) -> Tensor:
    return functional.avg_pool2d(x, op.window, op.stride)


def _max_pool(op: ir.MaxPool2D, shapes: Shapes, x: Tensor) -> Tensor:
    return functional.max_pool2d(x, op.window, op.stride)


def _mean(op: ir.Mean, shapes: Shapes, x: Tensor) -> Tensor:
    return _channels_second(op, shapes, x.mean(_torch_axes(op, shapes)))


def _reduce_max(op: ir.ReduceMax, shapes: Shapes, x: Tensor) -> Tensor:
    return _channels_second(op, shapes, x.amax(_torch_axes(op, shapes)))


def _torch_axes(op: ir.Mean | ir.ReduceMax, shapes: Shapes) -> list[int]:
    last = len(shapes[0]) - 1
    return [1 if axis == last else axis + 1 for axis in op.axes]


def _channels_second(op: ir.Mean | ir.ReduceMax, shapes: Shapes, reduced: Tensor) -> Tensor:
    """A reduction with the graph's last remaining axis second: another than before where channels were reduced."""
    over_channels = len(shapes[0]) - 1 in op.axes
    return reduced.movedim(-1, 1) if over_channels and len(shapes[1]) > 2 else reduced


def _add(op: ir.Add, shapes: Shapes, x: Tensor, y: Tensor) -> Tensor:
    return _activated(x + y, op.activation)


def _sub(op: ir.Sub, shapes: Shapes, x: Tensor, y: Tensor) -> Tensor:
    return _activated(x - y, op.activation)


def _mul(op: ir.Mul, shapes: Shapes, x: Tensor, y: Tensor) -> Tensor:
    return _activated(x * y, op.activation)


def _concatenation(op: ir.Concatenation, shapes: Shapes, *inputs: Tensor) -> Tensor:
    return torch.cat(inputs, dim=1)


def _slice(op: ir.Slice, shapes: Shapes, x: Tensor) -> Tensor:
    return x.narrow(1, op.begin, op.size)


def _relu(op: ir.Relu, shapes: Shapes, x: Tensor) -> Tensor:
    return torch.relu(x)


def _relu6(op: ir.Relu6, shapes: Shapes, x: Tensor) -> Tensor:
    return functional.relu6(x)


def _tanh(op: ir.Tanh, shapes: Shapes, x: Tensor) -> Tensor:
    return torch.tanh(x)


def _logistic(op: ir.Logistic, shapes: Shapes, x: Tensor) -> Tensor:
    return torch.sigmoid(x)


def _softmax(op: ir.Softmax, shapes: Shapes, x: Tensor) -> Tensor:
    return torch.softmax(x, dim=1)


def _reshape(op: ir.Reshape, shapes: Shapes, x: Tensor) -> Tensor:
    """By way of the graph's own order, in which a flattened map's columns lie."""
    reshaped = x.movedim(1, -1).reshape(-1, *shapes[1][1:])
    return reshaped.movedim(-1, 1)


def _pad(op: ir.Pad, shapes: Shapes, x: Tensor) -> Tensor:
    return _padded(x, op.padding)


def _padded(x: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
    above, below, left, right = padding
    return functional.pad(x, (left, right, above, below))


def _activated(x: Tensor, activation: str) -> Tensor:
    """In place: x is an operator's own result, which nobody else reads."""
    if activation == ir.RELU6:
        return functional.relu6(x, inplace=True)
    return functional.relu(x, inplace=True) if activation == ir.RELU else x


FUNCTIONS: dict[type[ir.Op], Function] = {
    ir.Conv2D: _conv,
    ir.DepthwiseConv2D: _depthwise,
    ir.FullyConnected: _dense,
    ir.AveragePool2D: _average_pool,
    ir.MaxPool2D: _max_pool,
    ir.Mean: _mean,
    ir.ReduceMax: _reduce_max,
    ir.Add: _add,
    ir.Sub: _sub,
    ir.Mul: _mul,
    ir.Concatenation: _concatenation,
    ir.Slice: _slice,
    ir.Relu: _relu,
    ir.Relu6: _relu6,
    ir.Tanh: _tanh,
    ir.Logistic: _logistic,
    ir.Softmax: _softmax,
    ir.Reshape: _reshape,
    ir.Pad: _pad,
}
"""One function an operator: (op, NHWC shapes of its first input and its output, inputs) to the output."""
