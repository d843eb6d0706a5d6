"""What shape each operator gives, and whether a Graph is well formed: asked of every graph that comes from a file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import zip_longest

import numpy as np

from edgeq.errors import InputError
from edgeq.graph import ir

LARGEST_TENSOR = 1 << 28  # elements: 1 GiB of float32
_LONGEST_AXIS = 1 << 24
_BIAS_TYPES = {"float32": "float32", "int8": "int32"}  # by the type of activations
_WEIGHTED = (ir.Conv2D, ir.DepthwiseConv2D, ir.FullyConnected)
_BINARY = (ir.Add, ir.Sub, ir.Mul)
# What edgeq's own networks do without, and with it every writer but that of .tflite files.
_FOREIGN = (ir.HardSwish, ir.Transpose, ir.Quantize)
_FOREIGN_FIELDS = {"dilation": (1, 1), "keep_dims": False, "axis": -1, "step": 1, "channels": (0, 0)}
_FINEST_RATIO = 2.0**-15  # of an output's scale to what is summed for it; far below, 32 bits overflow
_SOFTMAX_OUTPUT = 2.0**-8, -128

Shapes = Sequence[tuple[int, ...]]


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


def check_own(graph: ir.Graph, form: str) -> None:
    """Refuse what only .tflite files by others hold, and what `form` (words for a writer's result) has no place for.

    Raises InputError that names the operator and what is the matter with it.
    """
    for op in graph.ops:
        inputs = [graph.tensors[name] for name in op.inputs]
        found = [
            f"{name} {getattr(op, name)}" for name, own in _FOREIGN_FIELDS.items() if getattr(op, name, own) != own
        ]
        if isinstance(op, ir.AveragePool2D | ir.MaxPool2D):
            found += [f"padding {op.padding}"] if any(op.padding) else []
            found += [f"activation {op.activation}"] if op.activation != ir.NONE else []
        if getattr(op, "activation", ir.NONE) == ir.RELU_N1_TO_1:
            found.append(f"activation {ir.RELU_N1_TO_1}")
        if isinstance(op, ir.FullyConnected) and len(inputs[0].shape) != 2:
            found.append(f"input of {len(inputs[0].shape)} axes")
        if isinstance(op, _BINARY) and inputs[0].data is not None:
            found.append("a constant first")
        if isinstance(op, _FOREIGN) or found:
            what = ", ".join(found) or "an operator"
            raise InputError(
                f"{graph.name}: {op.kind} {op.output!r}: {what} that cannot be written as {form}; use TFLite"
            )


def output_shape(op: ir.Op, shapes: Shapes) -> tuple[int, ...]:
    """Shape of what an operator gives for inputs of these shapes (NHWC); RESHAPE is not asked, it states its own.

    Raises InputError, which names the operator's output, where the inputs don't fit.
    """
    source = shapes[0]
    match op:
        case ir.Conv2D() | ir.DepthwiseConv2D() | ir.AveragePool2D() | ir.MaxPool2D() | ir.Pad():
            return _map_shape(op, shapes)
        case ir.FullyConnected():
            _need(len(source) > 1 and len(shapes[1]) == 2 and source[-1] == shapes[1][1], op, shapes)
            _need(shapes[2] == shapes[1][:1], op, shapes)
            return (*source[:-1], shapes[1][0])
        case ir.Mean() | ir.ReduceMax():
            distinct = 0 < len(op.axes) == len(set(op.axes))
            _need(distinct and all(0 < axis < len(source) for axis in op.axes), op, shapes)
            kept = (1 if axis in op.axes else size for axis, size in enumerate(source))
            return tuple(size for axis, size in enumerate(kept) if op.keep_dims or axis not in op.axes)
        case ir.Add() | ir.Sub() | ir.Mul():
            pairs = list(zip_longest(reversed(source), reversed(shapes[1]), fillvalue=1))
            _need(all(one == other or 1 in (one, other) for one, other in pairs), op, shapes)
            return tuple(max(pair) for pair in reversed(pairs))
        case ir.Concatenation():
            axis = _axis(op, shapes)
            others = source[:axis], source[axis + 1 :]
            _need(all((shape[:axis], shape[axis + 1 :]) == others for shape in shapes), op, shapes)
            return (*others[0], sum(shape[axis] for shape in shapes), *others[1])
        case ir.Slice():
            axis = _axis(op, shapes)
            _need(op.begin >= 0 and op.size > 0 and op.step > 0, op, shapes)
            _need(op.begin + (op.size - 1) * op.step < source[axis], op, shapes)
            return (*source[:axis], op.size, *source[axis + 1 :])
        case ir.Transpose():
            _need(op.permutation[:1] == (0,) and sorted(op.permutation) == list(range(len(source))), op, shapes)
            return tuple(source[axis] for axis in op.permutation)
    return source


def _axis(op: ir.Concatenation | ir.Slice, shapes: Shapes) -> int:
    """An operator's axis counted from the first; never the batch."""
    rank = len(shapes[0])
    _need(all(len(shape) == rank for shape in shapes) and -rank < op.axis < 0, op, shapes)
    return rank + op.axis


def _map_shape(op: ir.Op, shapes: Shapes) -> tuple[int, ...]:
    source = shapes[0]
    _need(len(source) == 4, op, shapes)
    batch, height, width, channels = source
    padding: tuple[int, ...] = (0, 0, 0, 0)
    window: tuple[int, ...] = (1, 1)
    stride: tuple[int, ...] = (1, 1)
    dilation: tuple[int, ...] = (1, 1)
    match op:
        case ir.Conv2D():
            weight = shapes[1]
            _need(len(weight) == 4 and weight[3] == channels and shapes[2] == weight[:1], op, shapes)
            padding, window, stride, channels = op.padding, weight[1:3], op.stride, weight[0]
            dilation = op.dilation
        case ir.DepthwiseConv2D():
            weight = shapes[1]
            _need(len(weight) == 4 and weight[3] == 1 and weight[0] % channels == 0, op, shapes)
            _need(shapes[2] == weight[:1], op, shapes)
            padding, window, stride, channels = op.padding, weight[1:3], op.stride, weight[0]
            dilation = op.dilation
        case ir.AveragePool2D() | ir.MaxPool2D():
            padding, window, stride = op.padding, op.window, op.stride
            # So that no window lies wholly outside the map.
            _need(max(padding[:2]) < window[0] and max(padding[2:]) < window[1], op, shapes)
        case ir.Pad():
            padding, channels = op.padding, channels + sum(op.channels)
            _need(all(0 <= n < _LONGEST_AXIS for n in op.channels), op, shapes)
    _need(all(0 <= n < _LONGEST_AXIS for n in padding), op, shapes)
    _need(all(0 < n < _LONGEST_AXIS for n in (*stride, *window, *dilation)), op, shapes)
    height, width = height + padding[0] + padding[1], width + padding[2] + padding[3]
    rows, columns = ((taps - 1) * apart + 1 for taps, apart in zip(window, dilation, strict=True))
    _need(height >= rows and width >= columns, op, shapes)
    return (batch, (height - rows) // stride[0] + 1, (width - columns) // stride[1] + 1, channels)


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
    constants = _constants(graph, op)
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
        met = [shape for name, shape in zip(op.inputs, inputs, strict=True) if name not in constants]
        fits &= result == met[0] if constants else len(inputs[0]) == len(inputs[1])
    if not fits:
        raise InputError(f"{where}: shape {result} does not follow from {', '.join(map(str, inputs))}")


def _constants(graph: ir.Graph, op: ir.Op) -> tuple[str, ...]:
    """Those inputs that have to be constants, or may be and are."""
    if isinstance(op, _WEIGHTED):
        return op.inputs[1:]
    if isinstance(op, _BINARY) and len(op.inputs) == 2:
        for constants in (op.inputs[1:], op.inputs[:1] if isinstance(op, ir.Sub) else ()):
            if constants and graph.tensors[constants[0]].data is not None:
                return constants
    return ()


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
    if activation != "int8":
        if isinstance(op, ir.Quantize):
            raise InputError(f"{where}: in a float graph: expected int8 codes")
        return
    if isinstance(op, _WEIGHTED):
        _check_weights(op, tensors, where)
    if isinstance(op, ir.Concatenation):
        _check_join(op, tensors, where)
    _check_output_scale(op, tensors, where)


def _check_output_scale(op: ir.Op, tensors: Mapping[str, ir.Tensor], where: str) -> None:
    """What the kernels ask of an output's scale: they multiply in 32 bits, HARD_SWISH in 16."""
    quantization = _quantization(tensors, op.output)
    scale, zero_point = float(quantization.scale[0]), int(quantization.zero_point[0])
    if isinstance(op, ir.Softmax) and (scale, zero_point) != _SOFTMAX_OUTPUT:
        raise InputError(f"{where}: output scale {scale}, zero point {zero_point}: expected 1/256 and -128")
    steps = [float(_quantization(tensors, name).scale.max()) for name in op.inputs]
    match op:
        case ir.Conv2D() | ir.DepthwiseConv2D() | ir.FullyConnected() | ir.Mul():
            step = _FINEST_RATIO * steps[0] * steps[1]
        case ir.Add() | ir.Sub():
            step = max(steps) * 2.0**-19  # these kernels insist on it
        case ir.HardSwish():
            step = steps[0] * 2.0**-7  # as this one does
        case ir.Mean() | ir.Relu() | ir.Relu6() | ir.Quantize():
            step = _FINEST_RATIO * steps[0]
        case _:
            return
    if scale <= step:
        raise InputError(f"{where}: output scale {scale:g} for inputs of {steps[0]:g}: too fine; convert it again")


def _quantization(tensors: Mapping[str, ir.Tensor], name: str) -> ir.Quantization:
    quantization = tensors[name].quantization
    assert quantization is not None
    return quantization


def _check_weights(op: ir.Op, tensors: Mapping[str, ir.Tensor], where: str) -> None:
    weight, bias = (_quantization(tensors, name) for name in op.inputs[1:])
    if weight.zero_point.any() or bias.zero_point.any():
        raise InputError(f"{where}: weights with a zero point: expected symmetric quantization")
    if weight.scale.size > 1 and weight.axis != 0:
        raise InputError(
            f"{where}: weights with {weight.scale.size} scales on axis {weight.axis}: expected one a filter"
        )


def _check_join(op: ir.Op, tensors: Mapping[str, ir.Tensor], where: str) -> None:
    used = set()
    for name in (*op.inputs, op.output):
        quantization = _quantization(tensors, name)
        used.add((float(quantization.scale[0]), int(quantization.zero_point[0])))
    if len(used) > 1:
        raise InputError(f"{where}: joins codes of {len(used)} scales: expected one for inputs and output")


def _need(fits: bool, op: ir.Op, shapes: Shapes) -> None:
    if not fits:
        raise InputError(f"{op.kind} {op.output!r}: does not fit inputs of shapes {', '.join(map(str, shapes))}")
