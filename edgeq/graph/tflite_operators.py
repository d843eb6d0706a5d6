"""What each operator of a .tflite file is in the graph: its options checked, and put into graph.ir's words.

To read one more kind, add a function and name it in PARSERS below. Each takes the graph so far and the file's operator,
adds what the operator is to the graph, or raises InputError.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeq.errors import InputError
from edgeq.graph import ir, tflite_format
from edgeq.graph.tflite_reading import Node, Reading, no_bias

RESHAPES = ("RESHAPE", "EXPAND_DIMS", "SQUEEZE")
"""Operators whose output's stated shape says everything."""

SPLITS = ("SPLIT", "SPLIT_V")
"""Operators of several outputs."""

_ACTIVATIONS = {number: name for name, number in tflite_format.ACTIVATIONS.items()}


def parse(graph: Reading, node: Node) -> None:
    """Add an operator of the file to the graph.

    Whether shapes and types fit is for graph.check to say. Raises InputError where it asks for what graph.ir lacks.
    """
    node = replace(
        node,
        inputs=[None if tensor is None else graph.resolved(tensor) for tensor in node.inputs],
        outputs=[graph.resolved(tensor) for tensor in node.outputs],
    )
    if node.kind != "QUANTIZE":
        for tensor in (*node.inputs, *node.outputs):
            if tensor is not None and tensor.name in graph.unsigned:
                raise InputError(
                    f"{node.where}: {tensor.name!r} is uint8: expected int8, and uint8 at input and output only"
                )
    PARSERS[node.kind](graph, node)


