from __future__ import annotations

from dataclasses import replace

import graphs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgeq.errors import InputError
from edgeq.graph.ir import NONE, RELU6, Graph, Tensor
from edgeq.graph.quantize import observe, quantize
from edgeq.graph.reference import dequantize_output, quantize_input, run
from edgeq.graph.sqnr import layer_sqnr

finite = st.floats(-1e4, 1e4, width=32)


@pytest.mark.parametrize("name", graphs.BUILDERS)
def test_int8_graphs_stay_close_to_float(name):
    graph = graphs.BUILDERS[name]()
    x = graphs.inputs(graph, 64)
    quantized = quantize(graph, observe(graph, [x]))
    assert min(ratio for _, _, ratio in layer_sqnr(graph, quantized, [x])) > 25
    output = dequantize_output(quantized, run(quantized, quantize_input(quantized, x)))
    np.testing.assert_allclose(output, run(graph, x), atol=0.03)


@pytest.mark.parametrize("name", graphs.BUILDERS)
def test_every_tensor_has_the_type_its_kernel_asks_for(name):
    graph = graphs.BUILDERS[name]()
    quantized = quantize(graph, observe(graph, [graphs.inputs(graph, 8)]))
    assert quantized.quantized and quantized.ops == graph.ops and quantized.metadata == graph.metadata
    for op in quantized.ops:
        source, output = (quantized.tensors[name].quantization for name in (op.inputs[0], op.output))
        if op.kind in ("AVERAGE_POOL_2D", "MAX_POOL_2D", "RESHAPE", "REDUCE_MAX", "PAD", "SLICE", "CONCATENATION"):
            assert all(quantized.tensors[name].quantization is output for name in op.inputs)
        if op.kind in ("ADD", "SUB", "MUL") and graph.tensors[op.inputs[1]].data is not None:
            constant = quantized.tensors[op.inputs[1]]
            assert constant.data.dtype == np.int8 and constant.quantization.scale.size == 1
        if op.kind == "TANH":
            assert (output.scale[0], output.zero_point[0]) == (1 / 128, 0)
        if op.kind in ("SOFTMAX", "LOGISTIC"):
            assert (output.scale[0], output.zero_point[0]) == (1 / 256, -128)
        if op.kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            weight, bias = (quantized.tensors[name] for name in op.inputs[1:])
            assert weight.data.dtype == np.int8 and bias.data.dtype == np.int32 and weight.gain is None
            assert len(weight.quantization.scale) == (1 if op.kind == "FULLY_CONNECTED" else len(weight.data))
            assert weight.data.min() >= -127 and not weight.quantization.zero_point.any()
            np.testing.assert_allclose(bias.quantization.scale, source.scale * weight.quantization.scale, rtol=1e-6)


@given(low=finite, high=finite)
def test_ranges_are_covered_and_zero_is_exact(low, high):
    low, high = sorted((low, high))
    net = graphs.Builder((1, 4))
    graph = net.graph("range", net.flatten(net.input))
    parameters = quantize(graph, {"input": (low, high)}).tensors["input"].quantization
    scale, zero_point = float(parameters.scale[0]), int(parameters.zero_point[0])
    assert scale > 0 and -128 <= zero_point <= 127
    assert scale * (-128 - zero_point) <= min(low, 0) + 0.51 * scale
    assert scale * (127 - zero_point) >= max(high, 0) - 0.51 * scale
    if high - low > 1e-3:
        assert scale <= 1.0001 * (max(high, 0) - min(low, 0)) / 255


def test_a_fused_relu_spends_no_code_on_negative_values():
    net = graphs.Builder((1, 3))
    graph = net.graph("relu", net.dense(net.input, 2))
    quantized = quantize(graph, {"input": (-1, 1), "dense_1": (-5, 5.1)})
    assert quantized.tensors["dense_1"].quantization.zero_point[0] == -128
    assert quantized.tensors["dense_1"].quantization.scale[0] == np.float32(5.1 / 255)


@pytest.mark.parametrize("fused", [False, True])
def test_relu6_spends_no_code_beyond_0_and_6(fused):
    net = graphs.Builder((1, 3))
    x = net.dense(net.input, 2, activation=RELU6) if fused else net.relu6(net.input)
    parameters = quantize(net.graph("relu6", x), {"input": (-1, 1), x: (-5, 50)}).tensors[x].quantization
    assert (parameters.zero_point[0], parameters.scale[0]) == (-128, np.float32(6 / 255))


