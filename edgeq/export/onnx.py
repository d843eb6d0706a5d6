"""Write a Graph as an ONNX model: float, or INT8 as float operators between QuantizeLinear and DequantizeLinear (QDQ).

The Graph has channels last, ONNX has them second. Convolutions and pools are written as ONNX wants them, axes are
renumbered, and where a map is flattened for a dense layer that layer's columns are put into ONNX's order: so there is
no Transpose. One is written only around a RESHAPE that no order of columns can express.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeq.errors import InputError
from edgeq.export.compact import CompactKernels
from edgeq.graph import ir
from edgeq.graph.check import check_own
from edgeq.graph.reference import constant

OPSET = 17
IR_VERSION = 8  # what belongs to opset 17; every onnxruntime that this project supports reads it
INPUT, OUTPUT, BATCH = "input", "output", "N"

_SMALL = 1 << 16  # bytes: shapes, axes and the like are, which the checker has to know

_ELEMENTWISE = {"RELU": "Relu", "RELU6": "Clip", "TANH": "Tanh", "LOGISTIC": "Sigmoid"}
_ACTIVATIONS = {ir.RELU: "Relu", ir.RELU6: "Clip"}
_BINARY = {"ADD": "Add", "SUB": "Sub", "MUL": "Mul"}


def to_onnx(graph: ir.Graph, compact: bool = False) -> bytes:
    """The graph as an ONNX model: "input" (N, channels, height, width) float32 to "output" (N, classes) float32.

    The batch size N is free. A quantized graph keeps its codes, scales and zero points: weights int8 with a scale a
    filter, biases int32, every activation rounded to its codes. `graph.metadata` becomes the model's metadata_props.
    compact: quaternion weights of a float graph are stored once, see export.compact. Equal graphs give equal bytes.
    Raises InputError where an operator mixes channels in a way that has no NCHW form or is one that only .tflite files
    by others hold, or a compact graph is quantized.
    Source: ONNX operators, opset 17.
    """
    if compact and graph.quantized:
        raise InputError(f"{graph.name}: quantized: expected a float graph; INT8 weights have no compact form")
    check_own(graph, "ONNX")
    file = _File(graph, compact)
    for op in graph.ops:
        _add_op(file, op)
    onnx.checker.check_model(file.pack(weights=False), full_check=True)
    return file.pack().SerializeToString(deterministic=True)


class _File:
    """The nodes and initializers of one model while they fill."""

    def __init__(self, graph: ir.Graph, compact: bool) -> None:
        self.graph = graph
        self.compact = CompactKernels(self, graph) if compact else None
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        # Which ONNX value holds a tensor of the graph; and, where a map was flattened, which of the graph's columns
        # stands at each of ONNX's.
        self.values: dict[str, str] = {}
        self.columns: dict[str, np.ndarray] = {}
        self.values[graph.input] = self.quantized(INPUT, graph.tensors[graph.input], f"{INPUT}.rounded")

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        if kind == "Clip":  # The only one in the graph is ReLU6.
            inputs = [*inputs, self.constant("relu6.low", np.float32(0)), self.constant("relu6.high", np.float32(6))]
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, data: np.ndarray | np.generic) -> str:
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(np.asarray(data, order="C"), name)
        return name

    def kernel(self, name: str, arrange: Callable[[np.ndarray], np.ndarray]) -> str:
        """The kernel of a layer; arrange puts its axes and columns into ONNX's order."""
        tensor = self.graph.tensors[name]
        if self.compact and tensor.data is not None:
            value = self.compact.add(name, arrange(tensor.data), tensor.gain)
            if value is not None:
                return value
        return self.weight(name, arrange(constant(tensor)))

    def weight(self, name: str, data: np.ndarray) -> str:
        """A constant tensor of the graph in ONNX's order of axes: codes become real numbers in the model."""
        tensor = self.graph.tensors[name]
        # One that several operators read is written once for each number of axes that they give it.
        name = name if data.ndim == len(tensor.shape) else f"{name}.{data.ndim}d"
        if tensor.quantization is None:
            return self.constant(name, data)
        if f"{name}.codes" in self.initializers:
            return name
        codes, scale = self.constant(f"{name}.codes", data), tensor.quantization.scale
        inputs = [codes, self.constant(f"{name}.scale", scale if scale.size > 1 else scale[0])]
        if data.dtype == np.int8:
            zero_point = tensor.quantization.zero_point.astype(np.int8)
            inputs.append(self.constant(f"{name}.zero_point", zero_point if scale.size > 1 else zero_point[0]))
        return self.node("DequantizeLinear", inputs, name, axis=0)

    def result(self, op: ir.Op, kind: str, inputs: list[str], **attributes: Any) -> None:
        """Add the node that computes an operator, its activation, and the rounding to codes behind them."""
        activation = _ACTIVATIONS.get(getattr(op, "activation", ir.NONE))
        tensor = self.graph.tensors[op.output]
        name = OUTPUT if op.output == self.graph.output else _free(op.output)
        real = name if tensor.quantization is None else f"{name}.real"
        value = self.node(kind, inputs, f"{name}.linear" if activation else real, **attributes)
        if activation:
            value = self.node(activation, [value], real)
        self.values[op.output] = self.quantized(value, tensor, name)

    def quantized(self, value: str, tensor: ir.Tensor, output: str) -> str:
        """The value rounded to its codes and back; the value itself in a float graph."""
        if tensor.quantization is None:
            return value
        scale = self.constant(f"{output}.scale", tensor.quantization.scale[0])
        zero_point = self.constant(f"{output}.zero_point", tensor.quantization.zero_point[0].astype(np.int8))
        codes = self.node("QuantizeLinear", [value, scale, zero_point], f"{output}.codes")
        return self.node("DequantizeLinear", [codes, scale, zero_point], output)

    def pack(self, weights: bool = True) -> onnx.ModelProto:
        """The model; without weights its large constants are inputs, so that a check needs no copies of them."""
        source, result = (self.graph.tensors[name] for name in (self.graph.input, self.graph.output))
        constants = self.initializers.values()
        kept = [one for one in constants if weights or one.ByteSize() <= _SMALL]
        stated = [one for one in constants if not weights and one.ByteSize() > _SMALL]
        graph = helper.make_graph(
            self.nodes,
            self.graph.name,
            [
                helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [BATCH, *_nchw(source.shape)[1:]]),
                *(helper.make_tensor_value_info(one.name, one.data_type, one.dims) for one in stated),
            ],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [BATCH, *_nchw(result.shape)[1:]])],
            kept,
        )
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="edgeq")
        helper.set_model_props(model, dict(sorted(self.graph.metadata.items())))
        return model


