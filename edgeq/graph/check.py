"""What shape each operator gives, and whether a Graph is well formed: asked of every graph that comes from a file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from edgeq.errors import InputError
from edgeq.graph import ir

LARGEST_TENSOR = 1 << 28  # elements: 1 GiB of float32
_LONGEST_AXIS = 1 << 24
_BIAS_TYPES = {"float32": "float32", "int8": "int32"}  # by the type of activations
_WEIGHTED = (ir.Conv2D, ir.DepthwiseConv2D, ir.FullyConnected)
_BINARY = (ir.Add, ir.Sub, ir.Mul)


def check(graph: ir.Graph) -> ir.Graph:
    """The same graph, where every operator can be computed from what comes before it.

    Checked: order, shapes, element types, quantization, constants that are finite. Raises InputError that names the
    operator or tensor.
    """
    if graph.tensors[graph.input].dtype not in _BIAS_TYPES:
        found = graph.tensors[graph.input].dtype
        raise InputError(f"{graph.name}: input {graph.input!r} is {found}: expected {' or '.join(_BIAS_TYPES)}")
    for tensor in graph.tensors.values():
        _check_tensor(graph, tensor)
    known = {graph.input}
    for op in graph.ops:
        _check_op(graph, op, known)
        known.add(op.output)
    if graph.output not in known:
        raise InputError(f"{graph.name}: output {graph.output!r} is computed by no operator")
    return graph


def output_shape(op: ir.Op, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Shape of what an operator gives for inputs of these shapes (NHWC); RESHAPE is not asked, it states its own.

    Raises InputError, which names the operator's output, where the inputs don't fit.
    """
    source = shapes[0]
    match op:
        case ir.Conv2D() | ir.DepthwiseConv2D() | ir.AveragePool2D() | ir.MaxPool2D() | ir.Pad():
            return _map_shape(op, shapes)
        case ir.FullyConnected():
            _need(len(source) == 2 and len(shapes[1]) == 2 and source[1] == shapes[1][1], op, shapes)
            _need(shapes[2] == shapes[1][:1], op, shapes)
            return (source[0], shapes[1][0])
        case ir.Mean() | ir.ReduceMax():
            distinct = 0 < len(op.axes) == len(set(op.axes))
            _need(distinct and all(0 < axis < len(source) for axis in op.axes), op, shapes)
            return tuple(size for axis, size in enumerate(source) if axis not in op.axes)
        case ir.Add() | ir.Sub() | ir.Mul():
            _need(_broadcasts(source, shapes[1]), op, shapes)
            return max(source, shapes[1], key=lambda shape: (len(shape), math.prod(shape)))
        case ir.Concatenation():
            _need(all(len(shape) > 1 and shape[:-1] == source[:-1] for shape in shapes), op, shapes)
            return (*source[:-1], sum(shape[-1] for shape in shapes))
        case ir.Slice():
            _need(len(source) > 1 and op.begin >= 0 and 0 < op.size <= source[-1] - op.begin, op, shapes)
            return (*source[:-1], op.size)
    return source


