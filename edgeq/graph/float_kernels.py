"""What each operator of the graph computes in float32, over whole batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from edgeq.graph.ir import (
    RELU,
    RELU6,
    RELU_N1_TO_1,
    Add,
    AveragePool2D,
    Concatenation,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    HardSwish,
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
    Transpose,
)

Kernel = Callable[..., np.ndarray]

PATCH_BYTES = 1 << 22
"""About how much a convolution unfolds at a time: small enough for a cache, large enough for BLAS."""


def conv_products(op: Conv2D, x: np.ndarray, weight: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """A convolution without its bias, a few items of the batch at a time.

    op: how it strides and pads (with zeros). x: (N, H, W, in). weight: OHWI, of the same dtype. Yields the items'
    slice and their sums (n, rows, columns, out).
    """
    filters, height, width, _ = weight.shape
    columns = weight.reshape(filters, -1).T
    patches = windows(pad(x, op.padding, 0), (height, width), op.stride, op.dilation)
    step = max(1, PATCH_BYTES // max(1, patches[:1].nbytes))
    for start in range(0, len(x), step):
        items = slice(start, min(start + step, len(x)))
        chunk = patches[items]
        yield items, (chunk.reshape(-1, columns.shape[0]) @ columns).reshape(*chunk.shape[:3], filters)


def depthwise_products(op: DepthwiseConv2D, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """A depthwise convolution without its bias.

    op: how it strides and pads (with zeros). x: (N, H, W, in). weight: (out, height, width, 1), of the same dtype.
    Returns (N, rows, columns, out).
    """
    filters, height, width, _ = weight.shape
    patches = windows(pad(x, op.padding, 0), (height, width), op.stride, op.dilation)
    multiplier = filters // x.shape[3]
    y = np.zeros((*patches.shape[:3], filters), x.dtype)
    for row in range(height):
        for column in range(width):
            tap = patches[:, :, :, row, column]
            y += (tap if multiplier == 1 else np.repeat(tap, multiplier, axis=3)) * weight[:, row, column, 0]
    return y


def windows(
    x: np.ndarray, window: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int] = (1, 1)
) -> np.ndarray:
    """Every window that lies inside the map, as a view: (N, rows, columns, height, width, channels)."""
    span = [(taps - 1) * apart + 1 for taps, apart in zip(window, dilation, strict=True)]
    view = np.lib.stride_tricks.sliding_window_view(x, span, axis=(1, 2))
    taken = view[:, :: stride[0], :: stride[1], :, :: dilation[0], :: dilation[1]]
    return taken.transpose(0, 1, 2, 4, 5, 3)


def pad(
    x: np.ndarray, padding: tuple[int, int, int, int], value: float, channels: tuple[int, int] = (0, 0)
) -> np.ndarray:
    """x (N, H, W, C) with rows above and below, columns left and right, and channels, filled with value."""
    if not any(padding) and not any(channels):
        return x
    above, below, left, right = padding
    return np.pad(x, ((0, 0), (above, below), (left, right), channels), constant_values=value)


def pooled(op: AveragePool2D | MaxPool2D, x: np.ndarray, outside: float) -> np.ndarray:
    """The windows of a pool, as a view: (N, rows, columns, height, width, channels); `outside` lies around the map."""
    return windows(pad(x, op.padding, outside), op.window, op.stride)


def pool_counts(op: AveragePool2D, x: np.ndarray) -> np.ndarray:
    """How many elements of each window lie inside the map: (1, rows, columns, 1)."""
    ones = np.ones((1, *x.shape[1:3], 1), np.int64)
    return pooled(op, ones, 0).sum(axis=(3, 4))


def concatenation(op: Concatenation, tensors: Mapping[str, Tensor], *inputs: np.ndarray) -> np.ndarray:
    """The same on real values and on codes, as are the next four."""
    return np.concatenate(inputs, axis=op.axis)


def slice_axis(op: Slice, tensors: Mapping[str, Tensor], x: np.ndarray) -> np.ndarray:
    taken = slice(op.begin, op.begin + (op.size - 1) * op.step + 1, op.step)
    return np.moveaxis(np.moveaxis(x, op.axis, 0)[taken], 0, op.axis)


def reduce_max(op: ReduceMax, tensors: Mapping[str, Tensor], x: np.ndarray) -> np.ndarray:
    return x.max(axis=op.axes, keepdims=op.keep_dims)


def transpose(op: Transpose, tensors: Mapping[str, Tensor], x: np.ndarray) -> np.ndarray:
    return x.transpose(op.permutation)


def reshape(op: Reshape, tensors: Mapping[str, Tensor], x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), *tensors[op.output].shape[1:])


def _conv(op: Conv2D, tensors: Mapping[str, Tensor], x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    y = np.empty((len(x), *tensors[op.output].shape[1:]), np.float32)
    for items, products in conv_products(op, x, weight):
        y[items] = _activated(products + bias, op.activation)
    return y


def _depthwise(
    op: DepthwiseConv2D, tensors: Mapping[str, Tensor], x: np.ndarray, weight: np.ndarray, bias: np.ndarray
) -> np.ndarray:
    return _activated(depthwise_products(op, x, weight) + bias, op.activation)


def _dense(
    op: FullyConnected, tensors: Mapping[str, Tensor], x: np.ndarray, weight: np.ndarray, bias: np.ndarray
) -> np.ndarray:
    return _activated(x @ weight.T + bias, op.activation)


def _average_pool(op: AveragePool2D, tensors: Mapping[str, Tensor], x: np.ndarray) -> np.ndarray:
    sums = pooled(op, x, 0).sum(axis=(3, 4))
    return _activated(sums / pool_counts(op, x).astype(np.float32), op.activation)


def _max_pool(op: MaxPool2D, tensors: Mapping[str, Tensor], x: np.ndarray) -> np.ndarray:
    return _activated(pooled(op, x, -np.inf).max(axis=(3, 4)), op.activation)


def _mean(op: Mean, tensors: Mapping[str, Tensor], x: np.ndarray) -> np.ndarray:
    return x.mean(axis=op.axes, keepdims=op.keep_dims)


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


def _hard_swish(op: HardSwish, tensors: Mapping[str, Tensor], x: np.ndarray) -> np.ndarray:
    return x * np.clip(x + 3, 0, 6) / 6


def _tanh(op: Tanh, tensors: Mapping[str, Tensor], x: np.ndarray) -> np.ndarray:
    return np.tanh(x)


def _logistic(op: Logistic, tensors: Mapping[str, Tensor], x: np.ndarray) -> np.ndarray:
    # By way of tanh: exp(-x) would overflow where x is very negative.
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def _softmax(op: Softmax, tensors: Mapping[str, Tensor], x: np.ndarray) -> np.ndarray:
    exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def _pad(op: Pad, tensors: Mapping[str, Tensor], x: np.ndarray) -> np.ndarray:
    return pad(x, op.padding, 0, op.channels)


def _activated(x: np.ndarray, activation: str) -> np.ndarray:
    if activation in (RELU6, RELU_N1_TO_1):
        return np.clip(x, *((0, 6) if activation == RELU6 else (-1, 1)))
    return np.maximum(x, 0) if activation == RELU else x


FLOAT_KERNELS: dict[type[Op], Kernel] = {
    Conv2D: _conv,
    DepthwiseConv2D: _depthwise,
    FullyConnected: _dense,
    AveragePool2D: _average_pool,
    MaxPool2D: _max_pool,
    Mean: _mean,
    ReduceMax: reduce_max,
    Add: _add,
    Sub: _sub,
    Mul: _mul,
    Concatenation: concatenation,
    Slice: slice_axis,
    Relu: _relu,
    Relu6: _relu6,
    HardSwish: _hard_swish,
    Tanh: _tanh,
    Logistic: _logistic,
    Softmax: _softmax,
    Reshape: reshape,
    Pad: _pad,
    Transpose: transpose,
}
"""One function an operator: (op, tensors by name, inputs) to the output. QUANTIZE is for codes only."""
