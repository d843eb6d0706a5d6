"""The operators that other people's INT8 files hold, code by code against LiteRT's reference kernels."""

from __future__ import annotations

import math
from dataclasses import replace

import graphs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litert import run_litert

from edgeq.export.tflite import to_tflite
from edgeq.graph import from_tflite, ir, reference, tflite_format
from edgeq.graph.quantize import quantize

sizes = st.integers(1, 5)
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=25)  # each of several runs in LiteRT
activations = st.sampled_from([ir.NONE, ir.RELU, ir.RELU6, ir.RELU_N1_TO_1])


def equal_litert(net: graphs.Builder, output: str, spread: float = 2.0, count: int = 3) -> ir.Graph:
    """The graph at random scales equals LiteRT on random codes, and comes back from its file."""
    graph = net.graph("case", output)
    ranges = {name: tuple(sorted(net.rng.uniform(-spread, spread, 2))) for name in graph.tensors}
    return codes_equal_litert(quantize(graph, ranges), net.rng, count)


def codes_equal_litert(graph: ir.Graph, rng: np.random.Generator, count: int = 3) -> ir.Graph:
    codes = rng.integers(-128, 128, (count, *graph.tensors[graph.input].shape[1:])).astype(np.int8)
    ours, theirs = reference.run(graph, codes, keep=True), run_litert(graph, codes)
    for op in graph.ops:
        np.testing.assert_array_equal(ours[op.output], theirs[op.output], err_msg=op.output)
    model = to_tflite(graph)
    assert to_tflite(from_tflite.read(model)) == model
    return graph


@few
@given(
    channels=st.integers(1, 4),
    kernel=pairs,
    stride=pairs,
    dilation=pairs,
    padding=st.tuples(*[st.integers(0, 2)] * 4),
    activation=activations,
    seed=seeds,
)
def test_dilated_convolutions(channels, kernel, stride, dilation, padding, activation, seed):
    net = graphs.Builder((1, 8, 7, channels), seed)
    x = net.conv(net.input, 3, kernel, stride, padding, activation, dilation=dilation)
    equal_litert(net, x)
    net = graphs.Builder((1, 8, 7, channels), seed)
    x = net.depthwise(net.input, kernel, stride, padding, 2, activation, dilation=dilation)
    equal_litert(net, x)


@few
@given(size=st.tuples(sizes, sizes, sizes), window=pairs, stride=pairs, activation=activations, seed=seeds)
def test_pools_with_padding(size, window, stride, activation, seed):
    for kind in ("average_pool", "max_pool"):
        net = graphs.Builder((1, *size), seed)
        padding = tflite_format.same_paddings((1, *size), window, stride)
        equal_litert(net, getattr(net, kind)(net.input, window, stride, padding, activation))


@few
@given(shape=st.lists(sizes, min_size=1, max_size=3), units=sizes, per_output=st.booleans(), activation=activations,
       seed=seeds)  # fmt: skip
def test_dense_layers_over_rows_and_with_a_scale_an_output(shape, units, per_output, activation, seed):
    net = graphs.Builder((1, *shape), seed)
    graph = equal_litert(net, net.dense(net.input, units, activation))
    if per_output:
        scales = net.rng.uniform(0.2, 5, units).astype(np.float32)
        tensors = dict(graph.tensors)
        for name in ("dense_1.weight", "dense_1.bias"):
            old = tensors[name].quantization
            scale = (old.scale * scales).astype(np.float32)
            tensors[name] = replace(
                tensors[name], quantization=ir.Quantization(scale, np.zeros(len(scale), np.int32), 0)
            )
        codes_equal_litert(replace(graph, tensors=tensors), net.rng, 8)


def test_dense_layers_round_as_litert_does_on_many_sums():
    """With one scale in all, and with the same scale stated once an output."""
    for seed in range(12):
        net = graphs.Builder((1, 40), seed)
        graph = equal_litert(net, net.dense(net.input, 500, ir.NONE), 0.5 * 4 ** net.rng.uniform(0, 3), 40)
        tensors = dict(graph.tensors)
        for name in ("dense_1.weight", "dense_1.bias"):
            scale = np.repeat(tensors[name].quantization.scale, 500)
            tensors[name] = replace(tensors[name], quantization=ir.Quantization(scale, np.zeros(500, np.int32), 0))
        codes_equal_litert(replace(graph, tensors=tensors), net.rng, 40)