def _broadcasts(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether one of two shapes, or of their ends, is the other's with some axes of size 1."""
    small, large = sorted((one, other), key=lambda shape: (len(shape), math.prod(shape)))
    return all(n in (1, m) for n, m in zip(reversed(small), reversed(large), strict=False))


def _map_shape(op: ir.Op, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    source = shapes[0]
    _need(len(source) == 4, op, shapes)
    batch, height, width, channels = source
    padding: tuple[int, ...] = (0, 0, 0, 0)
    window: tuple[int, ...] = (1, 1)
    stride: tuple[int, ...] = (1, 1)
    match op:
        case ir.Conv2D():
            weight = shapes[1]
            _need(len(weight) == 4 and weight[3] == channels and shapes[2] == weight[:1], op, shapes)
            padding, window, stride, channels = op.padding, weight[1:3], op.stride, weight[0]
        case ir.DepthwiseConv2D():
            weight = shapes[1]
            _need(len(weight) == 4 and weight[3] == 1 and weight[0] % channels == 0, op, shapes)
            _need(shapes[2] == weight[:1], op, shapes)
            padding, window, stride, channels = op.padding, weight[1:3], op.stride, weight[0]
        case ir.AveragePool2D() | ir.MaxPool2D():
            window, stride = op.window, op.stride
        case ir.Pad():
            padding = op.padding
    _need(
        all(0 <= n < _LONGEST_AXIS for n in padding) and all(0 < n < _LONGEST_AXIS for n in (*stride, *window)),
        op,
        shapes,
    )
    height, width = height + padding[0] + padding[1], width + padding[2] + padding[3]
    _need(height >= window[0] and width >= window[1], op, shapes)
    return (batch, (height - window[0]) // stride[0] + 1, (width - window[1]) // stride[1] + 1, channels)


def _check_tensor(graph: ir.Graph, tensor: ir.Tensor) -> None:
    where = f"{graph.name}: tensor {tensor.name!r}"
    if not all(0 < size < 1 << 31 for size in tensor.shape) or math.prod(tensor.shape) > LARGEST_TENSOR:
        raise InputError(f"{where}: shape {tensor.shape}: expected 1 to {LARGEST_TENSOR} elements, none dynamic")
    if tensor.dtype == "float32" and tensor.data is not None and not np.isfinite(tensor.data).all():
        raise InputError(f"{where}: holds NaN or infinite values; train or convert it again")
    quantization = tensor.quantization
    if quantization is None:
        return
    scale, zero_point, axis = quantization.scale, quantization.zero_point, quantization.axis
    per_channel = 0 <= axis < len(tensor.shape) and scale.shape == (tensor.shape[axis],)
    if scale.shape != zero_point.shape or not (scale.shape == (1,) or per_channel):
        raise InputError(f"{where}: {scale.size} scales, {zero_point.size} zero points: expected one, or one a channel")
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise InputError(f"{where}: quantization scale {scale.min()}: expected a positive number")
    if zero_point.min() < -128 or zero_point.max() > 127:
        raise InputError(f"{where}: zero points {zero_point.min()} to {zero_point.max()}: expected -128 to 127")


def _check_op(graph: ir.Graph, op: ir.Op, known: set[str]) -> None:
    where = f"{graph.name}: {op.kind} {op.output!r}"
    constants = op.inputs[1:] if isinstance(op, _WEIGHTED) else ()
    if isinstance(op, _BINARY) and len(op.inputs) == 2 and graph.tensors[op.inputs[1]].data is not None:
        constants = op.inputs[1:]
    if isinstance(op, ir.Concatenation):
        expected = max(2, len(op.inputs))
    else:
        expected = 3 if isinstance(op, _WEIGHTED) else 2 if isinstance(op, _BINARY) else 1
    if len(op.inputs) != expected:
        raise InputError(f"{where}: {len(op.inputs)} inputs: expected {expected}")
    if op.output in known or graph.tensors[op.output].data is not None:
        raise InputError(f"{where}: its output is written twice, or is a constant")
    for name in op.inputs:
        if name in constants and graph.tensors[name].data is None:
            raise InputError(f"{where}: weights {name!r} are not constant")
        if name not in constants and name not in known:
            raise InputError(f"{where}: reads {name!r} before any operator wrote it")
    _check_types(graph, op, where)
    inputs, result = [graph.tensors[name].shape for name in op.inputs], graph.tensors[op.output].shape
    if isinstance(op, ir.Reshape):
        fits = math.prod(inputs[0]) == math.prod(result) and inputs[0][:1] == result[:1]
    else:
        fits = output_shape(op, inputs) == result
    if isinstance(op, _BINARY):  # Of one rank, so that a batch stays one; a constant doesn't enlarge what it meets.
        fits &= result == inputs[0] if constants else len(inputs[0]) == len(inputs[1])
    if not fits:
        raise InputError(f"{where}: shape {result} does not follow from {', '.join(map(str, inputs))}")


def _check_types(graph: ir.Graph, op: ir.Op, where: str) -> None:
    tensors: Mapping[str, ir.Tensor] = graph.tensors
    activation = tensors[graph.input].dtype
    weighted = [activation, activation, _BIAS_TYPES[activation]]
    dtypes = weighted if isinstance(op, _WEIGHTED) else [activation] * len(op.inputs)
    for name, dtype in zip((*op.inputs, op.output), (*dtypes, activation), strict=True):
        tensor = tensors[name]
        if tensor.dtype != dtype:
            raise InputError(f"{where}: {name!r} is {tensor.dtype}: expected {dtype}")
        if activation != "int8":
            continue
        if tensor.quantization is None:
            raise InputError(f"{where}: {name!r} has no quantization")
        if (tensor.data is None or isinstance(op, _BINARY)) and tensor.quantization.scale.size != 1:
            raise InputError(f"{where}: {name!r} is quantized per channel: expected one scale")
    if activation == "int8" and isinstance(op, _WEIGHTED):
        _check_weights(op, tensors, where)
    if activation == "int8" and isinstance(op, ir.Concatenation):
        _check_join(op, tensors, where)


def _check_weights(op: ir.Op, tensors: Mapping[str, ir.Tensor], where: str) -> None:
    weight, bias = (tensors[name].quantization for name in op.inputs[1:])
    assert weight is not None and bias is not None
    if weight.zero_point.any() or bias.zero_point.any():
        raise InputError(f"{where}: weights with a zero point: expected symmetric quantization")
    if weight.scale.size > 1 and (weight.axis != 0 or isinstance(op, ir.FullyConnected)):
        raise InputError(
            f"{where}: weights with {weight.scale.size} scales on axis {weight.axis}: "
            "expected one a filter in convolutions, one in all in dense layers"
        )


def _check_join(op: ir.Op, tensors: Mapping[str, ir.Tensor], where: str) -> None:
    used = set()
    for name in (*op.inputs, op.output):
        quantization = tensors[name].quantization
        assert quantization is not None
        used.add((float(quantization.scale[0]), int(quantization.zero_point[0])))
    if len(used) > 1:
        raise InputError(f"{where}: joins codes of {len(used)} scales: expected one for inputs and output")


def _need(fits: bool, op: ir.Op, shapes: Sequence[tuple[int, ...]]) -> None:
    if not fits:
        raise InputError(f"{op.kind} {op.output!r}: does not fit inputs of shapes {', '.join(map(str, shapes))}")
