"""Write a Graph as a TensorFlow Lite file, float or full INT8, without TensorFlow.

The layout is the table of tensorflow/lite/schema/schema.fbs, packed by the schema classes that LiteRT ships. A Graph
always gives the same bytes: tensors, operator codes and buffers appear in the order in which the operators need them.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeq.errors import InputError
from edgeq.graph import ir, tflite_format
from edgeq.graph.reference import constant

# Kernels read constants in place, so the schema asks for this alignment; its Python classes don't keep it themselves.
_ALIGNMENT = 16


def to_tflite(graph: ir.Graph) -> bytes:
    """The graph as a .tflite file: int8 in and out where the graph is quantized, float32 where it isn't.

    Padding of a convolution becomes SAME or VALID where TensorFlow Lite's rule gives the same rows and columns, else a
    PAD operator before it. `graph.metadata` is stored as JSON in the metadata entry "edgeq"; the signature
    "serving_default" names the input "input" and the output "output". Equal graphs give equal bytes.
    Raises InputError where a pool has other padding than SAME.
    Source: tensorflow/lite/schema/schema.fbs, version 3.
    """
    file = _File(graph)
    file.tensor(graph.tensors[graph.input])
    for op in graph.ops:
        _add_op(file, op)
    return file.pack()


class _Buffer(schema.BufferT):
    """The bytes of a constant, made as they are packed, from an aligned address on; None stands for no data."""

    def __init__(self, content: ir.Tensor | None) -> None:
        super().__init__()
        self.content = content
        self.size = 0 if content is None else math.prod(content.shape) * np.dtype(content.dtype).itemsize

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802 (the name that the schema classes call)
        data = None
        if self.content is not None:
            builder.StartVector(1, self.size, _ALIGNMENT)
            builder.head -= self.size
            room = np.frombuffer(builder.Bytes, np.uint8, self.size, builder.head)
            room[:] = _value(self.content).view(np.uint8)
            data = builder.EndVector()
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


class _File:
    """The tables of one file while they fill."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.indices: dict[str, int] = {}
        self.tensors: list[schema.TensorT] = []
        self.operators: list[schema.OperatorT] = []
        self.codes: dict[tuple[str, int], int] = {}
        self.buffers = [_Buffer(None)]  # number 0, as the schema asks

    def tensor(self, tensor: ir.Tensor) -> int:
        """Index of the tensor, which is added when it is met for the first time."""
        if tensor.name not in self.indices:
            self.indices[tensor.name] = self.append(tensor)
        return self.indices[tensor.name]

    def append(self, tensor: ir.Tensor) -> int:
        table = schema.TensorT()
        table.name = tensor.name
        table.shape = np.array(tensor.shape, np.int32)
        table.hasRank = True
        table.type = tflite_format.TYPES[tensor.dtype]
        if tensor.quantization is not None:
            table.quantization = _quantization(tensor.quantization)
        table.buffer = 0 if tensor.data is None else self._buffer(tensor)
        self.tensors.append(table)
        return len(self.tensors) - 1

    def constant(self, name: str, values: list[int] | list[tuple[int, int]]) -> int:
        data = np.array(values, np.int32)
        return self.append(ir.Tensor(name, data.shape, "int32", data))

    def operator(
        self, kind: str, inputs: list[int], output: int, options: object = None, version: int | None = None
    ) -> None:
        if version is None:
            version = tflite_format.INT8_VERSIONS[kind] if self.graph.quantized else tflite_format.FLOAT_VERSION
        table = schema.OperatorT()
        table.opcodeIndex = self.codes.setdefault((kind, version), len(self.codes))
        table.inputs = np.array(inputs, np.int32)
        table.outputs = np.array([output], np.int32)
        if options is not None:
            table.builtinOptions = options
            table.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.operators.append(table)

    def pack(self) -> bytes:
        model = schema.ModelT()
        model.version = tflite_format.SCHEMA_VERSION
        model.description = f"edgeq {self.graph.name}"
        model.operatorCodes = [_operator_code(*code) for code in self.codes]
        model.subgraphs = [self._subgraph()]
        model.signatureDefs = [self._signature()]
        words = json.dumps(dict(self.graph.metadata), sort_keys=True, ensure_ascii=False)
        text = np.frombuffer(words.encode(), np.int8)
        model.metadata = [_metadata(tflite_format.METADATA_NAME, self._buffer(ir.Tensor("", text.shape, "int8", text)))]
        model.buffers = self.buffers
        builder = flatbuffers.Builder(self._room())
        builder.Finish(model.Pack(builder), file_identifier=tflite_format.FILE_IDENTIFIER)
        return bytes(memoryview(builder.Bytes)[builder.head :])

    def _buffer(self, content: ir.Tensor) -> int:
        self.buffers.append(_Buffer(content))
        return len(self.buffers) - 1

    def _room(self) -> int:
        """About the file's size, rather more than less: where it does not suffice, the builder doubles it in a copy."""
        quantization = [one.quantization for one in self.tensors if one.quantization is not None]
        scales = sum(one.scale.nbytes + one.zeroPoint.nbytes for one in quantization)
        tables = len(self.tensors) + len(self.operators) + len(self.buffers)
        return sum(buffer.size + _ALIGNMENT for buffer in self.buffers) + scales + 512 * tables

    def _subgraph(self) -> schema.SubGraphT:
        subgraph = schema.SubGraphT()
        subgraph.name = self.graph.name
        subgraph.tensors = self.tensors
        subgraph.operators = self.operators
        subgraph.inputs = np.array([self.indices[self.graph.input]], np.int32)
        subgraph.outputs = np.array([self.indices[self.graph.output]], np.int32)
        return subgraph

    def _signature(self) -> schema.SignatureDefT:
        signature = schema.SignatureDefT()
        signature.signatureKey = tflite_format.SIGNATURE_KEY
        signature.inputs = [_tensor_map(tflite_format.SIGNATURE_INPUT, self.indices[self.graph.input])]
        signature.outputs = [_tensor_map(tflite_format.SIGNATURE_OUTPUT, self.indices[self.graph.output])]
        return signature