@few
@given(shape=st.lists(sizes, min_size=1, max_size=3), keep=st.booleans(), seed=seeds, data=st.data())
def test_reductions_that_keep_their_axes(shape, keep, seed, data):
    axes = data.draw(st.sets(st.integers(1, len(shape)), min_size=1))
    for kind in ("mean", "reduce_max"):
        net = graphs.Builder((1, *shape), seed)
        equal_litert(net, getattr(net, kind)(net.input, tuple(sorted(axes)), keep))


@few
@given(kind=st.sampled_from(["add", "sub", "mul"]), shape=st.lists(sizes, min_size=1, max_size=3),
       activation=activations, seed=seeds, data=st.data())  # fmt: skip
def test_operands_that_broadcast(kind, shape, activation, seed, data):
    """Two activations, each with some axes of size 1; and a constant that something is subtracted from."""
    net = graphs.Builder((1, *shape), seed)
    operands = []
    for _ in range(2):
        axes = tuple(sorted(data.draw(st.sets(st.integers(1, len(shape))))))
        operands.append(net.mean(net.input, axes, keep_dims=True) if axes else net.relu(net.input))
    equal_litert(net, getattr(net, kind)(*operands, activation))
    net = graphs.Builder((1, *shape), seed)
    equal_litert(net, net.sub(net.rng.standard_normal(shape[-1]), net.input, activation))


@few
@given(shape=st.lists(sizes, min_size=1, max_size=4), count=st.integers(2, 3), seed=seeds, data=st.data())
def test_joins_slices_and_transpositions_of_any_axis(shape, count, seed, data):
    axis = data.draw(st.integers(-len(shape), -1))
    net = graphs.Builder((1, *shape), seed)
    x = net.concatenation([net.input] * count, axis)
    total = count * shape[axis]
    step = data.draw(st.integers(1, 3))
    begin = data.draw(st.integers(0, total - 1))
    size = data.draw(st.integers(1, (total - 1 - begin) // step + 1))
    x = net.slice(x, begin, size, axis, step)
    order = data.draw(st.permutations(range(1, len(shape) + 1)))
    graph = net.graph("case", net.transpose(x, (0, *order)))
    x = np.random.default_rng(seed).integers(-128, 128, (2, *shape)).astype(np.int8)
    quantized = quantize(graph, {"input": (-1, 1)})
    ours, theirs = reference.run(quantized, x), run_litert(quantized, x)
    np.testing.assert_array_equal(ours, theirs[graph.output])


@few
@given(size=st.tuples(sizes, sizes, sizes), padding=st.tuples(*[st.integers(0, 2)] * 4), channels=pairs, seed=seeds)
def test_padding_of_channels(size, padding, channels, seed):
    net = graphs.Builder((1, *size), seed)
    equal_litert(net, net.pad(net.input, padding, channels))


@pytest.mark.parametrize("kind", ["hard_swish", "quantize"])
def test_every_code_at_many_scales(kind):
    rng = np.random.default_rng(0)
    for _ in range(150):
        scale = 10 ** rng.uniform(-4, 2)
        ratio = 2 ** rng.uniform(-5 if kind == "hard_swish" else -10, 10)
        tensors = {}
        for name, step in (("x", scale), ("y", scale * ratio)):
            parameters = ir.Quantization(np.float32([step]), rng.integers(-128, 128, 1).astype(np.int32))
            tensors[name] = ir.Tensor(name, (1, 256), "int8", quantization=parameters)
        op = {"hard_swish": ir.HardSwish, "quantize": ir.Quantize}[kind](("x",), "y")
        graph = ir.Graph(kind, tensors, (op,), "x", "y")
        codes = np.arange(-128, 128).astype(np.int8)[None]
        np.testing.assert_array_equal(reference.run(graph, codes), run_litert(graph, codes)["y"], err_msg=str(tensors))


@few
@given(exponent=st.integers(-12, 3), seed=seeds)
def test_products_that_are_scaled_up(exponent, seed):
    """Version 3 of MUL: a product of steps larger than the output's step."""
    rng = np.random.default_rng(seed)
    steps = rng.uniform(0.5, 1, 2) * 2.0**exponent, math.prod(rng.uniform(0.5, 1, 2)) * 4.0**exponent / 3
    tensors = {
        name: ir.Tensor(name, (1, 300), "int8", quantization=ir.Quantization(np.float32([step]), np.int32([zero])))
        for name, step, zero in (("x", steps[0][0], 3), ("s", steps[0][1], -7), ("y", steps[1], 1))
    }
    ops = (ir.Quantize(("x",), "s"), ir.Mul(("x", "s"), "y"))
    codes_equal_litert(ir.Graph("products", tensors, ops, "x", "y"), rng)
