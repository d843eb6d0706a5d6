"""The graph of real operators that every exporter writes: NHWC, float or quantized, small enough to read.

Operators are named and behave as in TensorFlow Lite (tensorflow/lite/schema/schema.fbs); one frozen dataclass each.
A graph is in execution order, every operator has one output, and constants are tensors that carry data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

NONE, RELU, RELU6, RELU_N1_TO_1 = "none", "relu", "relu6", "relu_n1_to_1"


@dataclass(frozen=True, eq=False)
class Quantization:
    """Affine quantization: real = scale * (code - zero_point).

    scale: float32 (1,) or (channels,). zero_point: int32, the same shape. axis: which axis the channels lie on.
    Source: TensorFlow Lite 8-bit quantization specification.
    """

    scale: np.ndarray
    zero_point: np.ndarray
    axis: int = 0


@dataclass(frozen=True, eq=False)
class Tensor:
    """An edge of the graph.

    shape: batch first, then NHWC; batch is 1. dtype: "float32", "int8" or "int32".
    data: the value where it is a constant. Convolution weights are OHWI, dense weights (out, in).
    gain: float32 (out,), on float weights only: the factor by which batch norm scales each output channel, kept apart
    so that quantization codes come from the weights as trained (the value used is data * gain). See lowering.fold.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    data: np.ndarray | None = None
    quantization: Quantization | None = None
    gain: np.ndarray | None = None


@dataclass(frozen=True)
class Op:
    """One operator: names of its input tensors, and of its output."""

    kind: ClassVar[str]
    inputs: tuple[str, ...]
    output: str


@dataclass(frozen=True)
class Conv2D(Op):
    """inputs: x, weight OHWI, bias (out,). padding: rows above, below, columns left, right.

    dilation: how many rows and columns lie between neighbouring taps, plus one.
    """

    kind: ClassVar[str] = "CONV_2D"
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    activation: str = NONE
    dilation: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class DepthwiseConv2D(Op):
    """A filter a channel. inputs: x, weight (out, height, width, 1), bias (out,); padding and dilation as in Conv2D.

    out is a multiple of the input's channels: filter n reads channel n // (out / channels). Weights lie here as in
    Conv2D, filter first; in a .tflite file they are (1, height, width, out).
    """

    kind: ClassVar[str] = "DEPTHWISE_CONV_2D"
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    activation: str = NONE
    dilation: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class FullyConnected(Op):
    """inputs: x (1, ..., in), weight (out, in), bias (out,). Gives (1, ..., out): each row of x by itself.

    Quantized weights have one scale, or one an output (axis 0).
    """

    kind: ClassVar[str] = "FULLY_CONNECTED"
    activation: str = NONE


@dataclass(frozen=True)
class AveragePool2D(Op):
    """padding: rows above, below, columns left, right; the mean is of those elements that lie inside the map."""

    kind: ClassVar[str] = "AVERAGE_POOL_2D"
    window: tuple[int, int] = (2, 2)
    stride: tuple[int, int] = (2, 2)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    activation: str = NONE


@dataclass(frozen=True)
class MaxPool2D(Op):
    """padding as in AveragePool2D; the maximum is of those elements that lie inside the map."""

    kind: ClassVar[str] = "MAX_POOL_2D"
    window: tuple[int, int] = (2, 2)
    stride: tuple[int, int] = (2, 2)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    activation: str = NONE


@dataclass(frozen=True)
class Mean(Op):
    """Mean over `axes` (NHWC, positive), which are dropped from the shape, or stay with size 1 (keep_dims)."""

    kind: ClassVar[str] = "MEAN"
    axes: tuple[int, ...] = ()
    keep_dims: bool = False


@dataclass(frozen=True)
class ReduceMax(Op):
    """Maximum over `axes` (NHWC, positive), which are dropped from the shape, or stay with size 1 (keep_dims)."""

    kind: ClassVar[str] = "REDUCE_MAX"
    axes: tuple[int, ...] = ()
    keep_dims: bool = False


