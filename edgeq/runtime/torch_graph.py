"""A float graph in torch: what lets torch run the very operators that exported files hold, on a CPU or a GPU.

Channels stand second here, as torch wants them, and last in the graph; the other axes keep their order. To run one
more operator, add a function to FUNCTIONS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeq.errors import InputError
from edgeq.graph import ir
from edgeq.graph.reference import constant

Function = Callable[..., Tensor]


class GraphModule(nn.Module):
    """A float graph as a torch module, for inference: constants are buffers, nothing is trained.

    Takes (N, components, mels, frames), gives what the graph gives: probabilities (N, classes). `.to(device)`,
    `.half()`, `torch.compile` and CUDA graphs work as on any module; `.to(memory_format=torch.channels_last)` makes
    its convolutions run channels last, whatever its input's format.
    Raises InputError where the graph is quantized.
    """

    def __init__(self, graph: ir.Graph) -> None:
        super().__init__()
        if graph.quantized:
            raise InputError(f"{graph.name}: quantized: expected a float graph; torch does not run INT8 graphs")
        self._input, self._output = graph.input, graph.output
        last_use = {name: index for index, op in enumerate(graph.ops) for name in op.inputs}
        steps = []
        for index, op in enumerate(graph.ops):
            shape = graph.tensors[op.output].shape
            constants: list[str | None] = []
            for position, name in enumerate(op.inputs):
                tensor = graph.tensors[name]
                constants.append(None if tensor.data is None else f"op_{index}_input_{position}")
                if tensor.data is not None:
                    self.register_buffer(f"op_{index}_input_{position}", _as_buffer(op, tensor, len(shape)))
            freed = tuple({name for name in op.inputs if last_use[name] == index} - {graph.output})
            steps.append(_Step(op, shape, tuple(constants), freed))
        self._steps = tuple(steps)

    def forward(self, x: Tensor) -> Tensor:
        values = {self._input: x}
        for step in self._steps:
            inputs = [
                values[name] if buffer is None else getattr(self, buffer)
                for name, buffer in zip(step.op.inputs, step.constants, strict=True)
            ]
            values[step.op.output] = FUNCTIONS[type(step.op)](step.op, step.shape, *inputs)
            del inputs
            for name in step.freed:
                values.pop(name, None)
        return values[self._output]


@dataclass(frozen=True)
class _Step:
    """One operator as it runs. shape: of its output, NHWC; constants: the buffer of each input that is one; freed:
    activations that no later operator reads.
    """

    op: ir.Op
    shape: tuple[int, ...]
    constants: tuple[str | None, ...]
    freed: tuple[str, ...]


def _as_buffer(op: ir.Op, tensor: ir.Tensor, rank: int) -> Tensor:
    """A constant with channels second; one that is added or multiplied gets the axes of the result first."""
    value = constant(tensor)
    if isinstance(op, ir.Add | ir.Sub | ir.Mul):
        value = value.reshape((1,) * (rank - value.ndim) + value.shape)
    if value.ndim > 2:
        value = np.moveaxis(value, -1, 1)
    return torch.from_numpy(np.array(value, np.float32, order="C"))


def _axis(axis: int, rank: int) -> int:
    """The torch axis of one of the graph's."""
    return 0 if axis == 0 else 1 if axis == rank - 1 else axis + 1


def _conv(op: ir.Conv2D, shape: tuple[int, ...], x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return _convolved(op, x, weight, bias, 1)


def _depthwise(op: ir.DepthwiseConv2D, shape: tuple[int, ...], x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return _convolved(op, x, weight, bias, x.shape[1])


def _convolved(op: ir.Conv2D | ir.DepthwiseConv2D, x: Tensor, weight: Tensor, bias: Tensor, groups: int) -> Tensor:
    above, below, left, right = op.padding
    padding = above, left
    if above != below or left != right:
        x, padding = _padded(x, op.padding), (0, 0)
    return _activated(functional.conv2d(x, weight, bias, op.stride, padding, 1, groups), op.activation)


def _dense(op: ir.FullyConnected, shape: tuple[int, ...], x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return _activated(functional.linear(x, weight, bias), op.activation)


def _average_pool(op: ir.AveragePool2D, shape: tuple[int, ...], x: Tensor) -> Tensor:
    return functional.avg_pool2d(x, op.window, op.stride)


def _max_pool(op: ir.MaxPool2D, shape: tuple[int, ...], x: Tensor) -> Tensor:
    return functional.max_pool2d(x, op.window, op.stride)


def _mean(op: ir.Mean, shape: tuple[int, ...], x: Tensor) -> Tensor:
    return _channels_second(op, x, x.mean([_axis(axis, x.ndim) for axis in op.axes]))


def _reduce_max(op: ir.ReduceMax, shape: tuple[int, ...], x: Tensor) -> Tensor:
    return _channels_second(op, x, x.amax([_axis(axis, x.ndim) for axis in op.axes]))


def _channels_second(op: ir.Mean | ir.ReduceMax, x: Tensor, reduced: Tensor) -> Tensor:
    """A reduction with the graph's last remaining axis second: another than before where channels were reduced."""
    over_channels = x.ndim - 1 in op.axes
    return reduced.movedim(-1, 1) if over_channels and reduced.ndim > 2 else reduced


def _add(op: ir.Add, shape: tuple[int, ...], x: Tensor, y: Tensor) -> Tensor:
    return _activated(x + y, op.activation)


def _sub(op: ir.Sub, shape: tuple[int, ...], x: Tensor, y: Tensor) -> Tensor:
    return _activated(x - y, op.activation)


def _mul(op: ir.Mul, shape: tuple[int, ...], x: Tensor, y: Tensor) -> Tensor:
    return _activated(x * y, op.activation)


def _concatenation(op: ir.Concatenation, shape: tuple[int, ...], *inputs: Tensor) -> Tensor:
    return torch.cat(inputs, dim=1)


def _slice(op: ir.Slice, shape: tuple[int, ...], x: Tensor) -> Tensor:
    return x.narrow(1, op.begin, op.size)


def _relu(op: ir.Relu, shape: tuple[int, ...], x: Tensor) -> Tensor:
    return torch.relu(x)


def _relu6(op: ir.Relu6, shape: tuple[int, ...], x: Tensor) -> Tensor:
    return functional.relu6(x)


def _tanh(op: ir.Tanh, shape: tuple[int, ...], x: Tensor) -> Tensor:
    return torch.tanh(x)


def _logistic(op: ir.Logistic, shape: tuple[int, ...], x: Tensor) -> Tensor:
    return torch.sigmoid(x)


def _softmax(op: ir.Softmax, shape: tuple[int, ...], x: Tensor) -> Tensor:
    return torch.softmax(x, dim=1)


def _reshape(op: ir.Reshape, shape: tuple[int, ...], x: Tensor) -> Tensor:
    """By way of the graph's own order, in which a flattened map's columns lie."""
    reshaped = x.movedim(1, -1).reshape(x.shape[0], *shape[1:])
    return reshaped.movedim(-1, 1)


def _pad(op: ir.Pad, shape: tuple[int, ...], x: Tensor) -> Tensor:
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
"""One function an operator: (op, its output's NHWC shape, inputs) to the output."""