def _add_op(file: _File, op: ir.Op) -> None:
    source = file.graph.tensors[op.inputs[0]]
    x, rank = file.values[source.name], len(source.shape)
    match op:
        case ir.Conv2D() | ir.DepthwiseConv2D():
            _add_convolution(file, op)
        case ir.FullyConnected():
            _add_dense(file, op)
        case ir.AveragePool2D() | ir.MaxPool2D():
            kind = "AveragePool" if isinstance(op, ir.AveragePool2D) else "MaxPool"
            file.result(op, kind, [x], kernel_shape=op.window, strides=op.stride)
        case ir.Mean() | ir.ReduceMax():
            if rank - 1 in op.axes:
                raise InputError(
                    f"{file.graph.name}: {op.kind} {op.output!r} over channels: expected over mels or frames"
                )
            kind = "ReduceMean" if isinstance(op, ir.Mean) else "ReduceMax"
            axes = sorted(_nchw(range(rank)).index(axis) for axis in op.axes)
            file.result(op, kind, [x], axes=axes, keepdims=0)
        case ir.Add() | ir.Sub() | ir.Mul():
            file.result(op, _BINARY[op.kind], [x, _operand(file, op.inputs[1], rank)])
        case ir.Concatenation():
            file.result(op, "Concat", [file.values[name] for name in op.inputs], axis=1)
        case ir.Slice():
            places = {"starts": op.begin, "ends": op.begin + op.size, "axes": 1}
            constants = [file.constant(f"{op.output}.{name}", np.array([n])) for name, n in places.items()]
            file.result(op, "Slice", [x, *constants])
        case ir.Softmax():
            file.result(op, "Softmax", [x], axis=1)
        case ir.Reshape():
            _add_reshape(file, op)
        case ir.Pad():
            above, below, left, right = op.padding
            pads = np.array([0, 0, above, left, 0, 0, below, right], np.int64)
            file.result(op, "Pad", [x, file.constant(f"{op.output}.pads", pads)])
        case _:
            file.result(op, _ELEMENTWISE[op.kind], [x])
            if source.name in file.columns:
                file.columns[op.output] = file.columns[source.name]


