"""Convolutions and dense layers in C equal the int8 reference, which is held to LiteRT's, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import graphs
import int8_layers
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from edgeq.cortexm import build, host, simulate, targets
from edgeq.cortexm.emit import emit
from edgeq.cortexm.ops import EMITTERS
from edgeq.cortexm.ops.quaternion import recognise
from edgeq.graph import ir
from edgeq.graph.quantize import observe, quantize
from edgeq.graph.reference import quantize_input, run

EMULATED = ("-DEDGEQ_EMULATE_DSP",)
FORMS = pytest.mark.parametrize("flags", [(), EMULATED], ids=["portable", "dsp"])

paddings = st.tuples(*[int8_layers.margins] * 4)
shared = {
    "activation": int8_layers.activations,
    "factor": int8_layers.factors,
    "value": int8_layers.values,
    "seed": int8_layers.seeds,
}
kernels = st.tuples(st.integers(1, 4), st.integers(1, 4))
dilations = st.sampled_from([(1, 1), (1, 1), (1, 2), (2, 1)])
windows: dict[str, Any] = {
    "kernel": kernels, "stride": int8_layers.strides, "padding": paddings, "dilation": dilations,
}  # fmt: skip
channels = st.one_of(st.integers(1, 9), st.sampled_from([12, 16]))

convolutions = st.builds(
    int8_layers.convolution,
    shape=st.tuples(int8_layers.sizes, int8_layers.sizes, channels),
    filters=st.integers(1, 9),
    **windows,
    **shared,
)
depthwises = st.builds(
    int8_layers.depthwise,
    shape=st.tuples(int8_layers.sizes, int8_layers.sizes, channels),
    multiplier=st.sampled_from([1, 1, 1, 2, 3]),
    **windows,
    **shared,
)
quaternions = st.builds(
    int8_layers.quaternion_convolution,
    shape=st.tuples(int8_layers.sizes, int8_layers.sizes, st.sampled_from([4, 8, 12, 16, 20])),
    quarter=st.integers(1, 4),
    **windows,
    **shared,
)
quaternion_denses = st.builds(
    int8_layers.quaternion_dense, quarter_in=st.integers(1, 8), quarter_out=st.integers(1, 4), **shared
)
denses = st.builds(
    int8_layers.dense, inputs=st.integers(1, 70), outputs=st.integers(1, 11), rows=st.integers(1, 2), **shared
)


@FORMS
@settings(max_examples=2, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(
    cases=st.tuples(*[convolutions] * 6, *[depthwises] * 6, *[quaternions] * 6, *[denses] * 3, *[quaternion_denses] * 2)
)
def test_layers_of_any_shape_equal_the_reference(flags, cases):
    assert_equal(cases, flags)


def test_a_microcontroller_gives_the_same_codes():
    """On the instruction set itself: rows and places that are no multiple of what is computed together."""
    pytest.importorskip("unicorn")
    net = graphs.Builder((1, 9, 11, 3))
    x = net.conv(net.input, 8, (3, 3), padding=(1, 1, 1, 1))
    x = net.depthwise(x, (3, 3), padding=(1, 1, 1, 1), activation=ir.NONE)
    x = net.conv(net.conv(x, 6, (1, 1)), 5, (1, 1), activation=ir.RELU6)
    x = net.conv(x, 8, (3, 2), stride=(1, 1), padding=(1, 0, 1, 1))
    x = net.depthwise(x, (3, 3), stride=(2, 2), padding=(1, 1, 0, 1))
    x = net.depthwise(x, (2, 2), padding=(1, 1, 1, 0), activation=ir.NONE)
    x = net.conv(x, 12, (3, 3), padding=(1, 1, 1, 1), weight=net.hamilton(12, 8, (3, 3)), gain=net.gain(12))
    x = net.conv(x, 4, (1, 1), weight=net.hamilton(4, 12, (1, 1)), gain=net.gain(4), activation=ir.NONE)
    x = net.dense(net.dense(net.flatten(x), 11), 7, activation=ir.NONE)
    graph = net.graph("every kernel", x)
    quantized = quantize(graph, observe(graph, [graphs.inputs(graph, 16)]))
    assert_simulated(quantized, quantize_input(quantized, graphs.inputs(graph, 2, seed=3)))


@pytest.mark.parametrize(
    "graph",
    [
        int8_layers.quaternion_convolution((4, 5, 8), 2, (3, 3), value="largest", padding=(1, 1, 1, 1)),
        int8_layers.convolution((4, 5, 7), 5, (3, 3), value="alternating"),
        int8_layers.convolution((4, 5, 7), 5, (1, 1), factor="mixed"),
    ],
    ids=["quaternion", "convolution", "any factor"],
)
def test_a_microcontroller_gives_the_same_codes_for_extreme_ones(graph):
    pytest.importorskip("unicorn")
    assert_simulated(graph, int8_layers.inputs(graph))


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3)])
def test_quaternion_weights_take_a_quarter_of_the_bytes(kernel):
    graph = int8_layers.quaternion_convolution((6, 5, 8), 4, kernel)
    code = EMITTERS[ir.Conv2D.kind](graph.ops[0], graph, "layer")
    (codes,) = [array for array in code.constants if array.name == "layer_weights"]
    assert 4 * codes.bytes == graph.tensors["weight"].data.size


def test_weights_next_to_quaternions_are_none():
    """One code off, or a row's sign turned for some columns only."""
    weight = int8_layers.quaternion_weights(np.random.default_rng(0), "random", 8, 12, (1, 1)).reshape(8, 1, 12)
    assert recognise(weight) is not None
    for place in ((3, 0, 5), (0, 0, 0), (7, 0, 11)):
        other = weight.copy()
        other[place] = -other[place] if other[place] else 1
        assert recognise(other) is None


def test_largest_code_that_int8_has_no_negative_of_is_no_quaternion():
    weight = np.zeros((4, 1, 4), np.int8)
    weight[0, 0] = [0, -128, 0, 0]
    weight[1, 0] = [-128, 0, 0, 0]
    weight[2, 0] = [0, 0, 0, -128]
    weight[3, 0] = [0, 0, -128, 0]
    assert recognise(weight) is None


def assert_equal(cases: Sequence[ir.Graph], flags: Sequence[str] = ()) -> None:
    """All cases are compiled into one library."""
    models = [emit(graph, f"case_{number}") for number, graph in enumerate(cases)]
    library = host.compile(models, flags)
    for graph, sources in zip(cases, models, strict=True):
        codes = int8_layers.inputs(graph)
        np.testing.assert_array_equal(host.Program(library, sources).run(codes), run(graph, codes), str(graph.ops))


def assert_simulated(graph: ir.Graph, codes: np.ndarray) -> None:
    sources = emit(graph, "layer")
    target = targets.find("stm32l496")
    outputs = simulate.simulate(build.link(sources, target), target, sources, codes).outputs
    np.testing.assert_array_equal(outputs, run(graph, codes))
