from __future__ import annotations

from dataclasses import replace

import graphs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from litert import run_litert

from edgeq.errors import InputError
from edgeq.graph.ir import NONE, RELU, RELU6, Graph, Quantization
from edgeq.graph.quantize import observe, quantize
from edgeq.graph.reference import dequantize_output, quantize_input, run

sizes = st.integers(1, 6)
margins = st.integers(0, 2)
seeds = st.integers(0, 2**32 - 1)
activations = st.sampled_from([NONE, RELU, RELU6])


@given(
    input_size=st.tuples(st.integers(3, 7), st.integers(3, 7), st.integers(1, 3)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(margins, margins, margins, margins),
    seed=seeds,
)
def test_float_convolution_is_its_definition(input_size, kernel, stride, padding, seed):
    net = graphs.Builder((1, *input_size), seed)
    graph = net.graph("conv", net.conv(net.input, 2, kernel, stride, padding, gain=net.gain(2)))
    weight = graph.tensors["conv_1.weight"]
    x = graphs.inputs(graph, 2, seed)
    padded = np.zeros((2, input_size[0] + sum(padding[:2]), input_size[1] + sum(padding[2:]), input_size[2]))
    padded[:, padding[0] : padding[0] + input_size[0], padding[2] : padding[2] + input_size[1]] = x
    expected = np.zeros((2, *graph.tensors["conv_1"].shape[1:]))
    for item, row, column, channel in np.ndindex(*expected.shape):
        top, left = row * stride[0], column * stride[1]
        window = padded[item, top : top + kernel[0], left : left + kernel[1]]
        product = weight.gain[channel] * np.sum(window * weight.data[channel].astype(np.float64))
        expected[item, row, column, channel] = max(0, product + graph.tensors["conv_1.bias"].data[channel])
    np.testing.assert_allclose(run(graph, x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", graphs.BUILDERS)
def test_float_graphs_agree_with_litert(name):
    graph = graphs.BUILDERS[name]()
    x = graphs.inputs(graph, 5)
    ours, theirs = run(graph, x, keep=True), run_litert(graph, x)
    for op in graph.ops:
        np.testing.assert_allclose(ours[op.output], theirs[op.output], rtol=1e-5, atol=1e-5, err_msg=op.output)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", graphs.BUILDERS)
def test_int8_graphs_equal_litert_in_every_activation(name, seed):
    graph = graphs.BUILDERS[name](seed)
    x = graphs.inputs(graph, 24, seed)
    quantized = quantize(graph, observe(graph, [x[:16]]))
    codes = quantize_input(quantized, 1.2 * x)
    ours, theirs = run(quantized, codes, keep=True), run_litert(quantized, codes)
    for op in quantized.ops:
        np.testing.assert_array_equal(ours[op.output], theirs[op.output], err_msg=op.output)


@given(
    input_size=st.tuples(st.integers(4, 8), st.integers(4, 8), st.integers(1, 40)),
    channels=sizes,
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(margins, margins, margins, margins),
    activation=activations,
    seed=seeds,
)
def test_int8_convolution_equals_litert(input_size, channels, kernel, stride, padding, activation, seed):
    net = graphs.Builder((1, *input_size), seed)
    gain = net.gain(channels) * np.float32(10) ** net.rng.uniform(-2, 2, channels).astype(np.float32)
    _assert_equals_litert(
        net, net.conv(net.input, channels, kernel, stride, padding, activation, gain=gain), spread=1.5
    )


@given(
    input_size=st.tuples(st.integers(4, 8), st.integers(4, 8), st.integers(1, 9)),
    multiplier=st.integers(1, 3),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(margins, margins, margins, margins),
    activation=activations,
    seed=seeds,
)
def test_int8_depthwise_convolution_equals_litert(input_size, multiplier, kernel, stride, padding, activation, seed):
    net = graphs.Builder((1, *input_size), seed)
    channels = input_size[2] * multiplier
    gain = net.gain(channels) * np.float32(10) ** net.rng.uniform(-2, 2, channels).astype(np.float32)
    _assert_equals_litert(
        net, net.depthwise(net.input, kernel, stride, padding, multiplier, activation, gain=gain), spread=1.5
    )


@given(depth=st.integers(1, 300), units=sizes, activation=activations, seed=seeds)
def test_int8_dense_layer_equals_litert(depth, units, activation, seed):
    net = graphs.Builder((1, depth), seed)
    _assert_equals_litert(net, net.dense(net.input, units, activation), spread=1.5)


binary = st.sampled_from(["add", "sub", "mul"])


@given(kind=binary, shape=st.tuples(sizes, sizes, sizes), activation=activations, seed=seeds)
def test_int8_sums_and_products_equal_litert(kind, shape, activation, seed):
    net = graphs.Builder((1, *shape), seed)
    # Two branches, so that each side has a scale of its own.
    left, right = net.relu(net.input), net.relu(net.input)
    _assert_equals_litert(net, getattr(net, kind)(left, right, activation), spread=2)


@given(kind=binary, shape=st.tuples(sizes, sizes, sizes), activation=activations, seed=seeds, data=st.data())
def test_int8_sums_and_products_with_constants_equal_litert(kind, shape, activation, seed, data):
    axes = [data.draw(st.sampled_from([1, size])) for size in (1, *shape)]
    dropped = data.draw(st.integers(0, 4))  # constants may have fewer axes
    net = graphs.Builder((1, *shape), seed)
    constant = net.rng.standard_normal(axes[dropped:]) * 10 ** net.rng.uniform(-3, 3) + net.rng.uniform(-1, 1)
    _assert_equals_litert(net, getattr(net, kind)(net.input, np.asarray(constant), activation), spread=2)


@given(shape=st.tuples(sizes, sizes), channels=st.lists(sizes, min_size=2, max_size=5), seed=seeds, data=st.data())
def test_int8_joins_and_slices_equal_litert(shape, channels, seed, data):
    """What is joined has ranges of its own: one is prepared for all."""
    net = graphs.Builder((1, *shape, max(channels)), seed)
    parts = [net.conv(net.input, n, (1, 1), activation=NONE) for n in channels]
    parts.append(net.max_pool(parts[0], (1, 1)))
    begin = data.draw(st.integers(0, sum(channels)))
    x = net.slice(net.concatenation(parts), begin, data.draw(st.integers(1, sum(channels) + channels[0] - begin)))
    _assert_equals_litert(net, x, spread=2)


@given(
    kind=st.sampled_from(["conv", "depthwise", "dense", "add", "sub", "mul", "relu6"]),
    scale=st.floats(0.01, 1),
    zero_point=st.integers(-128, 127),
    seed=seeds,
)
def test_int8_relu6_equals_litert_at_scales_that_others_chose(kind, scale, zero_point, seed):
    """edgeq lets the codes end at 6; in other files 6 may lie anywhere among them."""
    net = graphs.Builder((1, 4) if kind == "dense" else (1, 3, 3, 4), seed)
    match kind:
        case "conv":
            x = net.conv(net.input, 5, (1, 1), activation=RELU6)
        case "depthwise":
            x = net.depthwise(net.input, (2, 2), activation=RELU6)
        case "dense":
            x = net.dense(net.input, 5, activation=RELU6)
        case "relu6":
            x = net.relu6(net.input)
        case _:
            x = getattr(net, kind)(net.input, net.relu(net.input), RELU6)
    graph = net.graph(kind, x)
    quantized = quantize(graph, {name: (-9.0, 9.0) for name, tensor in graph.tensors.items() if tensor.data is None})
    parameters = Quantization(np.array([scale], np.float32), np.array([zero_point], np.int32))
    output = replace(quantized.tensors[x], quantization=parameters)
    quantized = replace(quantized, tensors={**quantized.tensors, x: output})
    shape = (10, *quantized.tensors[net.input].shape[1:])
    _assert_codes_equal(quantized, net.rng.integers(-128, 128, shape).astype(np.int8))


@given(size=st.tuples(st.integers(1, 9), st.integers(1, 9), sizes), seed=seeds, data=st.data())
def test_int8_pools_equal_litert(size, seed, data):
    window = data.draw(st.tuples(st.integers(1, size[0]), st.integers(1, size[1])))
    stride = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    for kind in ("average_pool", "max_pool"):
        net = graphs.Builder((1, *size), seed)
        _assert_equals_litert(net, getattr(net, kind)(net.input, window, stride))


@given(size=st.tuples(sizes, sizes, sizes), padding=st.tuples(margins, margins, margins, margins), seed=seeds)
def test_int8_padding_and_reshaping_equal_litert(size, padding, seed):
    net = graphs.Builder((1, *size), seed)
    _assert_equals_litert(net, net.flatten(net.pad(net.input, padding)))


def test_int8_reductions_equal_litert_on_thousands_of_sums():
    rng = np.random.default_rng(0)
    sums = 0
    for _ in range(150):
        shape = tuple(rng.integers(1, 33, rng.integers(1, 4)).tolist())
        axes = tuple(axis for axis in range(1, len(shape) + 1) if rng.random() < 0.6) or (1,)
        for kind in ("mean", "reduce_max"):
            net = graphs.Builder((1, *shape), int(rng.integers(1 << 32)))
            sums += _assert_equals_litert(net, getattr(net, kind)(net.input, axes), spread=1)
    assert sums > 5000


def test_int8_softmax_equals_litert_on_thousands_of_rows():
    rng = np.random.default_rng(0)
    for _ in range(150):
        graph = _unary("softmax", int(rng.integers(2, 60)), 10 ** rng.uniform(-4, 4))
        classes = graph.tensors[graph.input].shape[1]
        codes = rng.integers(-128, 128, (40, classes))
        codes[20:] = np.clip(codes[20:] // 16 + 120, -128, 127)  # close contests
        _assert_codes_equal(graph, codes.astype(np.int8))


@pytest.mark.parametrize("kind", ["tanh", "logistic", "relu", "relu6"])
def test_int8_tables_equal_litert_for_all_codes(kind):
    rng = np.random.default_rng(0)
    for largest in 10 ** rng.uniform(-3, 3, 100):
        _assert_codes_equal(_unary(kind, 256, largest, rng), np.arange(-128, 128, dtype=np.int8)[None])


def test_int8_sums_are_exact_beyond_float32():
    """600 products of 127 * 255 exceed 2^24; a bias that cancels them leaves the last unit in sight."""
    weight = np.ones((1, 600), np.float32)
    weight[0, -1] = 1 / 127
    step = (1 / 255) * (1 / 127)
    bias = np.array([-599 * 127 * 255 * step], np.float32)
    codes = np.full((100, 1, 1, 600), 127, np.int8)
    codes[..., -1] = np.arange(-128, -28)[:, None, None]
    for kind in ("conv", "dense"):
        net = graphs.Builder((1, 1, 1, 600))
        if kind == "conv":
            output = net.conv(net.input, 1, (1, 1), weight=weight.reshape(1, 1, 1, 600), bias=bias, activation=NONE)
        else:
            output = net.dense(net.flatten(net.input), 1, weight=weight, bias=bias, activation=NONE)
        graph = quantize(net.graph(kind, output), {"input": (0, 1), output: (-128 * step, 127 * step)})
        assert len(np.unique(run(graph, codes))) == 100
        _assert_codes_equal(graph, codes)


def test_ranges_too_narrow_for_the_kernels_are_widened():
    """Where one step of the sums is more than one code, kernels overflow, and ADD would end the process."""
    rng = np.random.default_rng(0)
    for kind in ("conv", "depthwise", "dense", "mean", "relu", "relu6", "add", "sub", "mul", "factor"):
        net = graphs.Builder((1, 2, 2, 3))
        x = net.input
        match kind:
            case "conv":
                x = net.conv(x, 2, (1, 1))
            case "depthwise":
                x = net.depthwise(x, (2, 1))
            case "dense":
                x = net.dense(net.flatten(x), 2)
            case "mean":
                x = net.mean(x, (1, 2))
            case "factor":
                x = net.mul(x, np.full(3, 1e5))
            case "relu" | "relu6":
                x = getattr(net, kind)(x)
            case _:
                x = getattr(net, kind)(x, x)
        graph = quantize(net.graph(kind, x), {"input": (-1e4, 1e4), x: (-1e-6, 1e-6)})
        _assert_codes_equal(graph, rng.integers(-128, 128, (20, 2, 2, 3)).astype(np.int8))


@pytest.mark.parametrize("name", graphs.BUILDERS)
def test_a_batch_is_its_windows(name):
    graph = graphs.BUILDERS[name]()
    x = graphs.inputs(graph, 7)
    quantized = quantize(graph, observe(graph, [x]))
    codes = quantize_input(quantized, x)
    singly = np.concatenate([run(quantized, window[None]) for window in codes])
    np.testing.assert_array_equal(run(quantized, codes), singly)
    assert run(quantized, codes[:0]).shape == (0, *singly.shape[1:])


def test_keep_gives_every_activation_and_the_input():
    graph = graphs.residual()
    x = graphs.inputs(graph, 3)
    kept = run(graph, x, keep=True)
    assert set(kept) == {graph.input, *(op.output for op in graph.ops)}
    np.testing.assert_array_equal(kept[graph.output], run(graph, x))
    assert all(values.dtype == np.float32 for values in kept.values())


def test_codes_and_values_of_input_and_output():
    graph = graphs.chain()
    quantized = quantize(graph, {**observe(graph, [graphs.inputs(graph, 4)]), "input": (-1.0, 3.0)})
    parameters = quantized.tensors["input"].quantization
    x = np.zeros((1, 8, 10, 1), np.float32)
    x[0, 0, :5, 0] = [-100, -1, 0, 3, 100]
    codes = quantize_input(quantized, x)[0, 0, :5, 0]
    assert codes.tolist() == [-128, -128, parameters.zero_point[0], 127, 127]
    assert dequantize_output(quantized, np.array([[-128, 0, 127]], np.int8)).tolist() == [[0, 0.5, 255 / 256]]


def test_what_does_not_fit_is_refused_by_name():
    graph = graphs.chain()
    quantized = quantize(graph, observe(graph, [graphs.inputs(graph, 4)]))
    x = graphs.inputs(graph, 1)
    with pytest.raises(InputError, match=r"chain: input of shape \(1, 8, 9, 1\): expected \(N, 8, 10, 1\)"):
        run(graph, x[:, :, :9])
    with pytest.raises(InputError, match="float64: expected float32"):
        run(graph, x.astype(np.float64))
    with pytest.raises(InputError, match="float32: expected int8"):
        run(quantized, x)
    with pytest.raises(InputError, match="expected a quantized graph"):
        quantize_input(graph, x)
    x[0, 0, 0, 0] = np.nan
    with pytest.raises(InputError, match="NaN"):
        quantize_input(quantized, x)


def _unary(kind: str, width: int, largest: float, rng: np.random.Generator | None = None) -> Graph:
    net = graphs.Builder((1, width))
    graph = net.graph(kind, getattr(net, kind)(net.input))
    rng = rng or np.random.default_rng(0)
    ranges = {name: (-largest * rng.uniform(0, 1), largest * rng.uniform(0.1, 1)) for name in graph.tensors}
    return quantize(graph, ranges)


def _assert_equals_litert(net: graphs.Builder, output: str, spread: float = 1.0) -> int:
    """Random ranges about `spread`, random codes; returns how many codes were compared."""
    graph = net.graph("case", output)
    ranges = {
        name: (-spread * net.rng.uniform(0, 2), spread * net.rng.uniform(0, 2))
        for name, tensor in graph.tensors.items()
        if tensor.data is None
    }
    quantized = quantize(graph, ranges)
    shape = quantized.tensors[graph.input].shape[1:]
    return _assert_codes_equal(quantized, net.rng.integers(-128, 128, (3, *shape)).astype(np.int8))


def _assert_codes_equal(graph: Graph, codes: np.ndarray) -> int:
    ours = run(graph, codes)
    np.testing.assert_array_equal(ours, run_litert(graph, codes)[graph.output])
    return ours.size
