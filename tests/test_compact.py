"""Compact ONNX files: a quarter of the weights, the same answers, and nothing left to expand once loaded."""

from __future__ import annotations

from pathlib import Path

import graphs
import numpy as np
import onnx
import onnxruntime
import pytest
import quaternion_graphs

from edgeq.errors import InputError
from edgeq.export.onnx import to_onnx
from edgeq.graph import from_onnx, ir, quantize
from edgeq.lowering.block import block_kernel
from edgeq.lowering.fast import STYLES, fast_layers, lower_fast, quaternion_layers


def fast(style: str) -> ir.Graph:
    graph = quaternion_graphs.qresnet()
    return lower_fast(graph, quaternion_layers(graph)[1:], style)


GRAPHS = {
    "block": graphs.quaternion,
    "residual": quaternion_graphs.qresnet,
    "dense": quaternion_graphs.dense,
    **{style: lambda style=style: fast(style) for style in STYLES},
}


def session(content: bytes, optimised: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(optimised)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def predict(content: bytes, graph: ir.Graph) -> np.ndarray:
    return session(content).run(None, {"input": np.moveaxis(graphs.inputs(graph, 3), -1, 1)})[0]


def stored(content: bytes) -> int:
    """Numbers that a file holds as constants."""
    return sum(int(np.prod(one.dims)) for one in onnx.load_from_string(content).graph.initializer)


@pytest.mark.parametrize("name", GRAPHS)
def test_answers_are_those_of_the_expanded_file(name: str) -> None:
    graph = GRAPHS[name]()
    np.testing.assert_allclose(
        predict(to_onnx(graph, compact=True), graph), predict(to_onnx(graph), graph), rtol=1e-6, atol=1e-7
    )


@pytest.mark.parametrize("name", GRAPHS)
def test_a_runtime_folds_everything_as_it_loads(name: str, tmp_path: Path) -> None:
    graph = GRAPHS[name]()
    session(to_onnx(graph), tmp_path / "expanded.onnx")
    session(to_onnx(graph, compact=True), tmp_path / "compact.onnx")
    expanded, compact = (onnx.load(tmp_path / f"{form}.onnx").graph for form in ("expanded", "compact"))
    assert [node.op_type for node in compact.node] == [node.op_type for node in expanded.node]
    constants = {one.name for one in compact.initializer}
    kernels = [node.input[1] for node in compact.node if node.op_type in ("Conv", "Gemm")]
    assert len(kernels) > 2 and constants >= set(kernels)


@pytest.mark.parametrize("name", GRAPHS)
def test_reading_expands(name: str) -> None:
    graph = GRAPHS[name]()
    expanded, compact = (from_onnx.read(to_onnx(graph, compact)) for compact in (False, True))
    assert compact.ops == expanded.ops and list(compact.tensors) == list(expanded.tensors)
    for tensor, whole in zip(compact.tensors.values(), expanded.tensors.values(), strict=True):
        if whole.data is not None:
            np.testing.assert_allclose(tensor.data, whole.data, rtol=1e-6, atol=1e-7)


def test_components_are_stored_once() -> None:
    graph = graphs.quaternion()
    layers = [op for op in graph.ops if isinstance(op, ir.Conv2D)]
    weights = sum(graph.tensors[op.inputs[1]].data.size for op in layers)
    gains = sum(graph.tensors[op.inputs[1]].gain.size for op in layers)
    saved = stored(to_onnx(graph)) - stored(to_onnx(graph, compact=True))
    assert saved == weights * 3 // 4 - gains
    flattened = quaternion_graphs.dense()
    saved = stored(to_onnx(flattened)) - stored(to_onnx(flattened, compact=True))
    assert saved == (12 * 8 * 9 + 20 * 96) * 3 // 4 - 12


def test_a_fast_layer_stores_what_its_block_form_stores() -> None:
    graph = quaternion_graphs.qresnet()
    layers = quaternion_layers(graph)
    block, lowered = stored(to_onnx(graph, compact=True)), to_onnx(lower_fast(graph, layers), compact=True)
    names = {one.name for one in onnx.load_from_string(lowered).graph.initializer}
    assert {f"{layer}.weight.{part}" for layer in layers for part in "rijk"} <= names
    # Beside the components, gains are there twice, once of either sign, and each product's 1/4.
    assert stored(lowered) < 1.2 * block


def test_the_components_of_a_fast_layer_are_found_to_the_last_bit() -> None:
    graph = quaternion_graphs.qresnet()
    lowered = lower_fast(graph, quaternion_layers(graph))
    found = fast_layers(lowered)
    assert list(found) == [f"{layer}.weight" for layer in quaternion_layers(graph)]
    for name, components in found.items():
        assert np.array_equal(np.moveaxis(block_kernel(components), 1, -1), graph.tensors[name].data)
    lowered.tensors["conv_3.weight.m2"].data[0, 0, 0, 0] += 1e-3
    assert "conv_3.weight" not in fast_layers(lowered) and len(fast_layers(lowered)) == len(found) - 1
    assert fast_layers(graph) == {}


def test_networks_without_quaternions_are_written_as_ever() -> None:
    graph = graphs.residual()
    assert to_onnx(graph, compact=True) == to_onnx(graph)


def test_equal_graphs_give_equal_bytes() -> None:
    assert to_onnx(fast("sub"), compact=True) == to_onnx(fast("sub"), compact=True)


def test_int8_has_no_compact_form() -> None:
    graph = graphs.quaternion()
    quantized = quantize.quantize(graph, quantize.observe(graph, [graphs.inputs(graph, 4)]))
    with pytest.raises(InputError, match="quantized: expected a float graph"):
        to_onnx(quantized, compact=True)
