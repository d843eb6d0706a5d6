"""The eight-multiplication form against the Hamilton product, against the block form, and what it is made of."""

from __future__ import annotations

from collections import Counter

import bundles
import graphs
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quaternion_graphs import qresnet
from torch.nn import functional

from edgeq.errors import InputError
from edgeq.graph import cost, ir
from edgeq.graph.check import check
from edgeq.graph.reference import run
from edgeq.lowering.block import block_kernel, quaternion_components
from edgeq.lowering.fast import DEPTHWISE, NARROWEST, STYLES, SUB, lower_fast, quaternion_layers, worthwhile
from edgeq.nets.hamilton import hamilton_product
from edgeq.nets.quaternion import block_weight


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """L2 of the difference over L2 of what is expected."""
    exact = expected.astype(np.float64)
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def hamilton_convolution(
    kernels: np.ndarray, x: np.ndarray, stride: tuple[int, int], padding: tuple[int, int, int, int]
) -> np.ndarray:
    """A quaternion convolution as the sum of Hamilton products, kernel on the left, in float64.

    kernels: (4, out, in, rows, columns). x: NHWC, component-major. Returns NHWC, component-major.
    """
    above, below, left, right = padding
    padded = np.pad(x.astype(np.float64), ((0, 0), (above, below), (left, right), (0, 0)))
    maps = np.moveaxis(padded.reshape(*padded.shape[:3], 4, -1), 3, -1)  # (N, H, W, in, component)
    weights = np.moveaxis(kernels.astype(np.float64), 0, -1)  # (out, in, rows, columns, component)
    height, width = kernels.shape[3:]
    rows = (padded.shape[1] - height) // stride[0] + 1
    columns = (padded.shape[2] - width) // stride[1] + 1
    total = np.zeros((len(x), rows, columns, kernels.shape[1], 4))
    for row in range(height):
        for column in range(width):
            seen = maps[:, row : row + (rows - 1) * stride[0] + 1 : stride[0]]
            seen = seen[:, :, column : column + (columns - 1) * stride[1] + 1 : stride[1]]
            total += hamilton_product(weights[:, :, row, column], seen[:, :, :, None]).sum(axis=4)
    return np.moveaxis(total, -1, 3).reshape(*total.shape[:3], -1)


def one_layer(
    kernels: np.ndarray,
    shape: tuple[int, ...],
    gain: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    **options: object,
) -> ir.Graph:
    """A graph of one convolution by component kernels (4, out, in, rows, columns), gain and bias (out,)."""
    net = graphs.Builder(shape)
    weight = np.moveaxis(block_kernel(kernels), 1, -1).copy()
    bias = np.zeros(len(weight), np.float32) if bias is None else bias
    name = net.conv("input", len(weight), kernels.shape[3:], weight=weight, gain=gain, bias=bias, **options)
    return net.graph("one layer", name)


def convolution_macs(graph: ir.Graph) -> int:
    """MACs of convolutions and dense layers, without those of depthwise convolutions."""
    return sum(layer.macs for layer in cost.layers(graph) if layer.op != "DEPTHWISE_CONV_2D")


few = st.integers(1, 3)