def _add_op(file: _File, op: ir.Op) -> None:
    graph = file.graph
    source, result = graph.tensors[op.inputs[0]], graph.tensors[op.output]
    match op:
        case ir.Conv2D() | ir.DepthwiseConv2D():
            _add_convolution(file, op)
            return
        case ir.Mean() | ir.ReduceMax():
            inputs = [file.tensor(source), file.constant(f"{op.output}.axes", list(op.axes))]
        case ir.Reshape():
            inputs = [file.tensor(source), file.constant(f"{op.output}.shape", list(result.shape))]
        case ir.Pad():
            paddings = file.constant(f"{op.output}.paddings", _paddings(op.padding, op.channels))
            inputs = [file.tensor(source), paddings]
        case ir.Transpose():
            inputs = [file.tensor(source), file.constant(f"{op.output}.permutation", list(op.permutation))]
        case ir.Slice():
            _add_slice(file, op)
            return
        case _:
            inputs = [file.tensor(graph.tensors[name]) for name in op.inputs]
    file.operator(op.kind, inputs, file.tensor(result), _options(op, source, result), _version(op, graph))


def _add_slice(file: _File, op: ir.Slice) -> None:
    """A SLICE, or where it leaves elements out a STRIDED_SLICE."""
    source, result = (file.graph.tensors[name] for name in (op.inputs[0], op.output))
    axis = len(source.shape) + op.axis
    begin = [op.begin if n == axis else 0 for n in range(len(source.shape))]
    if op.step == 1:
        words = {"begin": begin, "size": list(result.shape)}
        kind, options = op.kind, None
    else:
        end, strides = list(source.shape), [op.step if n == axis else 1 for n in range(len(source.shape))]
        end[axis] = op.begin + (op.size - 1) * op.step + 1
        words = {"begin": begin, "end": end, "strides": strides}
        kind, options = "STRIDED_SLICE", schema.StridedSliceOptionsT()
    constants = [file.constant(f"{op.output}.{word}", values) for word, values in words.items()]
    file.operator(kind, [file.tensor(source), *constants], file.tensor(result), options)


def _add_convolution(file: _File, op: ir.Conv2D | ir.DepthwiseConv2D) -> None:
    graph = file.graph
    source, weight, bias = (graph.tensors[name] for name in op.inputs)
    index = file.tensor(source)
    if isinstance(op, ir.DepthwiseConv2D):
        weight = _filters_last(weight)
        options = schema.DepthwiseConv2DOptionsT()
        options.depthMultiplier = weight.shape[3] // source.shape[3]
    else:
        options = schema.Conv2DOptionsT()
    options.strideH, options.strideW = op.stride
    options.dilationHFactor, options.dilationWFactor = op.dilation
    options.fusedActivationFunction = tflite_format.ACTIVATIONS[op.activation]
    options.padding = schema.Padding.VALID
    if any(op.padding):
        spans = [(weight.shape[axis] - 1) * op.dilation[axis - 1] + 1 for axis in (1, 2)]
        if op.padding == tflite_format.same_paddings(source.shape, spans, op.stride):
            options.padding = schema.Padding.SAME
        else:
            index = _add_pad(file, source, op)
    inputs = [index, file.tensor(weight), file.tensor(bias)]
    file.operator(op.kind, inputs, file.tensor(graph.tensors[op.output]), options, _version(op, graph))


def _filters_last(weight: ir.Tensor) -> ir.Tensor:
    """Depthwise weights as the file has them: (1, height, width, out), one scale an output channel."""
    data = constant(weight).transpose(3, 1, 2, 0)
    quantization = None if weight.quantization is None else replace(weight.quantization, axis=3)
    return ir.Tensor(weight.name, data.shape, weight.dtype, data, quantization)


