"""The ONNX writer against onnxruntime, which runs it, and the interpreter of the graph, which computes the same."""

from __future__ import annotations

import dataclasses

import graphs
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from edgeq.errors import InputError
from edgeq.export.onnx import to_onnx
from edgeq.graph import ir, reference
from edgeq.graph.quantize import observe, quantize

NAMES = sorted(graphs.BUILDERS)


def quantized(graph: ir.Graph) -> ir.Graph:
    return quantize(graph, observe(graph, [graphs.inputs(graph, 64)]))


def onnxruntime_run(model: bytes, x: np.ndarray) -> np.ndarray:
    """Output of a batch (N, ...) NHWC, in the graph's order of axes."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (output,) = session.run(["output"], {"input": np.moveaxis(x, -1, 1)})
    return np.moveaxis(output, 1, -1)


def kinds(model: bytes) -> set[str]:
    return {node.op_type for node in onnx.load_model_from_string(model).graph.node}


@pytest.mark.parametrize("name", NAMES)
def test_a_float_model_computes_what_the_graph_does(name: str) -> None:
    graph = graphs.BUILDERS[name]()
    x = graphs.inputs(graph, 16)
    model = to_onnx(graph)
    np.testing.assert_allclose(onnxruntime_run(model, x), reference.run(graph, x), atol=2e-6)
    assert "Transpose" not in kinds(model)


@pytest.mark.parametrize("name", NAMES)
def test_a_qdq_model_computes_the_same_codes_but_for_rounding(name: str) -> None:
    graph = quantized(graphs.BUILDERS[name]())
    x = graphs.inputs(graph, 64)
    codes = reference.run(graph, reference.quantize_input(graph, x)).astype(int)
    output = onnxruntime_run(to_onnx(graph), x)
    # onnxruntime rounds ties to even and pools in float where TensorFlow Lite rounds ties away: 1 LSB an operator,
    # which the streams' products and joins carry on.
    difference = np.abs(np.rint(output * 256) - 128 - codes)
    assert difference.max() <= (4 if name == "streams" else 2)
    assert difference.mean() <= (0.75 if name == "streams" else 0.25)


@pytest.mark.parametrize("name", NAMES)
def test_a_qdq_model_holds_the_codes_and_scales_of_the_graph(name: str) -> None:
    graph = quantized(graphs.BUILDERS[name]())
    model = onnx.load_model_from_string(to_onnx(graph))
    stored = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    for op in graph.ops:
        if isinstance(op, ir.Conv2D):
            weight, bias = (graph.tensors[name] for name in op.inputs[1:])
            np.testing.assert_array_equal(stored[f"{weight.name}.codes"], weight.data.transpose(0, 3, 1, 2))
            np.testing.assert_array_equal(stored[f"{bias.name}.codes"], bias.data)
            np.testing.assert_array_equal(stored[f"{weight.name}.scale"], weight.quantization.scale)
        tensor = graph.tensors[op.output]
        name = "output" if op.output == graph.output else op.output
        assert stored[f"{name}.scale"] == tensor.quantization.scale[0]
        assert stored[f"{name}.zero_point"] == tensor.quantization.zero_point[0]
    assert stored["input.rounded.scale"] == graph.tensors["input"].quantization.scale[0]


def test_equal_graphs_give_equal_bytes() -> None:
    graph = quantized(graphs.chain())
    turned = dataclasses.replace(graph, metadata=dict(reversed(graph.metadata.items())))
    assert to_onnx(graph) == to_onnx(turned) == to_onnx(quantized(graphs.chain()))


def test_labels_and_front_end_travel_in_the_model() -> None:
    graph = graphs.chain()
    session = onnxruntime.InferenceSession(to_onnx(graph), providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map == dict(graph.metadata)
    assert session.get_modelmeta().graph_name == "chain"
    (source,) = session.get_inputs()
    assert (source.name, source.shape, source.type) == ("input", ["N", 1, 8, 10], "tensor(float)")


def test_a_map_that_is_flattened_for_something_else_keeps_the_order_of_the_graph() -> None:
    net = graphs.Builder((1, 4, 3, 2))
    graph = net.graph("flat", net.softmax(net.flatten(net.conv("input", 5, (3, 3)))))
    x = graphs.inputs(graph, 3)
    np.testing.assert_allclose(onnxruntime_run(to_onnx(graph), x), reference.run(graph, x), atol=1e-6)


def test_a_reshape_to_a_map_keeps_the_order_of_the_graph() -> None:
    net = graphs.Builder((1, 4, 6, 3))
    net.tensors["reshape_1"] = ir.Tensor("reshape_1", (1, 6, 2, 6))
    net.ops.append(ir.Reshape(("input",), "reshape_1"))
    graph = net.graph("maps", net.softmax(net.mean(net.conv("reshape_1", 5, (2, 2)), (1, 2))))
    x = graphs.inputs(graph, 3)
    np.testing.assert_allclose(onnxruntime_run(to_onnx(graph), x), reference.run(graph, x), atol=1e-6)


@pytest.mark.parametrize("shape", [(), (5,), (1, 5), (8, 1, 1), (1, 8, 1, 1), (1, 1, 6, 1), (1, 8, 6, 5)])
@pytest.mark.parametrize("kind", ["add", "sub", "mul"])
def test_constants_meet_the_axes_that_the_graph_gives_them(kind: str, shape: tuple[int, ...]) -> None:
    net = graphs.Builder((1, 8, 6, 2))
    x = net.conv("input", 5, (3, 3), padding=(1, 1, 1, 1))
    graph = net.graph("constant", getattr(net, kind)(x, net.rng.standard_normal(shape)))
    x = graphs.inputs(graph, 3)
    np.testing.assert_allclose(onnxruntime_run(to_onnx(graph), x), reference.run(graph, x), atol=2e-6)


def test_a_constant_that_operators_of_other_ranks_share_is_written_for_each() -> None:
    net = graphs.Builder((1, 8, 6, 5))
    x = net.add("input", np.arange(5))
    x = net.mean(net.mul(x, np.arange(5)), (1, 2))
    graph = net.graph("shared", net.add(x, np.zeros(5)))
    ops = tuple(dataclasses.replace(op, inputs=(op.inputs[0], "add_1.constant")) if len(op.inputs) > 1 else op
                for op in graph.ops)  # fmt: skip
    graph = dataclasses.replace(graph, ops=ops)
    x = graphs.inputs(graph, 3)
    np.testing.assert_allclose(onnxruntime_run(to_onnx(graph), x), reference.run(graph, x), atol=2e-6)


@pytest.mark.parametrize("int8", [False, True])
def test_weights_that_the_check_leaves_out_are_in_the_model(int8: bool) -> None:
    net = graphs.Builder((1, 300))
    graph = net.graph("large", net.softmax(net.dense("input", 300, activation=ir.NONE)))
    x = graphs.inputs(graph, 8)
    expected = reference.run(graph, x)
    model = to_onnx(quantized(graph) if int8 else graph)
    np.testing.assert_allclose(onnxruntime_run(model, x), expected, atol=1e-2 if int8 else 1e-6)
    assert [one.name for one in onnx.load_model_from_string(model).graph.input] == ["input"]


def test_a_mean_over_channels_is_refused() -> None:
    net = graphs.Builder((1, 4, 6, 3))
    with pytest.raises(InputError, match="MEAN 'mean_1' over channels"):
        to_onnx(net.graph("channels", net.mean("input", (3,))))
