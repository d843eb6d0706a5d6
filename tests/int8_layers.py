"""Graphs of one int8 layer with weights, biases, scales and zero points as the kernels may meet them at worst."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from edgeq.graph import ir
from edgeq.graph.check import output_shape
from edgeq.lowering.block import block_kernel

ACTIVATIONS = (ir.NONE, ir.RELU, ir.RELU6)
EXTREMES = ("random", "largest", "smallest", "alternating", "lowest")
FACTORS = ("usual", "about half", "above one", "tiny", "mixed")

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 7)
margins = st.integers(0, 2)
strides = st.tuples(st.integers(1, 3), st.integers(1, 3))
values = st.sampled_from(EXTREMES)
factors = st.sampled_from(FACTORS)
activations = st.sampled_from(ACTIVATIONS)


def convolution(
    shape: tuple[int, int, int],
    filters: int,
    kernel: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    activation: str = ir.NONE,
    factor: str = "usual",
    value: str = "random",
    seed: int = 0,
    weight: np.ndarray | None = None,
    dilation: tuple[int, int] = (1, 1),
) -> ir.Graph:
    """CONV_2D; padding is widened where the kernel would not fit."""
    padding = _fitting(shape, kernel, padding, dilation)
    op = ir.Conv2D(("x", "weight", "bias"), "y", stride, padding, activation, dilation)
    rng = np.random.default_rng(seed)
    weight = codes(rng, value, (filters, *kernel, shape[2])) if weight is None else weight
    return _graph(op, (1, *shape), weight, factor, rng, per_channel=bool(rng.integers(4)))


def depthwise(
    shape: tuple[int, int, int],
    multiplier: int,
    kernel: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    activation: str = ir.NONE,
    factor: str = "usual",
    value: str = "random",
    seed: int = 0,
    dilation: tuple[int, int] = (1, 1),
) -> ir.Graph:
    """DEPTHWISE_CONV_2D; padding is widened where the kernel would not fit."""
    padding = _fitting(shape, kernel, padding, dilation)
    op = ir.DepthwiseConv2D(("x", "weight", "bias"), "y", stride, padding, activation, dilation)
    rng = np.random.default_rng(seed)
    weight = codes(rng, value, (shape[2] * multiplier, *kernel, 1))
    return _graph(op, (1, *shape), weight, factor, rng, per_channel=bool(rng.integers(4)))


def dense(
    inputs: int,
    outputs: int,
    activation: str = ir.NONE,
    factor: str = "usual",
    value: str = "random",
    seed: int = 0,
    weight: np.ndarray | None = None,
    rows: int = 1,
) -> ir.Graph:
    """FULLY_CONNECTED of one row or several, one scale for all weights or one an output."""
    op = ir.FullyConnected(("x", "weight", "bias"), "y", activation)
    rng = np.random.default_rng(seed)
    weight = codes(rng, value, (outputs, inputs)) if weight is None else weight
    shape = (1, inputs) if rows == 1 else (1, rows, inputs)
    return _graph(op, shape, weight, factor, rng, per_channel=not rng.integers(4))


def quaternion_convolution(
    shape: tuple[int, int, int],
    quarter: int,
    kernel: tuple[int, int],
    seed: int = 0,
    value: str = "random",
    **others: Any,
) -> ir.Graph:
    """CONV_2D of 4 * quarter filters that are quaternions, each row with a sign of its own."""
    weight = quaternion_weights(np.random.default_rng(seed), value, 4 * quarter, shape[2], kernel)
    return convolution(shape, 4 * quarter, kernel, seed=seed, value=value, weight=weight, **others)


def quaternion_dense(
    quarter_in: int, quarter_out: int, seed: int = 0, value: str = "random", **others: Any
) -> ir.Graph:
    """FULLY_CONNECTED of quaternions."""
    weight = quaternion_weights(np.random.default_rng(seed), value, 4 * quarter_out, 4 * quarter_in, (1, 1))
    weight = weight.reshape(4 * quarter_out, 4 * quarter_in)
    return dense(4 * quarter_in, 4 * quarter_out, seed=seed, value=value, weight=weight, **others)


def codes(rng: np.random.Generator, value: str, shape: tuple[int, ...]) -> np.ndarray:
    """int8 codes: random ones, or all as large as they may be."""
    sign = rng.choice([-1, 1], shape) if value == "alternating" else 1
    fixed = {"largest": 127, "smallest": -127, "alternating": 127, "lowest": -128}
    if value in fixed:
        return (np.full(shape, fixed[value]) * sign).astype(np.int8)
    return rng.integers(-127, 128, shape).astype(np.int8)


def quaternion_weights(
    rng: np.random.Generator, value: str, out: int, inputs: int, kernel: tuple[int, int]
) -> np.ndarray:
    """OHWI codes of a block kernel, each row with a sign of its own."""
    components = codes(rng, value if value != "lowest" else "random", (4, out // 4, inputs // 4, *kernel))
    kernel_codes = block_kernel(components.astype(np.int16)).transpose(0, 2, 3, 1)
    return (kernel_codes * rng.choice([-1, 1], (out, 1, 1, 1))).astype(np.int8)


def inputs(graph: ir.Graph, seed: int = 0) -> np.ndarray:
    """Codes for a graph: a random window, one of the lowest codes, one of the highest, one of both."""
    shape = graph.tensors[graph.input].shape[1:]
    rng = np.random.default_rng(seed)
    both = rng.choice([-128, 127], shape)
    windows = [rng.integers(-128, 128, shape), np.full(shape, -128), np.full(shape, 127), both]
    return np.stack(windows).astype(np.int8)


def _graph(
    op: ir.Op, shape: tuple[int, ...], weight: np.ndarray, factor: str, rng: np.random.Generator, per_channel: bool
) -> ir.Graph:
    """Scales such that sums land about the codes' range, but for factors that are asked to be otherwise."""
    filters = len(weight)
    fan_in = weight[0].size
    bias_range = 1 << (31 if rng.integers(8) == 0 else 16)
    bias = rng.integers(-bias_range, bias_range, filters)
    usual = 2.0 / (74 * 74 * fan_in**0.5) * 10 * rng.uniform(0.2, 4, filters)
    factors = {
        "usual": usual,
        "about half": 2.0 ** rng.integers(-2, 1, filters) * rng.choice([0.999999999, 1, 1.000001], filters),
        "above one": 2.0 ** rng.uniform(0, 6, filters),
        "tiny": 2.0 ** rng.uniform(-36, -18, filters),
        "mixed": 2.0 ** rng.uniform(-30, 3, filters),
    }[factor]
    source, result = (np.array([rng.uniform(0.001, 0.3)], np.float32) for _ in range(2))
    scale = (factors * result / source).astype(np.float32)
    scale = scale if per_channel else scale[:1]
    tensors = {
        "x": ir.Tensor("x", shape, "int8", None, ir.Quantization(source, _zero_point(rng))),
        "weight": ir.Tensor(
            "weight", weight.shape, "int8", weight, ir.Quantization(scale, np.zeros(len(scale), np.int32))
        ),
        "bias": ir.Tensor("bias", bias.shape, "int32", bias.astype(np.int32)),
    }
    out = output_shape(op, [tensors[name].shape for name in op.inputs])
    tensors["y"] = ir.Tensor("y", out, "int8", None, ir.Quantization(result, _zero_point(rng)))
    return ir.Graph("layer", tensors, (op,), "x", "y")


def _zero_point(rng: np.random.Generator) -> np.ndarray:
    return np.array([rng.choice([-128, 127, 0, rng.integers(-128, 128)])], np.int32)


def _fitting(
    shape: tuple[int, int, int],
    kernel: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
) -> tuple[int, int, int, int]:
    above, below, left, right = padding
    height, width = ((size - 1) * apart + 1 for size, apart in zip(kernel, dilation, strict=True))
    below += max(0, height - shape[0] - above - below)
    return above, below, left, right + max(0, width - shape[1] - left - right)
