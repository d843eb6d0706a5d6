"""An int8 graph whose constants or scales are not what the float graph and the ranges give is found out."""

from __future__ import annotations

from dataclasses import replace

import graphs
import numpy as np
import pytest

from edgeq.graph.fidelity import range_faults, weight_faults
from edgeq.graph.quantize import observe, quantize


@pytest.mark.parametrize("name", graphs.BUILDERS)
def test_a_graph_and_its_quantized_twin_agree(name):
    graph = graphs.BUILDERS[name]()
    ranges = observe(graph, [graphs.inputs(graph, 16)])
    quantized = quantize(graph, ranges)
    assert not list(weight_faults(graph, quantized))
    assert not list(range_faults(quantized, ranges))


@pytest.mark.parametrize("name", graphs.BUILDERS)
def test_one_code_astray_is_named(name):
    graph = graphs.BUILDERS[name]()
    quantized = quantize(graph, observe(graph, [graphs.inputs(graph, 16)]))
    for constant in (tensor for tensor in quantized.tensors.values() if tensor.data is not None):
        data = constant.data.copy()
        data.flat[-1] += 2 if data.flat[-1] < 0 else -2
        damaged = replace(quantized, tensors={**quantized.tensors, constant.name: replace(constant, data=data)})
        (fault,) = weight_faults(graph, damaged)
        assert fault.startswith(f"{constant.name}: 1 codes are off")


def test_a_zero_point_astray_is_named():
    graph = graphs.mel_affine()
    quantized = quantize(graph, observe(graph, [graphs.inputs(graph, 16)]))
    constant = quantized.tensors["add_1.constant"]
    parameters = replace(constant.quantization, zero_point=constant.quantization.zero_point + np.int32(1))
    damaged = replace(
        quantized, tensors={**quantized.tensors, constant.name: replace(constant, quantization=parameters)}
    )
    (fault,) = weight_faults(graph, damaged)
    assert fault.startswith("add_1.constant: 8 codes are off")


def test_a_range_that_codes_do_not_reach_is_named():
    graph = graphs.streams()
    ranges = observe(graph, [graphs.inputs(graph, 16)])
    quantized = quantize(graph, ranges)
    (fault,) = range_faults(quantized, {**ranges, "conv_3": (-1e3, 1e3)})
    assert fault.startswith("conv_3 holds")


def test_other_operators_are_one_fault():
    graph, other = graphs.chain(), graphs.streams()
    quantized = quantize(other, observe(other, [graphs.inputs(other, 4)]))
    assert list(weight_faults(graph, quantized)) == ["it has other operators than the float file"]
