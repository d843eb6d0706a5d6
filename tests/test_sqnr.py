from __future__ import annotations

import graphs
import numpy as np
import pytest
from litert import run_litert

from edgeq.errors import InputError
from edgeq.graph.quantize import observe, quantize
from edgeq.graph.reference import quantize_input, run
from edgeq.graph.sqnr import layer_sqnr, sqnr_db


def test_ratio_of_known_noise():
    signal = np.array([[3.0, -4.0]], np.float32)
    assert sqnr_db(signal, signal + np.float32([[0.0, 0.5]])) == pytest.approx(20)  # 25 over 0.25
    assert sqnr_db(signal, -signal) == pytest.approx(10 * np.log10(0.25))
    assert sqnr_db(signal, signal) == 200
    assert sqnr_db(0 * signal, signal) == -200
    assert sqnr_db(0 * signal, 0 * signal) == 200


def test_layers_are_listed_worst_first_and_measured_on_what_litert_computes():
    graph = graphs.residual()
    x = graphs.inputs(graph, 8)
    quantized = quantize(graph, observe(graph, [x]))
    listed = layer_sqnr(graph, quantized, [x[:3], x[3:]])
    exact, codes = run(graph, x, keep=True), run_litert(quantized, quantize_input(quantized, x))
    assert [ratio for _, _, ratio in listed] == sorted(ratio for _, _, ratio in listed)
    assert {(name, kind) for name, kind, _ in listed} == {(op.output, op.kind) for op in graph.ops}
    for name, _, ratio in listed:
        parameters = quantized.tensors[name].quantization
        values = (codes[name].astype(np.float64) - parameters.zero_point) * parameters.scale.astype(np.float64)
        energy, noise = np.sum(np.square(exact[name])), np.sum(np.square(exact[name] - values))
        assert ratio == pytest.approx(10 * np.log10(energy / noise), abs=1e-3)


def test_the_damaged_layer_is_the_worst():
    graph = graphs.chain()
    x = graphs.inputs(graph, 16)
    ranges = observe(graph, [x])
    low, high = ranges["dense_1"]
    damaged = quantize(graph, {**ranges, "dense_1": (100 * low, 100 * high)})
    order = [name for name, _, _ in layer_sqnr(graph, damaged, [x])]
    assert set(order[:3]) == {"dense_1", "dense_2", "softmax"}


def test_graphs_of_other_layers_are_refused():
    graph, other = graphs.chain(), graphs.residual()
    quantized = quantize(other, observe(other, [graphs.inputs(other, 2)]))
    with pytest.raises(InputError, match="residual: other layers than chain"):
        layer_sqnr(graph, quantized, [graphs.inputs(graph, 2)])
