"""What the writer and the reader of .tflite files agree on (tensorflow/lite/schema/schema.fbs, version 3)."""

from __future__ import annotations

from collections.abc import Sequence

from ai_edge_litert import schema_py_generated as schema

from edgeq.graph import ir

FILE_IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
METADATA_NAME = "edgeq"
SIGNATURE_KEY = "serving_default"
SIGNATURE_INPUT, SIGNATURE_OUTPUT = "input", "output"

# What LiteRT, tflite-runtime 2.14 and TensorFlow Lite Micro ask of an operator's version: 1 for float; for int8 the
# first version that takes it (tensorflow/lite/tools/versioning/op_version.cc).
FLOAT_VERSION = 1
INT8_VERSIONS = {
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "FULLY_CONNECTED": 4,
    "AVERAGE_POOL_2D": 2,
    "MAX_POOL_2D": 2,
    "MEAN": 2,
    "REDUCE_MAX": 2,
    "ADD": 2,
    "SUB": 2,
    "MUL": 2,
    "CONCATENATION": 2,
    "SLICE": 2,
    "RELU": 2,
    "RELU6": 2,
    "TANH": 2,
    "LOGISTIC": 2,
    "SOFTMAX": 2,
    "RESHAPE": 1,
    "PAD": 2,
    "HARD_SWISH": 1,
    "TRANSPOSE": 2,
    "QUANTIZE": 2,
    "STRIDED_SLICE": 2,
}

# The newest version whose int8 meaning is the one that the reader knows: those above; of FULLY_CONNECTED 5 keeps the
# axes, 6 has no bias, 12 has a scale an output; 3 of MUL scales up; 4 of TRANSPOSE and STRIDED_SLICE is of five axes.
READ_VERSIONS = {
    **INT8_VERSIONS,
    "FULLY_CONNECTED": 12,
    "MUL": 3,
    "TRANSPOSE": 4,
    "STRIDED_SLICE": 4,
    "SPLIT": 2,
    "SPLIT_V": 2,
    "EXPAND_DIMS": 1,
    "SQUEEZE": 1,
    "DEQUANTIZE": 2,
}

TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "int8": schema.TensorType.INT8,
    "int32": schema.TensorType.INT32,
}
ACTIVATIONS = {
    ir.NONE: schema.ActivationFunctionType.NONE,
    ir.RELU: schema.ActivationFunctionType.RELU,
    ir.RELU6: schema.ActivationFunctionType.RELU6,
    ir.RELU_N1_TO_1: schema.ActivationFunctionType.RELU_N1_TO_1,
}

# The name of each operator's options table; the others have none, or an empty one.
OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "REDUCE_MAX": "ReducerOptions",
    "ADD": "AddOptions",
    "SUB": "SubOptions",
    "MUL": "MulOptions",
    "CONCATENATION": "ConcatenationOptions",
    "SOFTMAX": "SoftmaxOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
}


def same_paddings(shape: tuple[int, ...], window: Sequence[int], stride: tuple[int, int]) -> tuple[int, int, int, int]:
    """Zeros above, below, left and right of an NHWC map under SAME; window: rows and columns that it spans."""
    rows, columns = map(_same_padding, shape[1:3], window, stride)
    return (*rows, *columns)


def name_of(enumeration: type, value: int) -> str:
    """The name of a value in one of the schema's enumerations, or the number itself."""
    return next((name for name, number in vars(enumeration).items() if number == value), str(value))


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after one axis of `size` under SAME: where their number is odd, the one more goes after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2
