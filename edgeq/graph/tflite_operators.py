"""What each operator of a .tflite file is in the graph: its options checked, and put into graph.ir's words."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeq.errors import InputError
from edgeq.graph import ir, tflite_format

_ACTIVATIONS = {number: name for name, number in tflite_format.ACTIVATIONS.items()}


def parse(kind: str, inputs: list[ir.Tensor], result: ir.Tensor, table: Any, where: str) -> ir.Op:
    """The operator of that kind between these tensors; table: the file's, where: what errors call it.

    Whether shapes and types fit is for graph.check to say. Raises InputError where it asks for what graph.ir lacks.
    """
    return _PARSERS.get(kind, _plain)(kind, inputs, result, _options(table, kind, where), where)


def _plain(kind: str, inputs: list[ir.Tensor], result: ir.Tensor, options: Any, where: str) -> ir.Op:
    return ir.OPS[kind](tuple(tensor.name for tensor in inputs), result.name)


def _convolution(kind: str, inputs: list[ir.Tensor], result: ir.Tensor, options: Any, where: str) -> ir.Op:
    _one_of(where, "dilation", (options.DilationHFactor(), options.DilationWFactor()), [(1, 1)])
    stride = (options.StrideH(), options.StrideW())
    padding = _explicit_padding(where, inputs, options.Padding(), stride)
    names = tuple(tensor.name for tensor in inputs)
    if kind == "CONV_2D":
        return ir.Conv2D(names, result.name, stride, padding, _activation(options, where))
    filters, channels = inputs[1].shape[-1], inputs[0].shape[-1]
    _one_of(where, f"depth multiplier for {channels} channels", options.DepthMultiplier(), [filters // channels])
    return ir.DepthwiseConv2D(names, result.name, stride, padding, _activation(options, where))


def _dense(kind: str, inputs: list[ir.Tensor], result: ir.Tensor, options: Any, where: str) -> ir.Op:
    _one_of(where, "weights format", options.WeightsFormat(), [0])
    return ir.FullyConnected(tuple(tensor.name for tensor in inputs), result.name, _activation(options, where))


def _binary(kind: str, inputs: list[ir.Tensor], result: ir.Tensor, options: Any, where: str) -> ir.Op:
    if inputs[0].data is not None:
        if kind == "SUB":
            raise InputError(f"{where}: subtracts from a constant: expected the constant second")
        inputs = inputs[::-1]  # The graph has a constant second.
    found = {"ADD": ir.Add, "SUB": ir.Sub, "MUL": ir.Mul}[kind]
    return found(tuple(tensor.name for tensor in inputs), result.name, _activation(options, where))


def _concatenation(kind: str, inputs: list[ir.Tensor], result: ir.Tensor, options: Any, where: str) -> ir.Op:
    _one_of(where, "fused activation", _activation(options, where), [ir.NONE])
    _one_of(where, "axis", options.Axis(), [len(result.shape) - 1, -1])
    return ir.Concatenation(tuple(tensor.name for tensor in inputs), result.name)


def _slice(kind: str, inputs: list[ir.Tensor], result: ir.Tensor, options: Any, where: str) -> ir.Op:
    begin, size = (_constant(where, "begin and size", inputs, n, 3).ravel().tolist() for n in (1, 2))
    *others, channels = inputs[0].shape
    if any(begin[:-1]) or size[:-1] not in (others, [-1] * len(others)) or len(begin) != len(size):
        raise InputError(f"{where}: begin {begin}, size {size} of {inputs[0].shape}: expected some channels, all else")
    return ir.Slice((inputs[0].name,), result.name, begin[-1], channels - begin[-1] if size[-1] == -1 else size[-1])


def _pool(kind: str, inputs: list[ir.Tensor], result: ir.Tensor, options: Any, where: str) -> ir.Op:
    _one_of(where, "fused activation", _activation(options, where), [ir.NONE])
    window, stride = (options.FilterHeight(), options.FilterWidth()), (options.StrideH(), options.StrideW())
    if options.Padding() != schema.Padding.VALID:
        shape = inputs[0].shape
        if len(shape) != 4 or min(stride) < 1 or any(tflite_format.same_paddings(shape, window, stride)):
            raise InputError(f"{where}: pooling with padding: expected windows that lie inside the map")
    return {"AVERAGE_POOL_2D": ir.AveragePool2D, "MAX_POOL_2D": ir.MaxPool2D}[kind](
        (inputs[0].name,), result.name, window, stride
    )


def _reduce(kind: str, inputs: list[ir.Tensor], result: ir.Tensor, options: Any, where: str) -> ir.Op:
    _one_of(where, "keep_dims", bool(options.KeepDims()), [False])
    rank = len(inputs[0].shape)
    axes = tuple(axis + rank * (axis < 0) for axis in _constant(where, "axes", inputs).ravel().tolist())
    return {"MEAN": ir.Mean, "REDUCE_MAX": ir.ReduceMax}[kind]((inputs[0].name,), result.name, axes)


def _reshape(kind: str, inputs: list[ir.Tensor], result: ir.Tensor, options: Any, where: str) -> ir.Op:
    return ir.Reshape((inputs[0].name,), result.name)


def _softmax(kind: str, inputs: list[ir.Tensor], result: ir.Tensor, options: Any, where: str) -> ir.Op:
    _one_of(where, "beta", options.Beta(), [1.0])
    return ir.Softmax((inputs[0].name,), result.name)


def _pad(kind: str, inputs: list[ir.Tensor], result: ir.Tensor, options: Any, where: str) -> ir.Op:
    paddings = _constant(where, "paddings", inputs)
    if paddings.shape != (4, 2) or paddings[[0, 3]].any():
        raise InputError(f"{where}: paddings {paddings.tolist()}: expected rows and columns of an NHWC map only")
    above, below, left, right = (int(n) for n in paddings[1:3].ravel())
    return ir.Pad((inputs[0].name,), result.name, (above, below, left, right))


_PARSERS = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _convolution,
    "FULLY_CONNECTED": _dense,
    "ADD": _binary,
    "SUB": _binary,
    "MUL": _binary,
    "CONCATENATION": _concatenation,
    "SLICE": _slice,
    "AVERAGE_POOL_2D": _pool,
    "MAX_POOL_2D": _pool,
    "MEAN": _reduce,
    "REDUCE_MAX": _reduce,
    "RESHAPE": _reshape,
    "SOFTMAX": _softmax,
    "PAD": _pad,
}


def _options(table: Any, kind: str, where: str) -> Any:
    """The operator's options table; None where its kind has none that matter."""
    expected = tflite_format.OPTIONS.get(kind)
    if expected is None:
        return None
    if table.BuiltinOptionsType() != getattr(schema.BuiltinOptions, expected):
        found = tflite_format.name_of(schema.BuiltinOptions, table.BuiltinOptionsType())
        raise InputError(f"{where}: options {found}: expected {expected}")
    union = table.BuiltinOptions()
    options = getattr(schema, expected)()
    options.Init(union.Bytes, union.Pos)
    return options