def _convolution(graph: Reading, node: Node) -> None:
    options = _options(node)
    x, weight, bias = _weighted(graph, node)
    stride = (options.StrideH(), options.StrideW())
    dilation = (options.DilationHFactor(), options.DilationWFactor())
    if len(x.shape) != 4 or len(weight.shape) != 4 or min(*stride, *dilation) < 1:
        raise InputError(f"{node.where}: shapes {x.shape} and {weight.shape}, stride {stride}, dilation {dilation}")
    names, result = (x.name, weight.name, bias.name), node.outputs[0].name
    channels = x.shape[3]
    padding = _padding(x, options.Padding(), weight.shape[1:3], stride, dilation)
    activation = _activation(options, node)
    if node.kind == "CONV_2D":
        _one_of(node, "weights for channels", weight.shape[3], [channels])
        graph.emit(ir.Conv2D(names, result, stride, padding, activation, dilation))
        return
    _one_of(node, f"depth multiplier for {channels} channels", options.DepthMultiplier(), [weight.shape[0] // channels])
    graph.emit(ir.DepthwiseConv2D(names, result, stride, padding, activation, dilation))


def _dense(graph: Reading, node: Node) -> None:
    options, result = _options(node), node.outputs[0]
    _one_of(node, "weights format", options.WeightsFormat(), [0])
    x, weight, bias = _weighted(graph, node)
    if len(weight.shape) != 2:
        raise InputError(f"{node.where}: weights of shape {weight.shape}: expected (out, in)")
    # Without its axes kept, all that is read is rows of as many as there are weights.
    rows, depth = math.prod(x.shape) // max(weight.shape[1], 1), weight.shape[1]
    shape = x.shape if options.KeepNumDims() else (1, depth) if rows == 1 else (1, rows, depth)
    x = graph.reshaped(x, shape, node.where)
    graph.emit(ir.FullyConnected((x.name, weight.name, bias.name), result.name, _activation(options, node)))


def _weighted(graph: Reading, node: Node) -> tuple[ir.Tensor, ir.Tensor, ir.Tensor]:
    """What an operator reads, its weights and its bias: zeros where it has none."""
    x, weight = _inputs(node, 2, 3)
    if weight.data is None:
        raise InputError(f"{node.where}: weights {weight.name!r} are not constant")
    if x.dtype == "float32" and weight.dtype != "float32":
        raise InputError(
            f"{node.where}: {weight.dtype} weights for float32 values (a hybrid model): "
            "convert with full INT8 quantization"
        )
    if node.kind == "DEPTHWISE_CONV_2D":
        weight = graph.filters_first(weight)
    bias = node.inputs[2] if len(node.inputs) == 3 else None
    return x, weight, bias or graph.add(no_bias(weight, x, f"{node.outputs[0].name}.bias"))


def _binary(graph: Reading, node: Node) -> None:
    options, result = _options(node), node.outputs[0]
    inputs = _inputs(node, 2)
    if inputs[0].data is not None and node.kind != "SUB":
        inputs = inputs[::-1]  # The graph has a constant second.
    found = {"ADD": ir.Add, "SUB": ir.Sub, "MUL": ir.Mul}[node.kind]
    rank = max(len(tensor.shape) for tensor in inputs)
    if all(tensor.data is None for tensor in inputs):
        inputs = [graph.reshaped(x, (1,) * (rank - len(x.shape)) + x.shape, node.where) for x in inputs]
    graph.emit(found((inputs[0].name, inputs[1].name), result.name, _activation(options, node)))


def _concatenation(graph: Reading, node: Node) -> None:
    options, result = _options(node), node.outputs[0]
    _one_of(node, "fused activation", _activation(options, node), [ir.NONE])
    inputs = _inputs(node, max(1, len(node.inputs)))
    constant = next((tensor.name for tensor in inputs if tensor.data is not None), None)
    if constant is not None:
        raise InputError(f"{node.where}: joins the constant {constant!r}: expected activations only")
    axis = graph.axis(result, options.Axis(), node.where) - len(result.shape)
    if result.name in graph.lifted:
        inputs = [x if x.name in graph.lifted else graph.reshaped(x, (1, *x.shape), node.where) for x in inputs]
    if len(inputs) == 1:
        _reshape_to(graph, inputs[0], result, node)
    else:
        graph.emit(ir.Concatenation(tuple(tensor.name for tensor in inputs), result.name, axis))


def _slice(graph: Reading, node: Node) -> None:
    x, *places = _inputs(node, 3)
    begin, size = (_constant(node, "begin and size", place).ravel().tolist() for place in places)
    shape = _file_shape(graph, x)
    if not len(begin) == len(size) == len(shape):
        raise InputError(f"{node.where}: begin {begin}, size {size} of {shape}: expected one an axis")
    taken = [(b, n - b if s == -1 else s, 1) for b, s, n in zip(begin, size, shape, strict=True)]
    _take(graph, x, node.outputs[0], taken, node)


def _strided_slice(graph: Reading, node: Node) -> None:
    options = _options(node)
    x, *places = _inputs(node, 4)
    begin, end, strides = (_constant(node, "begin, end and strides", place).ravel().tolist() for place in places)
    shape = _file_shape(graph, x)
    masks = options.EllipsisMask(), options.NewAxisMask(), options.Offset()
    _one_of(node, "ellipsis, new axes and offset", masks, [(0, 0, False)])
    if not len(begin) == len(end) == len(strides) <= len(shape) or min(strides, default=1) < 1:
        raise InputError(
            f"{node.where}: begin {begin}, end {end}, strides {strides} of {shape}: expected forward slices"
        )
    taken = [(0, size, 1) for size in shape]
    for axis, (first, last, step) in enumerate(zip(begin, end, strides, strict=True)):
        size, bit = shape[axis], 1 << axis
        if options.ShrinkAxisMask() & bit:
            taken[axis] = (first + size * (first < 0), 1, 1)
            continue
        part = slice(None if options.BeginMask() & bit else first, None if options.EndMask() & bit else last, step)
        places_taken = range(*part.indices(size))
        taken[axis] = (places_taken.start, len(places_taken), step)
    _take(graph, x, node.outputs[0], taken, node)


def _split(graph: Reading, node: Node) -> None:
    if node.kind == "SPLIT":
        place, x = _inputs(node, 2)
        sizes = None
    else:
        x, counts, place = _inputs(node, 3)
        sizes = _constant(node, "sizes", counts).ravel().tolist()
    axis = _constant(node, "axis", place).ravel().tolist()
    shape = _file_shape(graph, x)
    if len(axis) != 1 or not -len(shape) <= axis[0] < len(shape):
        raise InputError(f"{node.where}: axis {axis} of {shape}: no such axis")
    number, total, parts = axis[0] % len(shape), shape[axis[0]], len(node.outputs)
    if sizes is None:
        sizes = [total // parts] * parts
    rest = total - sum(size for size in sizes if size != -1)
    sizes = [rest if size == -1 else size for size in sizes]
    if len(sizes) != parts or sum(sizes) != total or min(sizes) < 1:
        raise InputError(f"{node.where}: {total} elements into {parts} parts of {sizes}: expected all, none empty")
    begin = 0
    for size, result in zip(sizes, node.outputs, strict=True):
        taken = [(begin, size, 1) if n == number else (0, whole, 1) for n, whole in enumerate(shape)]
        _take(graph, x, result, taken, node)
        begin += size


def _take(graph: Reading, x: ir.Tensor, result: ir.Tensor, taken: list[tuple[int, int, int]], node: Node) -> None:
    """One SLICE for each axis of which not all is taken; taken: (begin, size, step) an axis of the file's shape."""
    shape = _file_shape(graph, x)
    for (begin, size, step), whole in zip(taken, shape, strict=True):
        if begin < 0 or size < 1 or begin + (size - 1) * step >= whole:
            raise InputError(f"{node.where}: {taken} (begin, size, step) of {shape}: expected what lies inside")
    partial = [n for n, (one, whole) in enumerate(zip(taken, shape, strict=True)) if one != (0, whole, 1)]
    if not partial:
        _reshape_to(graph, x, result, node)
    for n in partial:
        axis = graph.axis(x, n, node.where) - len(x.shape)
        begin, size, step = taken[n]
        after = result
        if n != partial[-1]:
            sizes = list(x.shape)
            sizes[axis] = size
            after = graph.like(result, tuple(sizes))
            if x.name in graph.lifted:
                graph.lifted.add(after.name)
        graph.emit(ir.Slice((x.name,), after.name, begin, size, axis, step))
        x = after


def _pool(graph: Reading, node: Node) -> None:
    options, (x,) = _options(node), _inputs(node, 1)
    window, stride = (options.FilterHeight(), options.FilterWidth()), (options.StrideH(), options.StrideW())
    if len(x.shape) != 4 or min(*window, *stride) < 1:
        raise InputError(f"{node.where}: window {window}, stride {stride} over {x.shape}: expected those of a map")
    kind = ir.AveragePool2D if node.kind == "AVERAGE_POOL_2D" else ir.MaxPool2D
    padding = _padding(x, options.Padding(), window, stride)
    graph.emit(kind((x.name,), node.outputs[0].name, window, stride, padding, _activation(options, node)))


def _reduce(graph: Reading, node: Node) -> None:
    x, place = _inputs(node, 2)
    axes = sorted({graph.axis(x, axis, node.where) for axis in _constant(node, "axes", place).ravel().tolist()})
    kind = ir.Mean if node.kind == "MEAN" else ir.ReduceMax
    graph.emit(kind((x.name,), node.outputs[0].name, tuple(axes), bool(_options(node).KeepDims())))


def _reshape(graph: Reading, node: Node) -> None:
    x, result = _inputs(node, 1, 2)[0], node.outputs[0]
    stated = node.inputs[1] if node.kind == "RESHAPE" and len(node.inputs) == 2 else None
    if stated is not None and stated.data is not None:
        sizes, shape = _constant(node, "shape", stated).ravel().tolist(), _file_shape(graph, result)
        fits = len(sizes) == len(shape) and all(one in (-1, two) for one, two in zip(sizes, shape, strict=True))
        if not fits and (sizes, shape) != ([0], ()):
            raise InputError(f"{node.where}: to {sizes}: expected its output's shape {shape}")
    _reshape_to(graph, x, result, node)


def _reshape_to(graph: Reading, x: ir.Tensor, result: ir.Tensor, node: Node) -> None:
    if math.prod(x.shape) != math.prod(result.shape):
        raise InputError(f"{node.where}: {x.shape} to {result.shape}: expected as many elements")
    if x.data is None:
        graph.ops.append(ir.Reshape((x.name,), result.name))
    else:
        shape = _file_shape(graph, result)
        graph.lifted.discard(result.name)
        graph.tensors[result.name] = replace(x, name=result.name, shape=shape, data=x.data.reshape(shape))


def _transpose(graph: Reading, node: Node) -> None:
    x, place = _inputs(node, 2)
    axes = [graph.axis(x, axis, node.where) for axis in _constant(node, "permutation", place).ravel().tolist()]
    axes = [0, *(axis for axis in axes if axis != 0)]  # Wherever the file puts its batch of 1, it is first here.
    moving = [axis for axis in axes if x.shape[axis] != 1]
    if sorted(axes) == list(range(len(x.shape))) and moving == sorted(moving):
        _reshape_to(graph, x, node.outputs[0], node)
    else:
        graph.emit(ir.Transpose((x.name,), node.outputs[0].name, tuple(axes)))


def _pad(graph: Reading, node: Node) -> None:
    x, place = _inputs(node, 2)
    shape, paddings = _file_shape(graph, x), _constant(node, "paddings", place)
    if paddings.shape != (len(shape), 2) or (paddings < 0).any():
        raise InputError(f"{node.where}: paddings {paddings.tolist()} of {shape}: expected two an axis, none negative")
    pairs = [(0, 0)] * (len(x.shape) - len(shape)) + [(int(before), int(after)) for before, after in paddings]
    if any(pairs[0]) or len(pairs) > 4:
        raise InputError(f"{node.where}: paddings {paddings.tolist()} of {shape}: expected a map's, not of the batch")
    # Of three axes the second is rows: columns of 1 between them and the channels.
    sizes, added = list(x.shape), [(0, 0)] * (4 - len(pairs))
    x = graph.reshaped(x, (*sizes[:2], *[1] * len(added), *sizes[2:])[:4] if added else x.shape, node.where)
    (_, rows, columns, channels) = [*pairs[:2], *added, *pairs[2:]]
    graph.emit(ir.Pad((x.name,), node.outputs[0].name, (*rows, *columns), channels))


def _softmax(graph: Reading, node: Node) -> None:
    _one_of(node, "beta", _options(node).Beta(), [1.0])
    _plain(graph, node)


def _plain(graph: Reading, node: Node) -> None:
    (x,) = _inputs(node, 1)
    graph.emit(ir.OPS[node.kind]((x.name,), node.outputs[0].name))


def _quantize(graph: Reading, node: Node) -> None:
    """Left out where it rounds the graph's float input, or only changes how codes are written."""
    (x,), result = _inputs(node, 1), node.outputs[0]
    if result.dtype != "int8":
        raise InputError(f"{node.where}: to {result.dtype}: expected int8, or uint8 at the output")
    if result.name in graph.unsigned and result.name != graph.result:
        raise InputError(f"{node.where}: to uint8 inside the graph: expected int8")
    if x.name in graph.unsigned and x.name != graph.source:
        raise InputError(f"{node.where}: from uint8 inside the graph: expected int8")
    same = _same_codes(x, result) and x.shape == result.shape
    if x.data is not None:
        graph.tensors[result.name] = _rounded(x, result, node)
    elif x.dtype == "float32" or (same and x.name in graph.unsigned):
        if x.name != graph.source or any(x.name in op.inputs for op in graph.ops):
            raise InputError(f"{node.where}: rounds {x.name!r}: expected float32 values only as the graph's one input")
        graph.source = result.name
    elif same and result.name in graph.unsigned:
        graph.result = x.name
    elif same:
        graph.alias(result, x)
    else:
        graph.emit(ir.Quantize((x.name,), result.name))


def _rounded(x: ir.Tensor, result: ir.Tensor, node: Node) -> ir.Tensor:
    """A float constant's codes, rounded half away from zero."""
    parameters = result.quantization
    if x.data is None or x.dtype != "float32" or parameters is None or parameters.scale.size != 1:
        raise InputError(f"{node.where}: of the {x.dtype} constant {x.name!r}: expected float32 values, and one scale")
    if not (np.isfinite(x.data).all() and parameters.scale[0] > 0):
        raise InputError(f"{node.where}: {x.name!r} or the scale is not finite, or not positive")
    with np.errstate(over="ignore"):  # to codes at the ends
        steps = x.data / parameters.scale[0]
    codes = np.trunc(steps + np.copysign(np.float32(0.5), steps)) + parameters.zero_point[0]
    data = np.clip(codes, -128, 127).astype(np.int8)
    return replace(result, shape=data.shape, data=data)


def _same_codes(one: ir.Tensor, other: ir.Tensor) -> bool:
    first, second = one.quantization, other.quantization
    if first is None or second is None or first.scale.size != 1 or second.scale.size != 1:
        return False
    return bool(first.scale[0] == second.scale[0] and np.array_equal(first.zero_point, second.zero_point))


def _dequantize(graph: Reading, node: Node) -> None:
    """Left out at the graph's output."""
    (x,), result = _inputs(node, 1), node.outputs[0]
    if x.dtype != "int8" or x.data is not None or result.name != graph.result:
        raise InputError(
            f"{node.where}: of {x.name!r} inside the graph (a float or hybrid model): expected at the output only; "
            "convert with full INT8 quantization"
        )
    graph.result = x.name


PARSERS: dict[str, Callable[[Reading, Node], None]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _convolution,
    "FULLY_CONNECTED": _dense,
    "AVERAGE_POOL_2D": _pool,
    "MAX_POOL_2D": _pool,
    "MEAN": _reduce,
    "REDUCE_MAX": _reduce,
    "ADD": _binary,
    "SUB": _binary,
    "MUL": _binary,
    "CONCATENATION": _concatenation,
    "SLICE": _slice,
    "STRIDED_SLICE": _strided_slice,
    "SPLIT": _split,
    "SPLIT_V": _split,
    "RELU": _plain,
    "RELU6": _plain,
    "HARD_SWISH": _plain,
    "TANH": _plain,
    "LOGISTIC": _plain,
    "SOFTMAX": _softmax,
    "RESHAPE": _reshape,
    "EXPAND_DIMS": _reshape,
    "SQUEEZE": _reshape,
    "PAD": _pad,
    "TRANSPOSE": _transpose,
    "QUANTIZE": _quantize,
    "DEQUANTIZE": _dequantize,
}
"""One function a kind of operator in a file."""


def _inputs(node: Node, *counts: int) -> list[ir.Tensor]:
    """The inputs that an operator cannot do without: the first of `counts`; it may have as many as the last says."""
    if len(node.inputs) not in counts:
        raise InputError(f"{node.where}: {len(node.inputs)} inputs: expected {' or '.join(map(str, counts))}")
    found = [tensor for tensor in node.inputs[: counts[0]] if tensor is not None]
    if len(found) < counts[0]:
        raise InputError(f"{node.where}: an input is left out: expected {counts[0]}")
    return found


def _options(node: Node) -> Any:
    """The operator's options table."""
    expected = tflite_format.OPTIONS[node.kind]
    if node.table.BuiltinOptionsType() != getattr(schema.BuiltinOptions, expected):
        found = tflite_format.name_of(schema.BuiltinOptions, node.table.BuiltinOptionsType())
        raise InputError(f"{node.where}: options {found}: expected {expected}")
    union = node.table.BuiltinOptions()
    options = getattr(schema, expected)()
    options.Init(union.Bytes, union.Pos)
    return options


def _padding(
    x: ir.Tensor,
    rule: int,
    window: tuple[int, ...],
    stride: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
) -> tuple[int, int, int, int]:
    if rule == schema.Padding.VALID:
        return (0, 0, 0, 0)
    spans = [(taps - 1) * apart + 1 for taps, apart in zip(window, dilation, strict=True)]
    return tflite_format.same_paddings(x.shape, spans, stride)


def _activation(options: Any, node: Node) -> str:
    number = options.FusedActivationFunction()
    if number not in _ACTIVATIONS:
        found = tflite_format.name_of(schema.ActivationFunctionType, number)
        raise InputError(f"{node.where}: fused activation {found}: expected NONE, RELU, RELU6 or RELU_N1_TO_1")
    return _ACTIVATIONS[number]


def _constant(node: Node, what: str, tensor: ir.Tensor) -> np.ndarray:
    if tensor.data is None or tensor.dtype != "int32":
        raise InputError(f"{node.where}: {what} are not constant int32")
    return tensor.data


def _file_shape(graph: Reading, tensor: ir.Tensor) -> tuple[int, ...]:
    return tensor.shape[1:] if tensor.name in graph.lifted else tensor.shape


def _one_of(node: Node, what: str, found: Any, expected: list[Any]) -> None:
    if found not in expected:
        raise InputError(f"{node.where}: {what} {found}: expected {' or '.join(map(str, expected))}")