@given(values=arrays.arrays(np.float32, (1, 3, 1, 2), elements=finite), kind=st.sampled_from(["add", "sub", "mul"]))
def test_constants_of_sums_and_products_are_within_half_a_step(values, kind):
    net = graphs.Builder((1, 3, 4, 2))
    x = getattr(net, kind)(net.input, values)
    constant = quantize(net.graph(kind, x), {"input": (-1, 1), x: (-1, 1)}).tensors[f"{x}.constant"]
    scale, zero_point = constant.quantization.scale.astype(np.float64), constant.quantization.zero_point
    assert np.all(np.abs((constant.data - zero_point) * scale - values) <= 0.501 * scale)
    assert scale <= 1.0001 * max(np.ptp(np.append(values, 0)) / 255, 1e-30) or not values.any()


def test_what_is_joined_shares_a_scale_over_all_ranges():
    net = graphs.Builder((1, 4, 4, 2))
    left = net.conv(net.input, 2, (1, 1))
    pooled = net.average_pool(left, (2, 2))
    right = net.conv(net.input, 2, (1, 1), stride=(2, 2), activation=NONE)
    graph = net.graph("join", net.concatenation([pooled, right, net.slice(pooled, 0, 1)]))
    ranges = {"input": (-1, 1), left: (-0.5, 3), right: (-1.5, 2)}
    quantized = quantize(graph, ranges)
    shared = quantized.tensors[graph.output].quantization
    assert shared.scale[0] == np.float32(4.5 / 255)
    for name in (left, pooled, right):
        assert quantized.tensors[name].quantization is shared
    assert quantized.tensors["input"].quantization is not shared


def test_a_shared_scale_suits_the_kernel_of_whoever_needs_the_coarsest():
    """The second convolution's sums come in steps that are far above the ranges of both: the first has to follow."""
    net = graphs.Builder((1, 1, 1, 2))
    weights = [np.full((2, 1, 1, 2), value, np.float32) for value in (1e-6, 1.0)]
    parts = [net.conv(net.input, 2, (1, 1), weight=weight, activation=NONE) for weight in weights]
    graph = net.graph("join", net.concatenation(parts))
    quantized = quantize(graph, {"input": (-1, 1), **dict.fromkeys(parts, (-1e-6, 1e-6))})
    shared = quantized.tensors[graph.output].quantization
    assert all(quantized.tensors[name].quantization is shared for name in parts)
    assert shared.scale[0] == quantized.tensors["conv_2.bias"].quantization.scale.max()


def test_a_product_joined_with_its_own_large_factors_has_no_scale():
    """Its kernel wants a step above the product of theirs: one step for all would have to exceed its own square."""
    graph = graphs.streams()
    with pytest.raises(InputError, match="streams: no common scale suits the inputs of CONCATENATION"):
        quantize(graph, observe(graph, [1000 * graphs.inputs(graph, 4)]))


def test_joined_tensors_of_prescribed_scales_are_joined_with_their_like_only():
    net = graphs.Builder((1, 4))
    x, y = net.tanh(net.input), net.tanh(net.dense(net.input, 3))
    graph = net.graph("alike", net.concatenation([x, y]))
    parameters = quantize(graph, {"input": (-1, 1), "dense_1": (0, 1)}).tensors[graph.output].quantization
    assert (parameters.scale[0], parameters.zero_point[0]) == (1 / 128, 0)
    for other in (net.input, "dense_1"):
        graph = net.graph("unlike", net.concatenation([x, other]))
        with pytest.raises(InputError, match=r"unlike: CONCATENATION of tanh_1, .*: some have a prescribed scale"):
            quantize(graph, {"input": (-1, 1), "dense_1": (0, 1)})
        net.ops.pop()