@dataclass(frozen=True)
class Add(Op):
    """inputs: two tensors of one rank that broadcast, or one and, second, a constant that broadcasts to its shape.

    Axes of size 1 broadcast, as in NumPy; a constant may have fewer axes, its last lie on the other's last.
    """

    kind: ClassVar[str] = "ADD"
    activation: str = NONE


@dataclass(frozen=True)
class Sub(Op):
    """The first less the second; inputs as those of Add, but a constant may also be the first."""

    kind: ClassVar[str] = "SUB"
    activation: str = NONE


@dataclass(frozen=True)
class Mul(Op):
    """Element by element; inputs as those of Add."""

    kind: ClassVar[str] = "MUL"
    activation: str = NONE


@dataclass(frozen=True)
class Concatenation(Op):
    """Any number of inputs, joined along an axis, counted from the last (-1: channels); never the batch."""

    kind: ClassVar[str] = "CONCATENATION"
    axis: int = -1


@dataclass(frozen=True)
class Slice(Op):
    """`size` elements of an axis, every `step`-th from `begin` on: neighbouring channels where nothing else is said.

    axis: counted from the last (-1: channels); never the batch. step: positive.
    """

    kind: ClassVar[str] = "SLICE"
    begin: int = 0
    size: int = 1
    axis: int = -1
    step: int = 1


@dataclass(frozen=True)
class Relu(Op):
    """A ReLU that could not be fused into the operator before it."""

    kind: ClassVar[str] = "RELU"


@dataclass(frozen=True)
class Relu6(Op):
    """min(max(x, 0), 6), where it could not be fused."""

    kind: ClassVar[str] = "RELU6"


@dataclass(frozen=True)
class HardSwish(Op):
    """x * min(max(x + 3, 0), 6) / 6 of each element."""

    kind: ClassVar[str] = "HARD_SWISH"


@dataclass(frozen=True)
class Tanh(Op):
    """Hyperbolic tangent of each element."""

    kind: ClassVar[str] = "TANH"


@dataclass(frozen=True)
class Logistic(Op):
    """1 / (1 + exp(-x)) of each element."""

    kind: ClassVar[str] = "LOGISTIC"


@dataclass(frozen=True)
class Softmax(Op):
    """Over the last axis, beta 1."""

    kind: ClassVar[str] = "SOFTMAX"


@dataclass(frozen=True)
class Reshape(Op):
    """To the output's shape, in NHWC order."""

    kind: ClassVar[str] = "RESHAPE"


@dataclass(frozen=True)
class Pad(Op):
    """Zero padding of an NHWC map: rows above, below, columns left, right; and channels before, after."""

    kind: ClassVar[str] = "PAD"
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    channels: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Transpose(Op):
    """Axis n of the output is axis permutation[n] of the input; the batch stays first."""

    kind: ClassVar[str] = "TRANSPOSE"
    permutation: tuple[int, ...] = ()


@dataclass(frozen=True)
class Quantize(Op):
    """The same values in steps of the output's scale: int8 codes to int8 codes, in quantized graphs only."""

    kind: ClassVar[str] = "QUANTIZE"


OPS: dict[str, type[Op]] = {
    op.kind: op
    for op in (
        Conv2D, DepthwiseConv2D, FullyConnected, AveragePool2D, MaxPool2D, Mean, ReduceMax, Add, Sub, Mul,
        Concatenation, Slice, Relu, Relu6, HardSwish, Tanh, Logistic, Softmax, Reshape, Pad, Transpose, Quantize,
    )
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Graph:
    """Operators in execution order over named tensors; one input and one output."""

    name: str
    tensors: Mapping[str, Tensor]
    ops: tuple[Op, ...]
    input: str
    output: str
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def quantized(self) -> bool:
        """Whether it takes int8 codes; then every activation is int8."""
        return self.tensors[self.input].dtype == "int8"

    def consumers(self, tensor: str) -> list[Op]:
        """The operators that read a tensor."""
        return [op for op in self.ops if tensor in op.inputs]

    def producer(self, tensor: str) -> Op | None:
        """The operator that writes a tensor; None for the graph's input and constants."""
        return next((op for op in self.ops if op.output == tensor), None)