@settings(max_examples=60, deadline=None)
@given(
    quaternions=st.tuples(few, few),
    kernel=st.tuples(few, few),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
    gain=st.sampled_from(["none", "ones", "any", "zero", "negative"]),
    activation=st.sampled_from([ir.NONE, ir.RELU, ir.RELU6]),
    style=st.sampled_from(STYLES),
    seed=st.integers(0, 2**31),
)
def test_a_layer_is_a_sum_of_hamilton_products(quaternions, kernel, stride, padding, gain, activation, style, seed):
    rng = np.random.default_rng(seed)
    into, out = quaternions
    kernels = rng.standard_normal((4, out, into, *kernel)).astype(np.float32)
    bias = rng.standard_normal(4 * out).astype(np.float32)
    gains = {
        "none": None,
        "ones": np.ones(4 * out),
        "any": rng.uniform(0.3, 2, 4 * out) * rng.choice([-1, 1], 4 * out),
        "zero": np.where(rng.random(4 * out) < 0.5, 0, 1.5),
        "negative": -rng.uniform(0.3, 2, 4 * out),
    }[gain]
    gains = None if gains is None else gains.astype(np.float32)
    options = {"stride": stride, "padding": padding, "activation": activation}
    graph = one_layer(kernels, (1, 5, 6, 4 * into), gains, bias, **options)
    x = graphs.inputs(graph, 2, seed)
    expected = hamilton_convolution(kernels, x, stride, padding)
    expected = expected * (1 if gains is None else gains.astype(np.float64)) + bias
    expected = {ir.NONE: expected, ir.RELU: expected.clip(0), ir.RELU6: expected.clip(0, 6)}[activation]
    fast = check(lower_fast(graph, ["conv_1"], style))
    np.testing.assert_allclose(run(fast, x), expected, rtol=1e-5, atol=1e-5 * (1 + np.abs(expected).max()))
    assert ("SUB" in {op.kind for op in fast.ops}) == (style == SUB)
    assert ("DEPTHWISE_CONV_2D" in {op.kind for op in fast.ops}) == (style == DEPTHWISE)


