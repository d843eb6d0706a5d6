"""What each operator of the graph computes in float32, over whole batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from edgeq.graph.ir import (
    RELU,
    RELU6,
    Add,
    AveragePool2D,
    Concatenation,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Logistic,
    MaxPool2D,
    Mean,
    Mul,
    Op,
    Pad,
    ReduceMax,
    Relu,
    Relu6,
    Reshape,
    Slice,
    Softmax,
    Sub,
    Tanh,
    Tensor,
)

Kernel = Callable[..., np.ndarray]

PATCH_BYTES = 1 << 22
"""About how much a convolution unfolds at a time: small enough for a cache, large enough for BLAS."""


def conv_products(
    x: np.ndarray, weight: np.ndarray, stride: tuple[int, int], padding: tuple[int, int, int, int]
) -> Iterator[tuple[slice, np.ndarray]]:
    """A convolution without its bias, a few items of the batch at a time.

    x: (N, H, W, in), padded here with zeros. weight: OHWI, of the same dtype. Yields the items' slice and their sums
    (n, rows, columns, out).
    """
    filters, height, width, _ = weight.shape
    columns = weight.reshape(filters, -1).T
    patches = windows(pad(x, padding, 0), (height, width), stride)
    step = max(1, PATCH_BYTES // max(1, patches[:1].nbytes))
    for start in range(0, len(x), step):
        items = slice(start, min(start + step, len(x)))
        chunk = patches[items]
        yield items, (chunk.reshape(-1, columns.shape[0]) @ columns).reshape(*chunk.shape[:3], filters)


def depthwise_products(
    x: np.ndarray, weight: np.ndarray, stride: tuple[int, int], padding: tuple[int, int, int, int]
) -> np.ndarray:
    """A depthwise convolution without its bias.

    x: (N, H, W, in), padded here with zeros. weight: (out, height, width, 1), of the same dtype. Returns
    (N, rows, columns, out).
    """
    filters, height, width, _ = weight.shape
    patches = windows(pad(x, padding, 0), (height, width), stride)
    multiplier = filters // x.shape[3]
    y = np.zeros((*patches.shape[:3], filters), x.dtype)
    for row in range(height):
        for column in range(width):
            tap = patches[:, :, :, row, column]
            y += (tap if multiplier == 1 else np.repeat(tap, multiplier, axis=3)) * weight[:, row, column, 0]
    return y


def windows(x: np.ndarray, window: tuple[int, int], stride: tuple[int, int]) -> np.ndarray:
    """Every window that lies inside the map, as a view: (N, rows, columns, height, width, channels)."""
    view = np.lib.stride_tricks.sliding_window_view(x, window, axis=(1, 2))
    return view[:, :: stride[0], :: stride[1]].transpose(0, 1, 2, 4, 5, 3)


def pad(x: np.ndarray, padding: tuple[int, int, int, int], value: float) -> np.ndarray:
    """x (N, H, W, C) with rows above and below and columns left and right, filled with value."""
    if not any(padding):
        return x
    above, below, left, right = padding
    return np.pad(x, ((0, 0), (above, below), (left, right), (0, 0)), constant_values=value)


def max_pool(op: MaxPool2D, tensors: Mapping[str, Tensor], x: np.ndarray) -> np.ndarray:
    """The same on real values and on codes, as are the next four."""
    return windows(x, op.window, op.stride).max(axis=(3, 4))


def concatenation(op: Concatenation, tensors: Mapping[str, Tensor], *inputs: np.ndarray) -> np.ndarray:
    return np.concatenate(inputs, axis=-1)


def slice_channels(op: Slice, tensors: Mapping[str, Tensor], x: np.ndarray) -> np.ndarray:
    return x[..., op.begin : op.begin + op.size]


def reduce_max(op: ReduceMax, tensors: Mapping[str, Tensor], x: np.ndarray) -> np.ndarray:
    return x.max(axis=op.axes)


def reshape(op: Reshape, tensors: Mapping[str, Tensor], x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), *tensors[op.output].shape[1:])


def _conv(op: Conv2D, tensors: Mapping[str, Tensor], x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    y = np.empty((len(x), *tensors[op.output].shape[1:]), np.float32)
    for items, products in conv_products(x, weight, op.stride, op.padding):
        y[items] = _activated(products + bias, op.activation)
    return y


def _depthwise(
    op: DepthwiseConv2D, tensors: Mapping[str, Tensor], x: np.ndarray, weight: np.ndarray, bias: np.ndarray
) -> np.ndarray:
    return _activated(depthwise_products(x, weight, op.stride, op.padding) + bias, op.activation)


def _dense(
    op: FullyConnected, tensors: Mapping[str, Tensor], x: np.ndarray, weight: np.ndarray, bias: np.ndarray
) -> np.ndarray:
    return _activated(x @ weight.T + bias, op.activation)


def _average_pool(op: AveragePool2D, tensors: Mapping[str, Tensor], x: np.ndarray) -> np.ndarray:
    return windows(x, op.window, op.stride).mean(axis=(3, 4))


def _mean(op: Mean, tensors: Mapping[str, Tensor], x: np.ndarray) -> np.ndarray:
    return x.mean(axis=op.axes)


def _add(op: Add, tensors: Mapping[str, Tensor], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _activated(x + y, op.activation)


def _sub(op: Sub, tensors: Mapping[str, Tensor], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _activated(x - y, op.activation)


def _mul(op: Mul, tensors: Mapping[str, Tensor], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _activated(x * y, op.activation)


def _relu(op: Relu, tensors: Mapping[str, Tensor], x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def _relu6(op: Relu6, tensors: Mapping[str, Tensor], x: np.ndarray) -> np.ndarray:
    return np.clip(x, 0, 6)


def _tanh(op: Tanh, tensors: Mapping[str, Tensor], x: np.ndarray) -> np.ndarray:
    return np.tanh(x)


def _logistic(op: Logistic, tensors: Mapping[str, Tensor], x: np.ndarray) -> np.ndarray:
    # By way of tanh: exp(-x) would overflow where x is very negative.
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def _softmax(op: Softmax, tensors: Mapping[str, Tensor], x: np.ndarray) -> np.ndarray:
    exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def _pad(op: Pad, tensors: Mapping[str, Tensor], x: np.ndarray) -> np.ndarray:
    return pad(x, op.padding, 0)


def _activated(x: np.ndarray, activation: str) -> np.ndarray:
    if activation == RELU6:
        return np.clip(x, 0, 6)
    return np.maximum(x, 0) if activation == RELU else x


FLOAT_KERNELS: dict[type[Op], Kernel] = {
    Conv2D: _conv,
    DepthwiseConv2D: _depthwise,
    FullyConnected: _dense,
    AveragePool2D: _average_pool,
    MaxPool2D: max_pool,
    Mean: _mean,
    ReduceMax: reduce_max,
    Add: _add,
    Sub: _sub,
    Mul: _mul,
    Concatenation: concatenation,
    Slice: slice_channels,
    Relu: _relu,
    Relu6: _relu6,
    Tanh: _tanh,
    Logistic: _logistic,
    Softmax: _softmax,
    Reshape: reshape,
    Pad: _pad,
}
"""One function an operator: (op, tensors by name, inputs) to the output."""
