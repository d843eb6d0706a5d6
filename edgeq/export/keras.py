"""The second way to a .tflite file: rebuild the Graph in Keras and let TensorFlow's own converter write it.

Needs the extra `tensorflow`; it is there to cross-check edgeq's writer and is imported only when asked for.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from edgeq.errors import InputError
from edgeq.graph import ir
from edgeq.graph.check import check_own
from edgeq.graph.reference import constant


def to_keras(graph: ir.Graph) -> Any:
    """The float graph as a Keras model of batch 1, NHWC, with batch norm folded as in the graph.

    Raises InputError where TensorFlow is absent, the graph is quantized or holds what only .tflite files by others do,
    or a depthwise convolution strides further over rows than over columns, which TensorFlow doesn't have.
    """
    if graph.quantized:
        raise InputError(f"{graph.name}: quantized: expected a float graph, which TensorFlow quantizes its own way")
    check_own(graph, "a Keras model")
    keras = _tensorflow().keras
    source = keras.Input(graph.tensors[graph.input].shape[1:], batch_size=1, name="input")
    values = {graph.input: source}
    for op in graph.ops:
        inputs = [values[name] if name in values else constant(graph.tensors[name]) for name in op.inputs]
        values[op.output] = _apply(keras, graph, op, inputs)
    model = keras.Model(source, values[graph.output], name="edgeq")
    for op in graph.ops:
        if isinstance(op, (ir.Conv2D, ir.DepthwiseConv2D, ir.FullyConnected)):
            weight, bias = (constant(graph.tensors[name]) for name in op.inputs[1:])
            weight = weight.transpose((1, 2, 3, 0) if weight.ndim == 4 else (1, 0))
            if isinstance(op, ir.DepthwiseConv2D):
                channels = graph.tensors[op.inputs[0]].shape[3]
                weight = weight.reshape(*weight.shape[:2], channels, -1)
            model.get_layer(_layer_name(op)).set_weights([weight, bias])
    return model


def convert_with_tensorflow(graph: ir.Graph, calibration_inputs: np.ndarray, int8: bool = True) -> bytes:
    """A .tflite file by TensorFlow's TFLiteConverter: full INT8 with int8 in and out, or float.

    calibration_inputs: (N, ...) NHWC float32, over which the converter observes activation ranges; not used for float.
    Raises InputError where TensorFlow is absent, the graph is quantized, or there is nothing to calibrate with.
    """
    if int8 and not len(calibration_inputs):
        raise InputError(f"{graph.name}: nothing to calibrate with: expected at least one input")
    model = to_keras(graph)
    tensorflow = _tensorflow()
    converter = tensorflow.lite.TFLiteConverter.from_keras_model(model)
    if int8:
        converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: _samples(calibration_inputs)
        converter.target_spec.supported_ops = [tensorflow.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tensorflow.int8
    with contextlib.redirect_stdout(sys.stderr):  # where progress goes; Keras prints it
        return bytes(converter.convert())


def _samples(inputs: np.ndarray) -> Iterator[list[np.ndarray]]:
    return ([one[None].astype(np.float32)] for one in inputs)


def _tensorflow() -> Any:
    try:
        import tensorflow
    except ImportError:
        raise InputError("TensorFlow is not installed: expected the extra, pip install 'edgeq[tensorflow]'") from None
    return tensorflow


def _apply(keras: Any, graph: ir.Graph, op: ir.Op, inputs: list[Any]) -> Any:
    layers, name = keras.layers, _layer_name(op)
    match op:
        case ir.Conv2D():
            x = inputs[0]
            if any(op.padding):
                x = layers.ZeroPadding2D((op.padding[:2], op.padding[2:]), name=f"{name}_padded")(x)
            channels, *kernel, _ = graph.tensors[op.inputs[1]].shape
            return layers.Conv2D(channels, kernel, op.stride, activation=_activation(op), name=name)(x)
        case ir.DepthwiseConv2D():
            return _apply_depthwise(layers, graph, op, inputs[0])
        case ir.FullyConnected():
            return layers.Dense(graph.tensors[op.output].shape[1], _activation(op), name=name)(inputs[0])
        case ir.AveragePool2D():
            return layers.AveragePooling2D(op.window, op.stride, name=name)(inputs[0])
        case ir.MaxPool2D():
            return layers.MaxPooling2D(op.window, op.stride, name=name)(inputs[0])
        case ir.Mean():
            return keras.ops.mean(inputs[0], axis=op.axes)
        case ir.ReduceMax():
            return keras.ops.max(inputs[0], axis=op.axes)
        case ir.Add() | ir.Sub() | ir.Mul():
            compute = {"ADD": keras.ops.add, "SUB": keras.ops.subtract, "MUL": keras.ops.multiply}[op.kind]
            result = compute(*inputs)
            return result if op.activation == ir.NONE else layers.Activation(op.activation)(result)
        case ir.Concatenation():
            return layers.Concatenate(name=name)(inputs)
        case ir.Slice():
            return inputs[0][..., op.begin : op.begin + op.size]
        case ir.Reshape():
            return layers.Reshape(graph.tensors[op.output].shape[1:], name=name)(inputs[0])
        case ir.Pad():
            return layers.ZeroPadding2D((op.padding[:2], op.padding[2:]), name=name)(inputs[0])
    function = {"RELU": "relu", "RELU6": "relu6", "TANH": "tanh", "LOGISTIC": "sigmoid", "SOFTMAX": "softmax"}[op.kind]
    return layers.Activation(function, name=name)(inputs[0])


def _apply_depthwise(layers: Any, graph: ir.Graph, op: ir.DepthwiseConv2D, x: Any) -> Any:
    if op.stride[0] != op.stride[1]:
        raise InputError(f"{graph.name}: {op.output}: depthwise stride {op.stride}: TensorFlow has only equal ones")
    name = _layer_name(op)
    if any(op.padding):
        x = layers.ZeroPadding2D((op.padding[:2], op.padding[2:]), name=f"{name}_padded")(x)
    filters, *kernel, _ = graph.tensors[op.inputs[1]].shape
    multiplier = filters // graph.tensors[op.inputs[0]].shape[3]
    return layers.DepthwiseConv2D(
        kernel, op.stride, depth_multiplier=multiplier, activation=_activation(op), name=name
    )(x)


def _activation(op: ir.Conv2D | ir.DepthwiseConv2D | ir.FullyConnected) -> str | None:
    return None if op.activation == ir.NONE else op.activation


def _layer_name(op: ir.Op) -> str:
    # Keras builds TensorFlow scopes from names, which take fewer characters than the graph's.
    return "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in f"{op.kind}_{op.output}")