@given(
    weight=arrays.arrays(np.float32, (3, 2, 2, 2), elements=finite),
    bias=arrays.arrays(np.float32, 3, elements=st.floats(-1e6, 1e6, width=32)),
    gain=arrays.arrays(np.float32, 3, elements=st.floats(-1e4, 1e4, width=32)),
)
def test_weights_and_biases_are_within_half_a_step(weight, bias, gain):
    quantized = _conv(weight, bias, gain, input_range=(-1, 1))
    codes, biases = (quantized.tensors[f"conv_1.{part}"] for part in ("weight", "bias"))
    scale = codes.quantization.scale.astype(np.float64)[:, None, None, None]
    exact = weight.astype(np.float64) * gain[:, None, None, None]
    assert np.all(np.abs(codes.data * scale - exact) <= 0.501 * scale)
    steps = biases.quantization.scale.astype(np.float64)
    assert np.all(np.abs(biases.data * steps - bias) <= 0.501 * steps)
    assert np.all(steps <= np.maximum(1e-30, 1.0001 * np.maximum(np.abs(bias) / 2**30, scale.ravel() * 2 / 255)))


@given(
    components=arrays.arrays(np.float32, (4, 2, 1, 2, 1), elements=finite),
    ties=st.booleans(),
    gain=arrays.arrays(np.float32, 8, elements=st.floats(0.0078125, 100, width=32)),
    signs=arrays.arrays(np.float32, 8, elements=st.sampled_from([-1.0, 1.0])),
)
def test_quaternion_filters_are_stored_once_without_loss(components, ties, gain, signs):
    """All four rows hold the Hamilton block of the first row's codes, whatever batch norm's gains."""
    components[np.abs(components) < 1e-20] = 0  # filters next to nothing get codes of their own, row by row
    if ties:  # with a peak of 3 * 127 the scale is 3, and 3 * (n + 0.5) lies between two codes
        components = 3 * (np.rint(np.clip(components, -126, 126)) + np.float32(0.5))
        components[0, :, 0, 0, 0] = 3 * 127
    weight = graphs.hamilton_block(components)
    quantized = _conv(weight, np.zeros(8, np.float32), gain * signs, input_range=(-1, 1)).tensors["conv_1.weight"]
    codes = quantized.data * signs.astype(np.int8)[:, None, None, None]
    r, i, j, k = np.split(codes[:2].transpose(0, 3, 1, 2), 4, axis=1)  # the first row of the block is r -i -j -k
    np.testing.assert_array_equal(graphs.hamilton_block(np.stack([r, -i, -j, -k])), codes)
    peaks = np.abs(components).max(axis=(0, 2, 3, 4)) / 127
    np.testing.assert_allclose(quantized.quantization.scale, np.tile(peaks, 4) * gain, rtol=1e-6, atol=1e-30)


def test_a_gain_of_zero_leaves_the_bias():
    weight = np.ones((3, 1, 1, 2), np.float32)
    bias = np.array([0.5, -0.25, 0.0], np.float32)
    quantized = _conv(weight, bias, np.array([0, 1e-12, 0], np.float32), input_range=(-1, 1), output_range=(-1, 1))
    assert not quantized.tensors["conv_1.weight"].data.any()
    output = dequantize_output(quantized, run(quantized, np.full((1, 2, 2, 2), 127, np.int8)))
    np.testing.assert_allclose(output[0, 0, 0], bias, atol=1 / 255)


def test_all_zero_weights_leave_the_bias():
    for make in ("conv", "dense"):
        net = graphs.Builder((1, 1, 1, 2) if make == "conv" else (1, 2))
        bias = np.array([0.5, -0.25, 0.0], np.float32)
        if make == "conv":
            output = net.conv(
                net.input, 3, (1, 1), weight=np.zeros((3, 1, 1, 2), np.float32), bias=bias, activation=NONE
            )
        else:
            output = net.dense(net.input, 3, weight=np.zeros((3, 2), np.float32), bias=bias, activation=NONE)
        quantized = quantize(net.graph("zeros", output), {"input": (-1, 1), output: (-0.25, 0.5)})
        codes = np.full((1, *quantized.tensors["input"].shape[1:]), -128, np.int8)
        np.testing.assert_allclose(dequantize_output(quantized, run(quantized, codes)).ravel(), bias, atol=0.5 / 255)


def test_constant_zero_activations_have_a_scale():
    graph = graphs.chain()
    x = np.zeros((2, 8, 10, 1), np.float32)
    silent = replace(
        graph,
        tensors={
            name: replace(tensor, data=np.zeros_like(tensor.data)) if tensor.data is not None else tensor
            for name, tensor in graph.tensors.items()
        },
    )
    quantized = quantize(silent, observe(silent, [x]))
    output = dequantize_output(quantized, run(quantized, quantize_input(quantized, x)))
    np.testing.assert_allclose(output, 1 / 3, atol=1 / 256)


