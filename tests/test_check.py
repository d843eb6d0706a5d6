"""Graphs that cannot be computed are refused, by the name of what is wrong with them."""

from __future__ import annotations

import dataclasses
from typing import Any

import graphs
import numpy as np
import pytest

from edgeq.errors import InputError
from edgeq.graph import ir
from edgeq.graph.check import check, check_own
from edgeq.graph.quantize import observe, quantize


def quantized(graph: ir.Graph) -> ir.Graph:
    return quantize(graph, observe(graph, [graphs.inputs(graph, 8)]))


@pytest.mark.parametrize("name", sorted(graphs.BUILDERS))
def test_sound_graphs_pass(name: str) -> None:
    graph = graphs.BUILDERS[name]()
    assert check(graph) is graph
    check(quantized(graph))


def with_tensor(graph: ir.Graph, name: str, **fields: Any) -> ir.Graph:
    changed = dataclasses.replace(graph.tensors[name], **fields)
    return dataclasses.replace(graph, tensors={**graph.tensors, name: changed})


def with_op(graph: ir.Graph, which: str, **fields: Any) -> ir.Graph:
    ops = tuple(dataclasses.replace(op, **fields) if op.output == which else op for op in graph.ops)
    return dataclasses.replace(graph, ops=ops)


def parameters(scale: float | list[float], zero_point: int = 0, axis: int = 0) -> ir.Quantization:
    scales = np.atleast_1d(np.array(scale, np.float32))
    return ir.Quantization(scales, np.full(scales.shape, zero_point, np.int32), axis)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("input", {"shape": (1, 0, 6, 1)}, "'input': shape"),
        ("input", {"shape": (1, 1 << 20, 1 << 20, 1)}, "'input': shape"),
        ("conv_1.weight", {"data": np.full((4, 5, 3, 1), np.inf, np.float32)}, "'conv_1.weight': holds NaN or inf"),
        ("conv_1.weight", {"data": None}, "weights 'conv_1.weight' are not constant"),
        ("conv_1.bias", {"shape": (3,)}, "CONV_2D 'conv_1': does not fit"),
        ("conv_1", {"shape": (1, 6, 6, 5)}, r"CONV_2D 'conv_1': shape \(1, 6, 6, 5\) does not follow"),
        ("max_1", {"data": np.zeros((1, 4), np.float32)}, "REDUCE_MAX 'max_1': .* or is a constant"),
        ("dense_1.weight", {"shape": (4, 5)}, "FULLY_CONNECTED 'dense_1': does not fit"),
    ],
)
def test_tensors(name: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check(with_tensor(graphs.logistic(), name, **fields))


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("input", {"quantization": None}, "'input' has no quantization"),
        ("input", {"quantization": parameters([1.0, 1.0])}, "2 scales"),
        ("conv_1", {"quantization": parameters([1.0] * 4, axis=3)}, "'conv_1' is quantized per channel"),
        ("conv_1", {"quantization": parameters(0.0)}, "scale 0.0"),
        ("conv_1", {"quantization": parameters(float("nan"))}, "scale nan"),
        ("conv_1", {"quantization": parameters(1.0, 200)}, "zero points 200 to 200"),
        ("conv_1", {"quantization": parameters(1.0, 128)}, "zero points 128"),
        ("input", {"dtype": "int32"}, "input 'input' is int32"),
        ("conv_1", {"dtype": "float32"}, "'conv_1' is float32: expected int8"),
        ("conv_1.weight", {"quantization": parameters(1.0, 3)}, "symmetric"),
        ("conv_1.weight", {"quantization": parameters([1.0] * 5, axis=1)}, "5 scales on axis 1"),
        ("dense_1.weight", {"quantization": parameters([1.0] * 4, axis=1)}, "4 scales on axis 1"),
        ("dense_1", {"quantization": parameters(1e-9)}, "output scale 1e-09 for inputs of .*: too fine"),
        ("logistic", {"quantization": None}, "'logistic' has no quantization"),
    ],
)
def test_quantization(name: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check(with_tensor(quantized(graphs.logistic()), name, **fields))


@pytest.mark.parametrize(
    ("output", "fields", "message"),
    [
        ("conv_1", {"stride": (0, 1)}, "CONV_2D 'conv_1': does not fit"),
        ("conv_1", {"padding": (-1, 0, 0, 0)}, "CONV_2D 'conv_1': does not fit"),
        ("conv_1", {"inputs": ("input", "conv_1.weight")}, "2 inputs: expected 3"),
        ("conv_1", {"inputs": ("max_1", "conv_1.weight", "conv_1.bias")}, "reads 'max_1' before"),
        ("max_1", {"axes": (1, 1)}, "REDUCE_MAX 'max_1': does not fit"),
        ("max_1", {"axes": (0, 1)}, "REDUCE_MAX 'max_1': does not fit"),
        ("max_1", {"output": "conv_1"}, "'conv_1': its output is written twice"),
    ],
)
def test_operators(output: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check(with_op(graphs.logistic(), output, **fields))


def test_a_window_larger_than_the_map_and_sums_of_unlike_shapes() -> None:
    pooled = graphs.mean_max()
    with pytest.raises(InputError, match="MAX_POOL_2D 'pool_1': does not fit"):
        check(with_op(pooled, "pool_1", window=(9, 2)))
    with pytest.raises(InputError, match=r"ADD 'add_1': shape \(1, 8\) does not follow"):
        check(with_op(pooled, "add_1", inputs=("mean_1", "max_1")))
    with pytest.raises(InputError, match="ADD 'add_1': does not fit"):
        check(with_op(pooled, "add_1", inputs=("pool_1", "input")))


def test_constants_of_sums_and_activations_of_unlike_ranks() -> None:
    graph = graphs.mel_affine()
    with pytest.raises(InputError, match=r"MUL 'mul_1': shape \(1, 8, 10, 2\) does not follow"):
        check(with_tensor(graph, "mul_1.constant", shape=(2, 8, 10, 2), data=np.ones((2, 8, 10, 2), np.float32)))
    with pytest.raises(InputError, match="MUL 'mul_1': does not fit"):
        check(with_tensor(graph, "mul_1.constant", shape=(1, 7, 1, 1), data=np.ones((1, 7, 1, 1), np.float32)))
    with pytest.raises(InputError, match=r"'add_1\.constant' is quantized per channel"):
        check(with_tensor(quantized(graph), "add_1.constant", quantization=parameters([1.0] * 8, axis=1)))
    net = graphs.Builder((1, 3, 2, 4))
    x = net.mul(net.input, net.mean(net.input, (1, 2)))
    with pytest.raises(InputError, match=r"MUL 'mul_1': shape \(1, 3, 2, 4\) does not follow"):
        check(net.graph("gate", x))


def test_a_join_of_codes_of_unlike_scales() -> None:
    graph = quantized(graphs.streams())
    with pytest.raises(InputError, match="CONCATENATION 'concat_1': joins codes of 2 scales"):
        check(with_tensor(graph, "conv_1", quantization=parameters(0.5)))


def test_an_output_that_nothing_computes() -> None:
    graph = graphs.logistic()
    with pytest.raises(InputError, match="'logistic' is computed by no operator"):
        check(dataclasses.replace(graph, ops=graph.ops[:-1]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda net: net.hard_swish(net.input),
            "HARD_SWISH 'hard_swish_1': an operator that cannot be written as ONNX",
        ),
        (lambda net: net.transpose(net.input, (0, 2, 1, 3)), "TRANSPOSE 'transpose_1': an operator"),
        (lambda net: net.conv(net.input, 2, (2, 2), dilation=(2, 1)), r"CONV_2D 'conv_1': dilation \(2, 1\)"),
        (lambda net: net.average_pool(net.input, (3, 3), padding=(1, 1, 1, 1)), r"padding \(1, 1, 1, 1\)"),
        (lambda net: net.max_pool(net.input, (2, 2), activation=ir.RELU), "MAX_POOL_2D 'pool_1': activation relu"),
        (lambda net: net.mean(net.input, (1,), keep_dims=True), "MEAN 'mean_1': keep_dims True"),
        (lambda net: net.slice(net.input, 0, 2, axis=-2, step=2), "SLICE 'slice_1': axis -2, step 2"),
        (lambda net: net.pad(net.input, (0, 0, 0, 0), (1, 0)), r"PAD 'pad_1': channels \(1, 0\)"),
        (lambda net: net.sub(np.ones(4), net.input), "SUB 'sub_1': a constant first"),
        (lambda net: net.add(net.input, net.input, ir.RELU_N1_TO_1), "ADD 'add_1': activation relu_n1_to_1"),
        (lambda net: net.dense(net.input, 3), "FULLY_CONNECTED 'dense_1': input of 4 axes"),
    ],
)
def test_what_only_files_by_others_hold_is_for_no_other_writer(make: Any, message: str) -> None:
    net = graphs.Builder((1, 6, 5, 4))
    graph = check(net.graph("foreign", make(net)))
    with pytest.raises(InputError, match=message):
        check_own(graph, "ONNX")


@pytest.mark.parametrize("name", sorted(graphs.BUILDERS))
def test_edgeq_s_own_graphs_are_for_every_writer(name: str) -> None:
    check_own(graphs.BUILDERS[name](), "ONNX")


@pytest.mark.parametrize(
    ("op", "message"),
    [
        (ir.Concatenation(("input", "input"), "y", 0), "CONCATENATION 'y': does not fit"),
        (ir.Concatenation(("input", "input"), "y", -4), "CONCATENATION 'y': does not fit"),
        (ir.Slice(("input",), "y", 0, 2, -5), "SLICE 'y': does not fit"),
        (ir.Slice(("input",), "y", 0, 4, -2, 2), "SLICE 'y': does not fit"),
        (ir.Transpose(("input",), "y", (1, 0, 2, 3)), "TRANSPOSE 'y': does not fit"),
        (ir.Transpose(("input",), "y", (0, 2, 2, 3)), "TRANSPOSE 'y': does not fit"),
        (ir.MaxPool2D(("input",), "y", (2, 2), (1, 1), (2, 0, 0, 0)), "MAX_POOL_2D 'y': does not fit"),
        (ir.Pad(("input",), "y", channels=(-1, 0)), "PAD 'y': does not fit"),
        (ir.Quantize(("input",), "y"), "QUANTIZE 'y': in a float graph"),
    ],
)
def test_axes_and_padding_that_make_no_sense(op: ir.Op, message: str) -> None:
    tensors = {name: ir.Tensor(name, (1, 6, 5, 4)) for name in ("input", "y")}
    with pytest.raises(InputError, match=message):
        check(ir.Graph("one", tensors, (op,), "input", "y"))
