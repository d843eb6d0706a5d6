"""What each layer and function of torch becomes in the graph.

To lower one more kind, add a function and name it in MODULES, FUNCTIONS or METHODS below. Each takes the graph so far,
the layer where it is one, and the arguments of the call with their names in torch, tensors as Values; it gives the
Value of the result. A call whose arguments don't fit the function's has no lowering.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgeq.errors import InputError
from edgeq.graph import ir
from edgeq.lowering.block import block_kernel
from edgeq.lowering.building import Building, Value, finite
from edgeq.lowering.fold import BatchNorm, fold
from edgeq.nets.ensemble import MeanOfProbabilities
from edgeq.nets.panns import MelBatchNorm
from edgeq.nets.quaternion import QuaternionConv2d, QuaternionLinear

Lowered = Callable[..., Value]


def _convolution(graph: Building, layer: nn.Conv2d, input: Value) -> Value:
    if layer.groups not in (1, layer.in_channels):
        raise InputError(f"groups {layer.groups}: expected 1, or one a channel ({layer.in_channels})")
    if layer.dilation != (1, 1) or layer.padding_mode != "zeros":
        raise InputError(f"dilation {layer.dilation}, padding mode {layer.padding_mode}: expected 1 and zeros")
    if isinstance(layer.padding, str):
        raise InputError(f"padding {layer.padding!r}: expected numbers")
    kind = ir.Conv2D if layer.groups == 1 else ir.DepthwiseConv2D
    return _convolved(graph, kind, layer, _array(layer.weight), input)


def _quaternion_convolution(graph: Building, layer: QuaternionConv2d, input: Value) -> Value:
    return _convolved(graph, ir.Conv2D, layer, block_kernel(_array(layer.weight)), input)


def _convolved(
    graph: Building, kind: type[ir.Conv2D] | type[ir.DepthwiseConv2D], layer: Any, kernel: np.ndarray, x: Value
) -> Value:
    name = graph.name("conv" if kind is ir.Conv2D else "depthwise")
    weight = graph.constant(f"{name}.weight", kernel.transpose(0, 2, 3, 1))
    bias = graph.constant(f"{name}.bias", _bias(layer.bias, len(kernel)))
    rows, columns = _pair(layer.padding)
    return graph.emit(kind((x.name, weight, bias), name, _pair(layer.stride), (rows, rows, columns, columns)))


def _batch_norm(graph: Building, layer: nn.BatchNorm2d, input: Value) -> Value:
    op = graph.alone(input.name)
    while isinstance(op, ir.AveragePool2D):  # A mean of scaled and shifted values is the mean, scaled and shifted.
        op = graph.alone(op.inputs[0])
    weight = None
    if isinstance(op, (ir.Conv2D, ir.DepthwiseConv2D)) and op.activation == ir.NONE:
        weight, bias = (graph.tensors[name] for name in op.inputs[1:])
    if weight is None or weight.gain is not None:
        raise InputError("batch norm that does not directly follow a convolution of its own")
    gain, folded = fold(_statistics(layer), bias.data)
    graph.tensors[weight.name] = replace(weight, gain=finite(gain))
    graph.tensors[bias.name] = replace(bias, data=finite(folded))
    return input


def _mel_batch_norm(graph: Building, layer: MelBatchNorm, input: Value) -> Value:
    """A factor and a term a mel band, each left out where it changes nothing."""
    if len(input.shape) != 4 or input.shape[1] != layer.num_features:
        raise InputError(f"of {layer.num_features} mels for a map of shape {input.shape}")
    gain, shift = (values.reshape(1, -1, 1, 1) for values in fold(_statistics(layer), None))
    x = input
    if (gain != 1).any():
        name = graph.name("mul")
        x = graph.emit(ir.Mul((x.name, graph.constant(f"{name}.constant", gain)), name))
    if shift.any():
        name = graph.name("add")
        x = graph.emit(ir.Add((x.name, graph.constant(f"{name}.constant", shift)), name))
    return x


def _dense(graph: Building, layer: nn.Linear | QuaternionLinear, input: Value) -> Value:
    weights = _array(layer.weight)
    weights = block_kernel(weights) if isinstance(layer, QuaternionLinear) else weights
    if input.shape[1:] != weights.shape[1:]:
        raise InputError(f"input of shape {input.shape}: expected (1, {weights.shape[1]})")
    if input.columns is not None:
        weights = weights[:, input.columns]
    name = graph.name("dense")
    weight = graph.constant(f"{name}.weight", weights)
    bias = graph.constant(f"{name}.bias", _bias(layer.bias, len(weights)))
    return graph.emit(ir.FullyConnected((input.name, weight, bias), name))


def _average_pool_layer(graph: Building, layer: nn.AvgPool2d, input: Value) -> Value:
    rest = layer.padding, layer.ceil_mode, layer.count_include_pad, layer.divisor_override
    return _average_pool(graph, input, layer.kernel_size, layer.stride, *rest)


def _average_pool(
    graph: Building,
    input: Value,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    rows, columns = _pair(padding)
    if ceil_mode or divisor_override is not None or ((rows or columns) and not count_include_pad):
        raise InputError("ceil_mode, divisor_override or padding that is not counted: expected a plain pool")
    if rows or columns:
        input = graph.emit(ir.Pad((input.name,), graph.name("pad"), (rows, rows, columns, columns)))
    return _pool(graph, ir.AveragePool2D, input, kernel_size, stride)


def _max_pool_layer(graph: Building, layer: nn.MaxPool2d, input: Value) -> Value:
    rest = layer.padding, layer.dilation, layer.ceil_mode, layer.return_indices
    return _max_pool(graph, input, layer.kernel_size, layer.stride, *rest)


def _max_pool(
    graph: Building,
    input: Value,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Value:
    if ceil_mode or return_indices or _pair(padding) != (0, 0) or _pair(dilation) != (1, 1):
        raise InputError("padding, ceil_mode, dilation or return_indices: expected a plain pool")
    return _pool(graph, ir.MaxPool2D, input, kernel_size, stride)


def _pool(
    graph: Building, kind: type[ir.AveragePool2D] | type[ir.MaxPool2D], x: Value, kernel_size: Any, stride: Any
) -> Value:
    window = _pair(kernel_size)
    steps = _pair(stride) if stride else window
    return x if window == steps == (1, 1) else graph.emit(kind((x.name,), graph.name("pool"), window, steps))


def _relu_layer(graph: Building, layer: nn.Module, input: Value) -> Value:
    return _relu(graph, input)


def _relu(graph: Building, input: Value, inplace: bool = False) -> Value:
    return _fused(graph, ir.RELU, input) or graph.emit(ir.Relu((input.name,), graph.name("relu")), input.columns)


def _relu6_layer(graph: Building, layer: nn.Module, input: Value) -> Value:
    return _relu6(graph, input)


def _relu6(graph: Building, input: Value, inplace: bool = False) -> Value:
    return _fused(graph, ir.RELU6, input) or graph.emit(ir.Relu6((input.name,), graph.name("relu6")), input.columns)


def _fused(graph: Building, activation: str, x: Value) -> Value | None:
    """x itself, where the operator that makes it can apply the activation too."""
    op = graph.alone(x.name)
    if not isinstance(op, (ir.Conv2D, ir.DepthwiseConv2D, ir.FullyConnected, ir.Add)) or op.activation != ir.NONE:
        return None
    graph.ops[x.name] = replace(op, activation=activation)
    return x


def _tanh_layer(graph: Building, layer: nn.Module, input: Value) -> Value:
    return _tanh(graph, input)


def _tanh(graph: Building, input: Value) -> Value:
    return graph.emit(ir.Tanh((input.name,), graph.name("tanh")), input.columns)


def _mean(graph: Building, input: Value, dim: Any, keepdim: bool = False) -> Value:
    return _reduced(graph, ir.Mean, "mean", input, dim, keepdim)


def _maximum(graph: Building, input: Value, dim: Any, keepdim: bool = False) -> Value:
    return _reduced(graph, ir.ReduceMax, "max", input, dim, keepdim)


def _reduced(
    graph: Building, kind: type[ir.Mean] | type[ir.ReduceMax], stem: str, x: Value, dim: Any, keepdim: bool
) -> Value:
    dims = tuple(d % len(x.shape) for d in ((dim,) if isinstance(dim, int) else dim))
    if keepdim or any(d < 2 for d in dims):
        raise InputError(f"over axes {dims}, keepdim {keepdim}: expected mels or frames, and the axis dropped")
    return graph.emit(kind((x.name,), graph.name(stem), axes=tuple(sorted(d - 1 for d in dims))))


def _add(graph: Building, input: Value, other: Value) -> Value:
    if not (isinstance(input, Value) and isinstance(other, Value)):
        raise InputError("a constant in the sum: expected two tensors")
    layouts = [np.arange(value.shape[-1]) if value.columns is None else value.columns for value in (input, other)]
    if input.shape != other.shape or not np.array_equal(layouts[0], layouts[1]):
        raise InputError(f"shapes {input.shape} and {other.shape}: expected two of one shape and layout")
    return graph.emit(ir.Add((input.name, other.name), graph.name("add")), input.columns)


def _concatenate(graph: Building, tensors: Any, dim: int = 0) -> Value:
    if any(not isinstance(x, Value) or x.columns is not None or dim % len(x.shape) != 1 for x in tensors):
        raise InputError(f"over axis {dim}, or of flattened maps: expected maps over axis 1, the channels")
    return graph.emit(ir.Concatenation(tuple(x.name for x in tensors), graph.name("concat")))


def _narrow(graph: Building, input: Value, dim: int, start: int, length: int) -> Value:
    if input.columns is not None or dim % len(input.shape) != 1:
        raise InputError(f"of axis {dim}, or of flattened maps: expected maps and axis 1, the channels")
    if length == input.shape[-1]:
        return input
    return graph.emit(ir.Slice((input.name,), graph.name("slice"), start, length))


def _mean_of_probabilities(graph: Building, layer: MeanOfProbabilities, *logits: Value) -> Value:
    """The probabilities of each network, joined in one row, cut into one a network, averaged."""
    if any(len(x.shape) != 2 or x.columns is not None or x.shape != logits[0].shape for x in logits):
        raise InputError(f"of {', '.join(str(x.shape) for x in logits)}: expected logits of one shape")
    kind: type[ir.Softmax] | type[ir.Logistic] = ir.Softmax if layer.output == "softmax" else ir.Logistic
    each = [graph.emit(kind((x.name,), graph.name(kind.kind.lower()))) for x in logits]
    joined = graph.emit(ir.Concatenation(tuple(x.name for x in each), graph.name("concat")))
    stacked = ir.Reshape((joined.name,), graph.name("reshape"))
    graph.ops[stacked.output] = stacked
    graph.tensor(stacked.output, (1, len(logits), logits[0].shape[1]))
    mean = graph.emit(ir.Mean((stacked.output,), graph.name("mean"), axes=(1,)))
    return replace(mean, probabilities=True)


def _flatten_layer(graph: Building, layer: nn.Flatten, input: Value) -> Value:
    return _flatten(graph, input, layer.start_dim, layer.end_dim)


def _flatten(graph: Building, input: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
    if start_dim != 1 or end_dim not in (-1, len(input.shape) - 1):
        raise InputError(f"from axis {start_dim} to {end_dim}: expected from 1 to the last")
    if len(input.shape) == 2:
        return input
    *rows, channels = input.shape[1:]
    size = int(np.prod(input.shape[1:]))
    columns = np.moveaxis(np.arange(size).reshape(channels, *rows), 0, -1).ravel()
    op = ir.Reshape((input.name,), graph.name("reshape"))
    graph.ops[op.output] = op
    return graph.tensor(op.output, (1, size), columns)


MODULES: dict[type[nn.Module], Lowered] = {
    nn.Conv2d: _convolution,
    QuaternionConv2d: _quaternion_convolution,
    nn.BatchNorm2d: _batch_norm,
    MelBatchNorm: _mel_batch_norm,
    nn.Linear: _dense,
    QuaternionLinear: _dense,
    nn.AvgPool2d: _average_pool_layer,
    nn.MaxPool2d: _max_pool_layer,
    nn.ReLU: _relu_layer,
    nn.ReLU6: _relu6_layer,
    nn.Tanh: _tanh_layer,
    nn.Flatten: _flatten_layer,
    MeanOfProbabilities: _mean_of_probabilities,
}

FUNCTIONS: dict[Any, Lowered] = {
    functional.avg_pool2d: _average_pool,
    functional.max_pool2d: _max_pool,
    torch.relu: _relu,
    functional.relu: _relu,
    functional.relu6: _relu6,
    torch.tanh: _tanh,
    functional.tanh: _tanh,
    torch.mean: _mean,
    torch.amax: _maximum,
    torch.add: _add,
    operator.add: _add,
    operator.iadd: _add,
    torch.cat: _concatenate,
    torch.flatten: _flatten,
}

METHODS: dict[str, Lowered] = {
    "relu": _relu,
    "tanh": _tanh,
    "mean": _mean,
    "amax": _maximum,
    "add": _add,
    "flatten": _flatten,
    "narrow": _narrow,
}


def _statistics(layer: nn.BatchNorm2d) -> BatchNorm:
    if layer.running_mean is None or layer.running_var is None:
        raise InputError("batch norm without running statistics")
    ones, zeros = np.ones(layer.num_features, np.float32), np.zeros(layer.num_features, np.float32)
    gamma = ones if layer.weight is None else _array(layer.weight)
    beta = zeros if layer.bias is None else _array(layer.bias)
    return BatchNorm(gamma, beta, _array(layer.running_mean), _array(layer.running_var), layer.eps)


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().to("cpu", torch.float32).numpy().copy()


def _bias(bias: torch.Tensor | None, channels: int) -> np.ndarray:
    return np.zeros(channels, np.float32) if bias is None else _array(bias)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)
