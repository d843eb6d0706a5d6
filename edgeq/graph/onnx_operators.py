"""What each operator of an ONNX model is in the graph.

To read one more kind, add a function and name it in OPERATORS below. Each takes the graph so far, the node, the Value
of its first input and its attributes; it gives the Value of the output, or raises InputError.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from edgeq.errors import InputError
from edgeq.graph import ir
from edgeq.graph.onnx_reading import Reading, UnsupportedError, Value

Attributes = dict[str, Any]


def _convolution(graph: Reading, node: onnx.NodeProto, x: Value, attributes: Attributes) -> Value:
    kernel = graph.floats(node.input[1], 4)
    groups = attributes.get("group", 1)
    if groups not in (1, x.shape[1]):
        raise InputError(f"group {groups}: expected 1, or one a channel ({x.shape[1]})")
    _expect(attributes, "dilations", [1, 1])
    _expect(attributes, "auto_pad", b"NOTSET", b"VALID")
    above, left, below, right = attributes.get("pads", (0, 0, 0, 0))
    kind = ir.Conv2D if groups == 1 else ir.DepthwiseConv2D
    name = graph.name("conv" if groups == 1 else "depthwise")
    weight = graph.constant(f"{name}.weight", kernel.transpose(0, 2, 3, 1))
    bias = graph.constant(f"{name}.bias", _bias(graph, node, len(kernel)))
    stride = _pair(attributes.get("strides", (1, 1)))
    return graph.emit(kind((x.name, weight, bias), name, stride, (above, below, left, right)))


def _dense(graph: Reading, node: onnx.NodeProto, x: Value, attributes: Attributes) -> Value:
    for attribute, expected in (("alpha", 1.0), ("beta", 1.0), ("transA", 0)):
        _expect(attributes, attribute, expected)
    matrix = graph.floats(node.input[1], 2)
    if not attributes.get("transB", 0):
        matrix = matrix.T
    if x.flattened is not None and math.prod(x.flattened) == matrix.shape[1]:
        matrix = matrix[:, np.moveaxis(np.arange(matrix.shape[1]).reshape(x.flattened), 0, -1).ravel()]
    name = graph.name("dense")
    weight = graph.constant(f"{name}.weight", matrix)
    bias = graph.constant(f"{name}.bias", _bias(graph, node, len(matrix)))
    return graph.emit(ir.FullyConnected((x.name, weight, bias), name))


def _bias(graph: Reading, node: onnx.NodeProto, channels: int) -> np.ndarray:
    if len(node.input) < 3 or not node.input[2]:
        return np.zeros(channels, np.float32)
    return graph.floats(node.input[2], 1)


def _pool(graph: Reading, node: onnx.NodeProto, x: Value, attributes: Attributes) -> Value:
    _expect(attributes, "auto_pad", b"NOTSET", b"VALID")
    _expect(attributes, "ceil_mode", 0)
    _expect(attributes, "pads", [0, 0, 0, 0])
    _expect(attributes, "dilations", [1, 1])
    window = _pair(attributes["kernel_shape"])
    kind = ir.AveragePool2D if node.op_type == "AveragePool" else ir.MaxPool2D
    return graph.emit(kind((x.name,), graph.name("pool"), window, _pair(attributes.get("strides", (1, 1)))))


def _global_pool(graph: Reading, node: onnx.NodeProto, x: Value, attributes: Attributes) -> Value:
    kind = ir.Mean if node.op_type == "GlobalAveragePool" else ir.ReduceMax
    return _reduced(graph, kind, x, list(range(2, len(x.shape))), keep=True)


def _reduction(graph: Reading, node: onnx.NodeProto, x: Value, attributes: Attributes) -> Value:
    axes = attributes["axes"] if "axes" in attributes else graph.integers(node, 1)
    kind = ir.Mean if node.op_type == "ReduceMean" else ir.ReduceMax
    return _reduced(graph, kind, x, [axis % len(x.shape) for axis in axes], bool(attributes.get("keepdims", 1)))


def _reduced(graph: Reading, kind: type[ir.Mean] | type[ir.ReduceMax], x: Value, axes: list[int], keep: bool) -> Value:
    if not axes or min(axes) < 2:
        raise InputError(f"over axes {axes}: expected over rows or columns, not batch or channels")
    name = graph.name("mean" if kind is ir.Mean else "max")
    y = graph.emit(kind((x.name,), name, tuple(sorted(axis - 1 for axis in axes))))
    return _reshaped(graph, y, tuple(1 if n in axes else size for n, size in enumerate(x.shape))) if keep else y


def _sum_or_product(graph: Reading, node: onnx.NodeProto, x: Value, attributes: Attributes) -> Value:
    kind, stem = {"Add": (ir.Add, "add"), "Sub": (ir.Sub, "sub"), "Mul": (ir.Mul, "mul")}[node.op_type]
    other = node.input[1] if graph.values.get(node.input[0]) is x else node.input[0]
    y = graph.values.get(other)
    if y is not None:
        if (x.shape, x.flattened) != (y.shape, y.flattened):
            raise UnsupportedError(f"of {x.shape} and {y.shape}: expected two of one shape, or a constant")
        return replace(graph.emit(kind((x.name, y.name), graph.name(stem))), flattened=x.flattened)
    data = graph.floats(other)
    if data.ndim > len(x.shape) or (x.flattened is not None and data.size > 1):
        raise InputError(f"a constant of shape {data.shape} for {x.shape}: expected no more axes, nothing flattened")
    data = np.moveaxis(data.reshape((1,) * (len(x.shape) - data.ndim) + data.shape), 1, -1)
    name = graph.name(stem)
    return replace(graph.emit(kind((x.name, graph.constant(f"{name}.constant", data)), name)), flattened=x.flattened)


def _concatenation(graph: Reading, node: onnx.NodeProto, x: Value, attributes: Attributes) -> Value:
    inputs = [graph.values.get(name) for name in node.input]
    maps = [one for one in inputs if one is not None and one.flattened is None]
    if attributes["axis"] % len(x.shape) != 1 or len(maps) < len(inputs):
        raise InputError(f"over axis {attributes['axis']}, or of constants or flattened maps: expected over channels")
    if len(maps) == 1:
        return x
    return graph.emit(ir.Concatenation(tuple(one.name for one in maps), graph.name("concat")))


def _slice(graph: Reading, node: onnx.NodeProto, x: Value, attributes: Attributes) -> Value:
    starts, ends = graph.integers(node, 1), graph.integers(node, 2)
    axes = graph.integers(node, 3) if len(node.input) > 3 and node.input[3] else [0]
    steps = graph.integers(node, 4) if len(node.input) > 4 and node.input[4] else [1]
    if (len(starts), len(ends), steps) != (1, 1, [1]) or [axis % len(x.shape) for axis in axes] != [1] or x.flattened:
        raise InputError(f"{starts} to {ends} in steps of {steps} over axes {axes}: expected neighbouring channels")
    begin, end, _ = slice(starts[0], ends[0]).indices(x.shape[1])
    return graph.emit(ir.Slice((x.name,), graph.name("slice"), begin, end - begin))


def _relu(graph: Reading, node: onnx.NodeProto, x: Value, attributes: Attributes) -> Value:
    return _fused(graph, node, x, ir.RELU) or _elementwise(graph, node, x, attributes)


def _clip(graph: Reading, node: onnx.NodeProto, x: Value, attributes: Attributes) -> Value:
    limits = [graph.floats(name, 0) for name in node.input[1:] if name]
    if [float(limit) for limit in limits] != [0.0, 6.0] or len(node.input) != 3:
        raise InputError(f"limits {limits}: expected constants 0 and 6")
    return _fused(graph, node, x, ir.RELU6) or _elementwise(graph, node, x, attributes)


def _fused(graph: Reading, node: onnx.NodeProto, x: Value, activation: str) -> Value | None:
    """x itself, where the operator that makes it can apply the activation too."""
    op = graph.ops.get(x.name)
    fusing = (ir.Conv2D, ir.DepthwiseConv2D, ir.FullyConnected, ir.Add, ir.Sub, ir.Mul)
    if not isinstance(op, fusing) or op.activation != ir.NONE or graph.uses[node.input[0]] != 1:
        return None
    graph.ops[x.name] = replace(op, activation=activation)
    return x


def _elementwise(graph: Reading, node: onnx.NodeProto, x: Value, attributes: Attributes) -> Value:
    kind = {"Relu": ir.Relu, "Clip": ir.Relu6, "Tanh": ir.Tanh, "Sigmoid": ir.Logistic}[node.op_type]
    stem = kind.kind.lower()
    name = stem if kind is ir.Logistic and stem not in graph.ops else graph.name(stem)
    return replace(graph.emit(kind((x.name,), name)), flattened=x.flattened)


def _softmax(graph: Reading, node: onnx.NodeProto, x: Value, attributes: Attributes) -> Value:
    axis = attributes.get("axis", -1 if graph.opset >= 13 else 1)
    if axis % len(x.shape) != 1 or x.flattened or (len(x.shape) > 2 and graph.opset < 13):
        raise InputError(f"over axis {axis} of {x.shape}: expected over channels or classes")
    return graph.emit(ir.Softmax((x.name,), "softmax" if "softmax" not in graph.ops else graph.name("softmax")))


def _pad(graph: Reading, node: onnx.NodeProto, x: Value, attributes: Attributes) -> Value:
    _expect(attributes, "mode", b"constant")
    pads = attributes["pads"] if "pads" in attributes else graph.integers(node, 1)
    value = graph.floats(node.input[2], 0) if len(node.input) > 2 and node.input[2] else attributes.get("value", 0.0)
    if len(pads) != 8 or any(pads[n] for n in (0, 1, 4, 5)) or value != 0 or len(node.input) > 3:
        raise InputError(f"pads {pads}, value {value}: expected zeros around rows and columns only")
    return graph.emit(ir.Pad((x.name,), graph.name("pad"), (pads[2], pads[6], pads[3], pads[7])))


def _flatten(graph: Reading, node: onnx.NodeProto, x: Value, attributes: Attributes) -> Value:
    _expect(attributes, "axis", 1)
    return _reshaped(graph, x, (1, math.prod(x.shape[1:])))


def _reshape(graph: Reading, node: onnx.NodeProto, x: Value, attributes: Attributes) -> Value:
    target = graph.integers(node, 1)
    if not attributes.get("allowzero", 0):
        target = [x.shape[n] if size == 0 and n < len(x.shape) else size for n, size in enumerate(target)]
    if target.count(-1) == 1:
        rest = math.prod(size for size in target if size != -1)
        target[target.index(-1)] = math.prod(x.shape) // rest if rest > 0 else 0
    return _reshaped(graph, x, tuple(target))


def _squeeze(graph: Reading, node: onnx.NodeProto, x: Value, attributes: Attributes) -> Value:
    axes = [axis % len(x.shape) for axis in attributes.get("axes") or graph.integers(node, 1)]
    if any(axis < 2 or x.shape[axis] != 1 for axis in axes):
        raise InputError(f"axes {axes} of {x.shape}: expected rows or columns of size 1")
    return _reshaped(graph, x, tuple(size for n, size in enumerate(x.shape) if n not in axes))


def _reshaped(graph: Reading, x: Value, target: tuple[int, ...]) -> Value:
    """A reshape that the graph's order of axes can follow: flattening, or axes of size 1 that come and go."""
    if target == x.shape:
        return x
    if math.prod(target) != math.prod(x.shape) or target[:1] != (1,) or len(target) < 2 or x.flattened is not None:
        raise InputError(f"{x.shape} to {target}: expected the batch and the number of elements to stay")
    if len(x.shape) == 2 and len(target) == 3 and min(target[1:]) > 1:
        name = graph.name("reshape")
        graph.tensors[name] = ir.Tensor(name, target)
        y = Value(name, target, stacked=True)
    elif len(target) == 2:
        maps = math.prod(x.shape[2:]) > 1
        y = graph.tensor(graph.name("reshape"), target, x.shape[1:] if maps else None)
    elif target[1] == x.shape[1] and _longer(target[2:]) == _longer(x.shape[2:]):
        y = graph.tensor(graph.name("reshape"), target)
    else:
        raise InputError(f"{x.shape} to {target}: expected flattening, or axes of size 1 added or dropped")
    graph.ops[y.name] = ir.Reshape((x.name,), y.name)
    return y