@pytest.mark.parametrize("channels", [(4, 64), (64, 64), (64, 128), (256, 256)])
def test_wide_layers_agree_with_torch_in_double_precision(channels):
    rng = np.random.default_rng(0)
    into, out = channels
    kernels = (rng.standard_normal((4, out // 4, into // 4, 3, 3)) * (9 * into) ** -0.5).astype(np.float32)
    graph = one_layer(kernels, (1, 12, 8, into), padding=(1, 1, 1, 1), activation=ir.NONE)
    x = np.maximum(graphs.inputs(graph, 1), 0)
    with torch.no_grad():
        weight = block_weight(torch.from_numpy(kernels).double())
        exact = functional.conv2d(torch.from_numpy(x).permute(0, 3, 1, 2).double(), weight, padding=1)
    for style in STYLES:
        found = run(lower_fast(graph, ["conv_1"], style), x)
        assert relative_error(found, exact.permute(0, 2, 3, 1).numpy()) < 1e-6


@pytest.mark.parametrize("style", STYLES)
def test_a_network_computes_what_its_block_form_computes(style):
    graph, _, _ = bundles.graphs(quaternion=True)
    x = np.moveaxis(bundles.sounds(quaternion=True)[:16], 1, -1)
    fast = check(lower_fast(graph, quaternion_layers(graph), style))
    block, found = run(graph, x, keep=True), run(fast, x, keep=True)
    for layer in quaternion_layers(graph):
        joined = np.concatenate([found[f"{layer}.{component}"] for component in "rijk"], axis=-1)
        assert relative_error(joined, block[layer]) <= 2e-6
    assert relative_error(found[graph.output], block[graph.output]) <= 2e-6


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_choice_of_layers_in_a_residual_network(data):
    graph = qresnet(data.draw(st.integers(0, 100)), data.draw(st.sampled_from([8, 4 * NARROWEST])))
    layers = data.draw(st.lists(st.sampled_from(quaternion_layers(graph)), unique=True))
    fast = check(lower_fast(graph, layers, data.draw(st.sampled_from(STYLES))))
    x = graphs.inputs(graph, 2)
    assert relative_error(run(fast, x), run(graph, x)) < 2e-6
    macs = {layer.name: layer.macs for layer in cost.layers(graph)}
    assert convolution_macs(fast) == sum(macs.values()) - sum(macs[layer] for layer in layers) // 2


@pytest.mark.parametrize("style", STYLES)
def test_streams_are_cut_and_joined_only_at_the_ends(style):
    graph = qresnet()
    every = lower_fast(graph, quaternion_layers(graph), style)
    kinds = Counter(op.kind for op in every.ops)
    assert (kinds["SLICE"], kinds["CONCATENATION"]) == (4, 1)
    assert [op.output for op in every.ops if op.kind == "SLICE"] == [f"input.{component}" for component in "rijk"]
    joined = next(op for op in every.ops if op.kind == "CONCATENATION")
    assert joined.output == "add_4" and every.tensors["add_4"].shape == (1, 24)
    sums = [op for op in lower_fast(graph, ["conv_4", "conv_6"], style).ops if op.output.endswith(".u0")]
    assert len(sums) == 2  # each of another pool


def before_a_fast_layer(channels: int, needed_whole: bool = False) -> tuple[ir.Graph, ir.Graph]:
    """A real convolution, a pool, a quaternion layer; and the same with that one fast."""
    net = graphs.Builder((1, 6, 6, 1))
    x = net.average_pool(net.conv("input", channels, (3, 3), padding=(1, 1, 1, 1), gain=net.gain(channels)), (2, 2))
    y = net.conv(x, channels, (3, 3), padding=(1, 1, 1, 1), weight=net.hamilton(channels, channels, (3, 3)))
    graph = net.graph("before", net.add(y, net.conv(x, channels, (1, 1))) if needed_whole else y)
    return graph, check(lower_fast(graph, [y]))


def test_a_wide_real_layer_before_a_fast_one_gives_streams_by_its_own_filters():
    graph, fast = before_a_fast_layer(4 * NARROWEST)
    kinds = Counter(op.kind for op in fast.ops)
    assert (kinds["SLICE"], kinds["AVERAGE_POOL_2D"], kinds["CONV_2D"]) == (0, 4, 4 + 8)
    quarters = [fast.tensors[f"conv_1.weight.{part}"] for part in "rijk"]
    whole = graph.tensors["conv_1.weight"]
    assert np.array_equal(np.concatenate([quarter.data for quarter in quarters]), whole.data)
    assert np.array_equal(np.concatenate([quarter.gain for quarter in quarters]), whole.gain)
    x = graphs.inputs(graph, 2)
    assert relative_error(run(fast, x), run(graph, x)) < 2e-6


@pytest.mark.parametrize(("channels", "needed_whole", "cut"), [(8, False, 4), (64, True, 8)])
def test_a_map_is_cut_where_its_layer_is_narrow_or_something_needs_it_whole(channels, needed_whole, cut):
    graph, fast = before_a_fast_layer(channels, needed_whole)
    assert Counter(op.kind for op in fast.ops)["SLICE"] == cut  # behind the pool, and the other half of a sum
    x = graphs.inputs(graph, 2)
    assert relative_error(run(fast, x), run(graph, x)) < 2e-6


def test_maps_that_two_layers_read_are_summed_once():
    net = graphs.Builder((1, 6, 6, 8))
    one, other = (
        net.conv("input", 8, (3, 3), weight=net.hamilton(8, 8, (3, 3)), padding=(1, 1, 1, 1)) for _ in range(2)
    )
    graph = net.graph("two", net.add(one, other))
    fast = lower_fast(graph, quaternion_layers(graph))
    assert Counter(op.kind for op in fast.ops)["SLICE"] == 4
    assert sum(op.output.startswith("input.u") for op in fast.ops) == 8
    x = graphs.inputs(graph, 2)
    np.testing.assert_allclose(run(fast, x), run(graph, x), atol=1e-5)


def test_half_the_multiplications_and_nothing_for_gains_of_one():
    kernels = np.random.default_rng(0).standard_normal((4, 8, 8, 3, 3)).astype(np.float32)
    graph = one_layer(kernels, (1, 9, 7, 32), padding=(1, 1, 1, 1))

    plain = lower_fast(graph, ["conv_1"])
    assert 2 * convolution_macs(plain) == convolution_macs(graph)
    assert {op.kind for op in plain.ops} == {"SLICE", "ADD", "SUB", "CONV_2D", "CONCATENATION"}
    ones = lower_fast(one_layer(kernels, (1, 9, 7, 32), np.ones(32, np.float32), padding=(1, 1, 1, 1)), ["conv_1"])
    assert [op.kind for op in ones.ops] == [op.kind for op in plain.ops]
    gains = np.linspace(0.5, 2, 32, dtype=np.float32)
    scaled = lower_fast(one_layer(kernels, (1, 9, 7, 32), gains, padding=(1, 1, 1, 1)), ["conv_1"])
    assert Counter(op.kind for op in scaled.ops) - Counter(op.kind for op in plain.ops) == {"MUL": 4, "ADD": 1}


def test_kernels_are_rounded_once():
    """What float32 additions in a row would make of components of unlike size is further from the exact sum."""
    kernels = (
        np.random.default_rng(0).standard_normal((4, 3, 2, 3, 3))
        * np.array([1, 1e-3, 1e3, 1])[:, None, None, None, None]
    )
    kernels = kernels.astype(np.float32)
    graph = one_layer(kernels, (1, 5, 5, 8), np.full(12, 1.7, np.float32))
    tensors = lower_fast(graph, ["conv_1"]).tensors
    r, i, j, k = kernels.astype(np.float64)
    for name, exact in (("m0", r + i + j + k), ("m1", r - i + j - k), ("m2", r + i - j - k), ("m3", r - i - j + k)):
        assert np.array_equal(tensors[f"conv_1.weight.{name}"].data, np.moveaxis(exact / 4, 1, -1).astype(np.float32))
    for name, exact in (("2r", 2 * r), ("-2i", -2 * i), ("-2j", -2 * j), ("-2k", -2 * k)):
        weight = tensors[f"conv_1.weight.{name}"]
        assert np.array_equal(weight.data, np.moveaxis(exact, 1, -1)) and (weight.gain == np.float32(1.7)).all()


def test_layers_of_a_single_quaternion_are_not_worth_it():
    graph = qresnet()
    assert quaternion_layers(graph)[0] == "conv_1" and "conv_1" not in worthwhile(graph)
    assert set(quaternion_layers(graph)) - set(worthwhile(graph)) == {"conv_1"}
    real = graphs.residual()
    assert quaternion_layers(real) == worthwhile(real) == ()


def test_what_is_no_quaternion_layer_is_refused_by_name():
    graph, quantized, _ = bundles.graphs(quaternion=True)
    with pytest.raises(InputError, match="dense_1, pool_1: no quaternion convolution"):
        lower_fast(graph, ["pool_1", "conv_1", "dense_1"])
    with pytest.raises(InputError, match="quantized: expected a float graph"):
        lower_fast(quantized, [])
    with pytest.raises(InputError, match="style 'sup': expected sub or depthwise"):
        lower_fast(graph, [], "sup")


def test_nothing_chosen_changes_nothing():
    graph = qresnet()
    same = lower_fast(graph, [])
    assert same.ops == graph.ops and set(same.tensors) == set(graph.tensors)


@settings(deadline=None)
@given(
    st.sampled_from([np.float32, np.float64, np.int8, np.int32]),
    few,
    few,
    st.sampled_from([(), (1, 1), (2, 3)]),
    st.integers(0, 2**31),
)
def test_components_come_back_from_a_block_kernel(dtype, out, into, area, seed):
    components = np.random.default_rng(seed).integers(-127, 128, (4, out, into, *area)).astype(dtype)
    found = quaternion_components(block_kernel(components))
    assert found is not None and found.dtype == dtype
    np.testing.assert_array_equal(found, components)


@settings(deadline=None)
@given(few, few, st.integers(0, 2**31), st.floats(1e-6, 1.0))
def test_one_weight_astray_is_no_quaternion(out, into, seed, by):
    rng = np.random.default_rng(seed)
    kernel = block_kernel(rng.standard_normal((4, out, into, 3, 3)))
    kernel[tuple(int(rng.integers(size)) for size in kernel.shape)] += by
    assert quaternion_components(kernel) is None


def test_shapes_without_quaternions_have_no_components():
    assert quaternion_components(np.zeros((6, 4, 3, 3))) is None
    assert quaternion_components(np.zeros((4, 1, 3, 3))) is None
    assert quaternion_components(np.zeros(4)) is None
