"""Convolutions and dense layers in C equal the int8 reference, which is held to LiteRT's, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import int8_layers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.cortexm import host
from edgeq.cortexm.emit import emit
from edgeq.graph import ir
from edgeq.graph.reference import run

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
windows: dict[str, Any] = {"kernel": kernels, "stride": int8_layers.strides, "padding": paddings}
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
denses = st.builds(int8_layers.dense, inputs=st.integers(1, 70), outputs=st.integers(1, 11), **shared)


@FORMS
@settings(max_examples=2)
@given(cases=st.lists(st.one_of(convolutions, depthwises, denses), min_size=24, max_size=24))
def test_layers_of_any_shape_equal_the_reference(flags, cases):
    assert_equal(cases, flags)


def assert_equal(cases: Sequence[ir.Graph], flags: Sequence[str] = ()) -> None:
    """All cases are compiled into one library."""
    models = [emit(graph, f"case_{number}") for number, graph in enumerate(cases)]
    library = host.compile(models, flags)
    for graph, sources in zip(cases, models, strict=True):
        codes = int8_layers.inputs(graph)
        np.testing.assert_array_equal(host.Program(library, sources).run(codes), run(graph, codes), str(graph.ops))