def _add_pad(file: _File, source: ir.Tensor, op: ir.Conv2D | ir.DepthwiseConv2D) -> int:
    """A PAD before a convolution: zeros, which in int8 are codes of the zero point."""
    above, below, left, right = op.padding
    batch, height, width, channels = source.shape
    name = f"{op.output}.padded"
    shape = (batch, above + height + below, left + width + right, channels)
    inputs = [file.tensor(source), file.constant(f"{name}.paddings", _paddings(op.padding))]
    padded = file.append(ir.Tensor(name, shape, source.dtype, quantization=source.quantization))
    file.operator("PAD", inputs, padded, schema.PadOptionsT())
    return padded


def _options(op: ir.Op, source: ir.Tensor, result: ir.Tensor) -> object:
    """The options table of every operator but convolutions and slices; None where it has none."""
    options: Any = None
    match op:
        case ir.FullyConnected():
            options = schema.FullyConnectedOptionsT()
            options.fusedActivationFunction = tflite_format.ACTIVATIONS[op.activation]
            options.keepNumDims = len(source.shape) > 2
        case ir.Add() | ir.Sub() | ir.Mul():
            options = getattr(schema, f"{tflite_format.OPTIONS[op.kind]}T")()
            options.fusedActivationFunction = tflite_format.ACTIVATIONS[op.activation]
        case ir.Concatenation():
            options = schema.ConcatenationOptionsT()
            options.axis = len(result.shape) + op.axis
        case ir.AveragePool2D() | ir.MaxPool2D():
            options = schema.Pool2DOptionsT()
            options.padding = _pool_padding(op, source)
            options.fusedActivationFunction = tflite_format.ACTIVATIONS[op.activation]
            options.filterHeight, options.filterWidth = op.window
            options.strideH, options.strideW = op.stride
        case ir.Mean() | ir.ReduceMax():
            options = schema.ReducerOptionsT()
            options.keepDims = op.keep_dims
        case ir.Softmax():
            options = schema.SoftmaxOptionsT()
            options.beta = 1.0
        case ir.Reshape():
            options = schema.ReshapeOptionsT()
            options.newShape = np.array(result.shape, np.int32)
        case ir.Pad():
            options = schema.PadOptionsT()
    return options


def _pool_padding(op: ir.AveragePool2D | ir.MaxPool2D, source: ir.Tensor) -> int:
    if not any(op.padding):
        return schema.Padding.VALID
    if op.padding != tflite_format.same_paddings(source.shape, op.window, op.stride):
        raise InputError(f"{op.kind} {op.output!r}: padding {op.padding}: TFLite's pools have SAME and VALID only")
    return schema.Padding.SAME


def _operator_code(kind: str, version: int) -> schema.OperatorCodeT:
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, kind)
    code.deprecatedBuiltinCode = code.builtinCode
    code.version = version
    return code


def _version(op: ir.Op, graph: ir.Graph) -> int | None:
    """The version that says what an operator asks for beyond its kind; None where that is nothing."""
    inputs = [graph.tensors[name] for name in op.inputs]
    match op:
        case ir.FullyConnected():
            quantization = inputs[1].quantization
            if quantization is not None and quantization.scale.size > 1:
                return 12
            return 5 if len(inputs[0].shape) > 2 else None
        case ir.Transpose():
            return 4 if len(op.permutation) > 4 else None
        case ir.Mul() if graph.quantized:
            steps = [
                tensor.quantization.scale[0] for tensor in (*inputs, graph.tensors[op.output]) if tensor.quantization
            ]
            return 3 if steps[0] * steps[1] >= steps[2] else None
        case ir.DepthwiseConv2D() if not graph.quantized:
            return 2 if op.dilation != (1, 1) else None
    return None


def _value(tensor: ir.Tensor) -> np.ndarray:
    """The constant as kernels read it: little-endian, in order."""
    return np.ascontiguousarray(constant(tensor), np.dtype(tensor.dtype).newbyteorder("<")).reshape(-1)


def _quantization(quantization: ir.Quantization) -> schema.QuantizationParametersT:
    table = schema.QuantizationParametersT()
    table.scale = np.asarray(quantization.scale, np.float32)
    table.zeroPoint = np.asarray(quantization.zero_point, np.int64)
    table.quantizedDimension = quantization.axis
    return table


def _paddings(padding: tuple[int, int, int, int], channels: tuple[int, int] = (0, 0)) -> list[tuple[int, int]]:
    return [(0, 0), padding[:2], padding[2:], channels]


def _metadata(name: str, buffer: int) -> schema.MetadataT:
    entry = schema.MetadataT()
    entry.name, entry.buffer = name, buffer
    return entry


def _tensor_map(name: str, index: int) -> schema.TensorMapT:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, index
    return entry