def test_ranges_of_batches_are_ranges_of_the_whole():
    graph = graphs.mean_max()
    x = graphs.inputs(graph, 10)
    ranges = observe(graph, [x[:3], x[3:3], x[3:]])
    assert ranges == observe(graph, [x])
    assert set(ranges) == {graph.input, *(op.output for op in graph.ops)}
    assert ranges["input"] == (float(x.min()), float(x.max()))


def test_what_cannot_be_quantized_is_refused_by_name():
    graph = graphs.chain()
    x = graphs.inputs(graph, 4)
    ranges = observe(graph, [x])
    with pytest.raises(InputError, match="chain: nothing to calibrate with"):
        observe(graph, [x[:0]])
    with pytest.raises(InputError, match="range of input is nan"):
        observe(graph, [np.full_like(x, np.nan)])
    with pytest.raises(InputError, match="no activation range for conv_2: recalibrate with --calib"):
        quantize(graph, {name: value for name, value in ranges.items() if name != "conv_2"})
    with pytest.raises(InputError, match=r"range of dense_1 is 3\.0 to 1\.0"):
        quantize(graph, {**ranges, "dense_1": (3.0, 1.0)})
    with pytest.raises(InputError, match="quantized already"):
        quantize(quantize(graph, ranges), ranges)
    broken = replace(graph.tensors["conv_1.bias"], data=np.array([0, np.inf, 0, 0], np.float32))
    with pytest.raises(InputError, match=r"conv_1.weight or conv_1.bias holds NaN or infinity"):
        quantize(_with(graph, broken), ranges)


def test_shared_weights_and_overflowing_sums_are_refused():
    net = graphs.Builder((1, 2))
    x = net.dense(net.dense(net.input, 2), 2)
    graph = net.graph("shared", x)
    shared = replace(graph.ops[1], inputs=("dense_1", "dense_1.weight", "dense_2.bias"))
    ranges = observe(graph, [np.ones((1, 2), np.float32)])
    with pytest.raises(InputError, match=r"dense_1.weight is used by several operators"):
        quantize(replace(graph, ops=(graph.ops[0], shared)), ranges)
    net = graphs.Builder((1, 70_000))
    graph = net.graph("wide", net.dense(net.input, 1, weight=np.ones((1, 70_000), np.float32)))
    with pytest.raises(InputError, match="70000 weights a filter can overflow int32"):
        quantize(graph, {"input": (-1, 1), "dense_1": (0, 1)})


def test_scales_stay_clear_of_ties_in_tables_of_tanh():
    """At this scale tanh of one code lies within an ulp of 63.5 steps of 1/128: libraries disagree on its rounding."""
    awkward = float(np.arctanh(63.5 / 128))
    net = graphs.Builder((1, 2))
    graph = net.graph("tie", net.tanh(net.flatten(net.input)))
    scale = quantize(graph, {"input": (-128 * awkward, 127 * awkward)}).tensors["input"].quantization.scale[0]
    assert awkward < scale < 1.02 * awkward
    assert abs(128 * np.tanh(np.float64(scale)) - 63.5) > 2.0**-13
    net = graphs.Builder((1, 2))
    plain = net.graph("plain", net.flatten(net.input))
    kept = quantize(plain, {"input": (-128 * awkward, 127 * awkward)}).tensors["input"].quantization.scale[0]
    assert kept == np.float32(awkward)


def _conv(
    weight: np.ndarray,
    bias: np.ndarray,
    gain: np.ndarray,
    input_range: tuple[float, float],
    output_range: tuple[float, float] = (0, 0),
) -> Graph:
    net = graphs.Builder((1, *[size + 1 for size in weight.shape[1:3]], weight.shape[3]))
    kernel = weight.shape[1:3]
    output = net.conv(net.input, len(weight), kernel, weight=weight, bias=bias, gain=gain, activation=NONE)
    return quantize(net.graph("conv", output), {"input": input_range, output: output_range})


def _with(graph: Graph, tensor: Tensor) -> Graph:
    return replace(graph, tensors={**graph.tensors, tensor.name: tensor})
