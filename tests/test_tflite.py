"""The TFLite writer against LiteRT, which reads it, and torch and the NumPy interpreter, which compute the same."""

from __future__ import annotations

import dataclasses
import json

import graphs
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from hypothesis import given
from hypothesis import strategies as st

from edgeq.export.tflite import to_tflite
from edgeq.graph import from_tflite, ir, reference
from edgeq.graph.quantize import observe, quantize

NAMES = sorted(graphs.BUILDERS)


def quantized(graph: ir.Graph) -> ir.Graph:
    return quantize(graph, observe(graph, [graphs.inputs(graph, 64)]))


def litert(model: bytes, x: np.ndarray, resolver: OpResolverType = OpResolverType.BUILTIN_REF) -> np.ndarray:
    """Outputs (N, ...) of single invocations, through the signature."""
    interpreter = Interpreter(model_content=model, experimental_op_resolver_type=resolver)
    runner = interpreter.get_signature_runner("serving_default")
    return np.concatenate([runner(input=one[None])["output"].copy() for one in x])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("resolver", [OpResolverType.AUTO, OpResolverType.BUILTIN_REF], ids=["xnnpack", "reference"])
def test_a_float_file_computes_what_torch_computes(name: str, resolver: OpResolverType) -> None:
    graph = graphs.BUILDERS[name]()
    x = graphs.inputs(graph, 8)
    np.testing.assert_allclose(litert(to_tflite(graph), x, resolver), torch_run(graph, x), atol=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_an_int8_file_computes_the_codes_of_the_interpreter(name: str) -> None:
    graph = quantized(graphs.BUILDERS[name]())
    codes = reference.quantize_input(graph, graphs.inputs(graph, 32))
    np.testing.assert_array_equal(litert(to_tflite(graph), codes), reference.run(graph, codes))


@pytest.mark.parametrize("name", NAMES)
def test_an_int8_file_holds_nothing_but_int8(name: str) -> None:
    graph = quantized(graphs.BUILDERS[name]())
    model = schema.ModelT.InitFromPackedBuf(to_tflite(graph))
    tensors, operators = model.subgraphs[0].tensors, model.subgraphs[0].operators
    kinds = {code.builtinCode for code in model.operatorCodes}
    assert kinds <= {getattr(schema.BuiltinOperator, kind) for kind in ir.OPS}
    for operator in operators:
        for index in (operator.inputs[0], *operator.outputs):
            assert tensors[index].type == schema.TensorType.INT8
    for index in (*model.subgraphs[0].inputs, *model.subgraphs[0].outputs):
        assert tensors[index].type == schema.TensorType.INT8


@pytest.mark.parametrize("layer", ["conv_1", "conv_2"])
def test_quaternion_rows_of_an_int8_file_are_sign_permutations_of_each_other(layer: str) -> None:
    """The first quarter of the rows, [r -i -j -k], says what the other three hold: storing a quarter loses nothing."""
    codes = from_tflite.read(to_tflite(quantized(graphs.quaternion()))).tensors[f"{layer}.weight"].data
    r, i, j, k = np.split(codes[: len(codes) // 4].transpose(0, 3, 1, 2).astype(int), 4, axis=1)
    expected = graphs.hamilton_block(np.stack([r, -i, -j, -k]))
    rows, block = codes.reshape(len(codes), -1), expected.reshape(len(codes), -1)
    # Batch norm's gain may flip a quaternion filter's rows one by one.
    flips = np.sign((rows * block).sum(axis=1))
    np.testing.assert_array_equal(rows, block * flips[:, None])
    assert set(flips) == {-1, 1}


def test_equal_graphs_give_equal_bytes() -> None:
    graph = quantized(graphs.chain())
    reordered = dataclasses.replace(
        graph,
        tensors=dict(reversed(graph.tensors.items())),
        metadata=dict(reversed(graph.metadata.items())),
    )
    assert to_tflite(graph) == to_tflite(reordered) == to_tflite(quantized(graphs.chain()))


@pytest.mark.parametrize("name", NAMES)
def test_constants_lie_on_aligned_addresses(name: str) -> None:
    model = to_tflite(graphs.BUILDERS[name]())
    root = schema.Model.GetRootAs(model)
    buffers = [root.Buffers(index) for index in range(root.BuffersLength())]
    starts = [buffer._tab.Vector(buffer._tab.Offset(4)) for buffer in buffers if not buffer.DataIsNone()]
    assert len(starts) > 4
    assert {start % 16 for start in starts} == {0}


def test_metadata_names_and_signature_are_where_other_tools_look() -> None:
    graph = graphs.chain()
    packed = to_tflite(graph)
    model = schema.ModelT.InitFromPackedBuf(packed)
    (entry,) = model.metadata
    assert entry.name == b"edgeq"
    assert json.loads(bytes(model.buffers[entry.buffer].data)) == dict(graph.metadata)
    assert {name.decode() for name in (tensor.name for tensor in model.subgraphs[0].tensors)} >= set(graph.tensors)
    interpreter = Interpreter(model_content=packed)
    assert interpreter.get_signature_list() == {"serving_default": {"inputs": ["input"], "outputs": ["output"]}}


@pytest.mark.parametrize(
    ("padding", "stride", "kinds", "rule"),
    [
        ((1, 1, 1, 1), (1, 1), ["CONV_2D"], schema.Padding.SAME),
        ((0, 1, 0, 1), (2, 2), ["CONV_2D"], schema.Padding.SAME),
        ((0, 0, 0, 0), (1, 1), ["CONV_2D"], schema.Padding.VALID),
        ((1, 1, 1, 1), (2, 2), ["PAD", "CONV_2D"], schema.Padding.VALID),
        ((2, 0, 1, 1), (1, 1), ["PAD", "CONV_2D"], schema.Padding.VALID),
    ],
)
def test_padding_costs_an_operator_only_where_tflite_has_no_word_for_it(
    padding: tuple[int, int, int, int], stride: tuple[int, int], kinds: list[str], rule: int
) -> None:
    net = graphs.Builder((1, 8, 10, 2))
    model = schema.ModelT.InitFromPackedBuf(to_tflite(net.graph("one", net.conv("input", 3, (3, 3), stride, padding))))
    codes = [model.operatorCodes[operator.opcodeIndex].builtinCode for operator in model.subgraphs[0].operators]
    assert codes == [getattr(schema.BuiltinOperator, kind) for kind in kinds]
    assert model.subgraphs[0].operators[-1].builtinOptions.padding == rule


@given(
    size=st.tuples(st.integers(3, 12), st.integers(3, 12)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(*[st.integers(0, 3)] * 4),
    channels=st.integers(1, 5),
    depthwise=st.booleans(),
)
def test_every_geometry_of_a_convolution(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    channels: int,
    depthwise: bool,
) -> None:
    net = graphs.Builder((1, *size, channels))
    if depthwise:
        y = net.depthwise("input", kernel, stride, padding, multiplier=2)
    else:
        y = net.conv("input", 2, kernel, stride, padding)
    graph = net.graph("one", y)
    x = graphs.inputs(graph, 1)
    np.testing.assert_allclose(litert(to_tflite(graph), x), torch_run(graph, x), atol=1e-5)


def torch_run(graph: ir.Graph, x: np.ndarray) -> np.ndarray:
    """The float graph in torch, NCHW between convolutions' own transpositions: the independent opinion."""
    values = {graph.input: torch.from_numpy(x)}
    for tensor in (one for one in graph.tensors.values() if one.data is not None):
        data = torch.from_numpy(tensor.data)
        gain = 1 if tensor.gain is None else torch.from_numpy(tensor.gain).reshape(-1, *[1] * (data.ndim - 1))
        values[tensor.name] = data * gain
    for op in graph.ops:
        values[op.output] = torch_op(op, graph, *[values[name] for name in op.inputs])
    return values[graph.output].numpy()


def torch_op(op: ir.Op, graph: ir.Graph, x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
    match op:
        case ir.Conv2D():
            above, below, left, right = op.padding
            padded = F.pad(x.permute(0, 3, 1, 2), (left, right, above, below))
            y = F.conv2d(padded, rest[0].permute(0, 3, 1, 2), rest[1], op.stride).permute(0, 2, 3, 1)
        case ir.DepthwiseConv2D():
            above, below, left, right = op.padding
            padded, weight = F.pad(x.permute(0, 3, 1, 2), (left, right, above, below)), rest[0].permute(0, 3, 1, 2)
            y = F.conv2d(padded, weight, rest[1], op.stride, groups=x.shape[3]).permute(0, 2, 3, 1)
        case ir.FullyConnected():
            y = F.linear(x, *rest)
        case ir.AveragePool2D():
            y = F.avg_pool2d(x.permute(0, 3, 1, 2), op.window, op.stride).permute(0, 2, 3, 1)
        case ir.MaxPool2D():
            y = F.max_pool2d(x.permute(0, 3, 1, 2), op.window, op.stride).permute(0, 2, 3, 1)
        case ir.Mean():
            y = x.mean(op.axes)
        case ir.ReduceMax():
            y = x.amax(op.axes)
        case ir.Add():
            y = x + rest[0]
        case ir.Sub():
            y = x - rest[0]
        case ir.Mul():
            y = x * rest[0]
        case ir.Concatenation():
            y = torch.cat([x, *rest], -1)
        case ir.Slice():
            y = x.narrow(-1, op.begin, op.size)
        case ir.Reshape():
            y = x.reshape(-1, *graph.tensors[op.output].shape[1:])
        case ir.Pad():
            above, below, left, right = op.padding
            y = F.pad(x, (0, 0, left, right, above, below))
        case ir.Softmax():
            y = x.softmax(-1)
        case _:
            y = {"RELU": torch.relu, "RELU6": F.relu6, "TANH": torch.tanh, "LOGISTIC": torch.sigmoid}[op.kind](x)
    return {ir.NONE: y, ir.RELU: y.relu(), ir.RELU6: F.relu6(y)}[getattr(op, "activation", ir.NONE)]