def _add_convolution(file: _File, op: ir.Conv2D | ir.DepthwiseConv2D) -> None:
    x, weight, bias = op.inputs
    kernel = file.kernel(weight, lambda ohwi: ohwi.transpose(0, 3, 1, 2))
    inputs = [file.values[x], kernel, file.weight(bias, constant(file.graph.tensors[bias]))]
    above, below, left, right = op.padding
    groups = {"group": file.graph.tensors[x].shape[3]} if isinstance(op, ir.DepthwiseConv2D) else {}
    window = file.graph.tensors[weight].shape[1:3]
    file.result(op, "Conv", inputs, kernel_shape=window, strides=op.stride, pads=(above, left, below, right), **groups)


def _operand(file: _File, name: str, rank: int) -> str:
    """The second input of a sum or product; a constant gets as many axes as the first input has, channels second.

    Shapes are aligned at their ends, where the graph has its channels but ONNX its columns: so no axis may be left out.
    """
    tensor = file.graph.tensors[name]
    if tensor.data is None:
        return file.values[name]
    data = constant(tensor)
    return file.weight(name, np.moveaxis(data.reshape((1,) * (rank - data.ndim) + data.shape), -1, 1))


def _add_dense(file: _File, op: ir.FullyConnected) -> None:
    x, weight, bias = op.inputs
    matrix = file.kernel(weight, lambda rows: rows[:, file.columns[x]] if x in file.columns else rows)
    inputs = [file.values[x], matrix, file.weight(bias, constant(file.graph.tensors[bias]))]
    file.result(op, "Gemm", inputs, transB=1)


def _add_reshape(file: _File, op: ir.Reshape) -> None:
    source, target = (file.graph.tensors[name].shape for name in (op.inputs[0], op.output))
    value = file.values[op.inputs[0]]
    to_columns = len(target) == 2 and _feeds_dense_layers(file.graph, op.output)
    if len(source) > 2 and not to_columns:
        value = file.node("Transpose", [value], f"{op.output}.nhwc", perm=(0, *range(2, len(source)), 1))
    # In ONNX 0 stands for "as in the input", here the batch.
    shape = file.constant(f"{op.output}.shape", np.array([0, *target[1:]], np.int64))
    if len(target) > 2:
        value = file.node("Reshape", [value, shape], f"{op.output}.nhwc.reshaped")
        file.result(op, "Transpose", [value], perm=(0, len(target) - 1, *range(1, len(target) - 1)))
        return
    file.result(op, "Reshape", [value, shape])
    if len(source) > 2 and to_columns:
        order = np.arange(np.prod(source[1:])).reshape(source[1:])
        file.columns[op.output] = np.moveaxis(order, -1, 0).ravel()


def _feeds_dense_layers(graph: ir.Graph, name: str) -> bool:
    """Whether a flattened map is read by dense layers only, directly or through element-wise operators."""
    return name != graph.output and all(
        isinstance(op, ir.FullyConnected) or (op.kind in _ELEMENTWISE and _feeds_dense_layers(graph, op.output))
        for op in graph.consumers(name)
    )


def _nchw(shape: Any) -> list[int]:
    """Sizes, or numbers, of axes: channels last to channels second."""
    batch, *middle, channels = shape
    return [batch, channels, *middle]


def _free(name: str) -> str:
    """A name that is neither the model's input nor its output."""
    return f"{name}_" if name in (INPUT, OUTPUT) else name