def _transpose(graph: Reading, node: onnx.NodeProto, x: Value, attributes: Attributes) -> Value:
    """Of rows that were stacked: channels come second, as in every map."""
    if not x.stacked or list(attributes.get("perm", [])) != [0, 2, 1]:
        raise UnsupportedError("of another map than rows cut from one: expected maps with channels second throughout")
    _, rows, channels = x.shape
    return Value(x.name, (1, channels, rows))


def _same(graph: Reading, node: onnx.NodeProto, x: Value, attributes: Attributes) -> Value:
    return x


OPERATORS: dict[str, Callable[[Reading, onnx.NodeProto, Value, Attributes], Value]] = {
    "Conv": _convolution,
    "Gemm": _dense,
    "AveragePool": _pool,
    "MaxPool": _pool,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "ReduceMean": _reduction,
    "ReduceMax": _reduction,
    "Add": _sum_or_product,
    "Sub": _sum_or_product,
    "Mul": _sum_or_product,
    "Concat": _concatenation,
    "Slice": _slice,
    "Relu": _relu,
    "Clip": _clip,
    "Tanh": _elementwise,
    "Sigmoid": _elementwise,
    "Softmax": _softmax,
    "Pad": _pad,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Identity": _same,
    "Constant": _same,
}

COMMUTATIVE = ("Add", "Mul")
"""Operators whose first input may be the constant: what is called x is then the second."""


def _expect(attributes: Attributes, name: str, *expected: Any) -> None:
    if name in attributes and attributes[name] not in expected:
        raise InputError(f"{name} {attributes[name]}: expected {expected[0]}")


def _pair(sizes: Any) -> tuple[int, int]:
    rows, columns = sizes
    return rows, columns


def _longer(sizes: tuple[int, ...]) -> list[int]:
    return [size for size in sizes if size > 1]