def _explicit_padding(
    where: str, inputs: list[ir.Tensor], rule: int, stride: tuple[int, int]
) -> tuple[int, int, int, int]:
    if rule == schema.Padding.VALID:
        return (0, 0, 0, 0)
    if len(inputs) < 2 or any(len(tensor.shape) != 4 for tensor in inputs[:2]) or min(stride) < 1:
        raise InputError(f"{where}: inputs or strides that are no convolution's")
    return tflite_format.same_paddings(inputs[0].shape, inputs[1].shape[1:3], stride)


def _activation(options: Any, where: str) -> str:
    number = options.FusedActivationFunction()
    if number not in _ACTIVATIONS:
        found = tflite_format.name_of(schema.ActivationFunctionType, number)
        raise InputError(f"{where}: fused activation {found}: expected NONE, RELU, RELU6 or RELU_N1_TO_1")
    return _ACTIVATIONS[number]


def _constant(where: str, what: str, inputs: list[ir.Tensor], index: int = 1, count: int = 2) -> np.ndarray:
    data = inputs[index].data if len(inputs) == count else None
    if data is None or data.dtype != np.int32:
        raise InputError(f"{where}: {what} are not constant int32")
    return data


def _one_of(where: str, what: str, found: Any, expected: list[Any]) -> None:
    if found not in expected:
        raise InputError(f"{where}: {what} {found}: expected {' or '.join(map(str, expected))}")
