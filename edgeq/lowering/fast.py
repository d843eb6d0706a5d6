"""Quaternion convolutions with half the multiplications: eight small real convolutions instead of one large.

A Hamilton product takes 8 real multiplications instead of 16 (Howell and Lafon 1975), and so does a convolution of
quaternion maps by quaternion kernels (Cariow and Cariowa 2021). With x the four component maps, w the kernels r, i, j,
k, and H the Hadamard matrix of order 4:

    u = H x                       sums and differences of the maps
    m = (H w / 4) u               four convolutions
    t = H m                       which is the product with every sign positive
    y_r = 2r x_r - t_r            four convolutions more put the signs right
    y_i = t_i - 2k x_j
    y_j = t_j - 2i x_k
    y_k = t_k - 2j x_i

Outputs equal the block form's up to rounding in float32. What H costs grows with the channels, what is saved with
their square: wide layers gain, narrow ones lose.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from edgeq.errors import InputError
from edgeq.graph import ir
from edgeq.graph.check import output_shape
from edgeq.graph.reference import constant
from edgeq.lowering.block import quaternion_components

SUB, DEPTHWISE = "sub", "depthwise"
STYLES = (SUB, DEPTHWISE)
"""How differences and gains are said: as SUB and MUL; or as depthwise convolutions of 1 x 1 whose result is added,
which onnxruntime fuses and computes in its blocked layout, where for SUB it would reorder the maps and back.
"""

COMPONENTS = "rijk"
HADAMARD = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])

CORRECTIONS = ((2, 0, 0), (-2, 3, 2), (-2, 1, 3), (-2, 2, 1))
"""What puts the signs of y_r, y_i, y_j and y_k right: a factor, which kernel, which component map it convolves."""

PRODUCT_NAMES = ("m0", "m1", "m2", "m3")
CORRECTION_NAMES = tuple(f"{factor}{COMPONENTS[kernel]}" for factor, kernel, _ in CORRECTIONS)
"""What a fast layer's eight kernels are called behind its weight's name: conv_3.weight.m0, conv_3.weight.-2k."""

NARROWEST = 16
"""Filters from which on a convolution before fast layers is cut into quarters of so many, rather than its map: what a
register of AVX-512 holds, and onnxruntime's blocked layout needs.
"""

_STREAMWISE = (ir.AveragePool2D, ir.MaxPool2D, ir.Mean, ir.ReduceMax, ir.Pad, ir.Relu, ir.Relu6, ir.Tanh, ir.Logistic)
_BINARY = (ir.Add, ir.Sub, ir.Mul)


def quaternion_layers(graph: ir.Graph) -> tuple[str, ...]:
    """The convolutions whose kernel, as trained, is a block kernel of quaternions: names of their outputs, in order."""
    return tuple(op.output for op in graph.ops if isinstance(op, ir.Conv2D) and _kernels(graph, op) is not None)


def worthwhile(graph: ir.Graph) -> tuple[str, ...]:
    """The quaternion layers to lower where nothing was timed: all but those that take or give 4 channels.

    There, as in a network's first layer, a component map is a single channel: eight convolutions move more memory
    than the one that they replace, and save next to nothing.
    """
    channels = {op.output: [graph.tensors[name].shape[-1] for name in (op.inputs[0], op.output)] for op in graph.ops}
    return tuple(name for name in quaternion_layers(graph) if 4 not in channels[name])


def lower_fast(graph: ir.Graph, layers: Collection[str], style: str = SUB) -> ir.Graph:
    """The float graph with these quaternion layers in the form of eight multiplications.

    layers: of `quaternion_layers`. style: of STYLES. The component maps stay apart, as four tensors, through
    activations, pools, sums and reductions; they are joined, and a whole map is cut, only where a neighbour needs it.
    Kernels are combined in float64 and rounded once. Batch norm's gain is multiplied onto t, and stays the gain of the
    other four kernels: so every gain is right, zero and negative ones too, and a gain of 1 costs nothing. Tensor
    conv_3 becomes conv_3.r, .i, .j and .k, and is conv_3 where it is joined.
    Raises InputError where the graph is quantized, or a layer is no quaternion convolution.
    Source: Howell and Lafon 1975, The complexity of the quaternion product; Cariow and Cariowa 2021, Fast Algorithms
    for Quaternion-Valued Convolutional Neural Networks, IEEE TNNLS 32(1).
    """
    if graph.quantized:
        raise InputError(f"{graph.name}: quantized: expected a float graph; INT8 stays with the block form")
    if style not in STYLES:
        raise InputError(f"style {style!r}: expected {' or '.join(STYLES)}")
    unknown = sorted(set(layers) - set(quaternion_layers(graph)))
    if unknown:
        raise InputError(f"{graph.name}: {', '.join(unknown)}: no quaternion convolution; expected only such layers")
    return _Lowering(graph, frozenset(layers), style).run()


def product_kernels(kernels: np.ndarray) -> np.ndarray:
    """The kernels of the four products m, H w / 4, rounded once. kernels: (4, ...), r, i, j, k; returns the same."""
    return (np.tensordot(HADAMARD, kernels.astype(np.float64), axes=1) / 4).astype(kernels.dtype)


def fast_layers(graph: ir.Graph) -> dict[str, np.ndarray]:
    """The component kernels of the layers that a graph has in fast form, by the name of the layer's weight.

    Each is (4, out/4, in/4, rows, columns), r, i, j, k, as trained: of eight kernels that are, to the last bit, what
    `lower_fast` makes of such components.
    """
    weights = {
        name: np.moveaxis(data, -1, 1)
        for name, tensor in graph.tensors.items()
        if (data := tensor.data) is not None and data.ndim == 4
    }
    layers = {}
    for weight in (name.removesuffix(f".{PRODUCT_NAMES[0]}") for name in weights):
        names = [f"{weight}.{part}" for part in (*PRODUCT_NAMES, *CORRECTION_NAMES)]
        if all(name in weights for name in names):
            products, corrections = np.split(np.stack([weights[name] for name in names]), 2)
            components = np.empty_like(corrections)
            for (factor, kernel, _), correction in zip(CORRECTIONS, corrections, strict=True):
                components[kernel] = correction / factor
            if np.array_equal(product_kernels(components), products):
                layers[weight] = components
    return layers


class _Lowering:
    """Walks the graph once. Each of its tensors is here whole, under its own name, or as four streams, or both."""

    def __init__(self, graph: ir.Graph, layers: frozenset[str], style: str) -> None:
        self.graph, self.layers, self.style = graph, layers, style
        self.tensors = {graph.input: graph.tensors[graph.input]}
        self.ops: list[ir.Op] = []
        self.streams: dict[str, list[str]] = {}
        self.sums: dict[str, list[str]] = {}

    def run(self) -> ir.Graph:
        for op in self.graph.ops:
            if isinstance(op, ir.Conv2D) and op.output in self.layers:
                self.streams[op.output] = self.fast(op)
            elif isinstance(op, ir.Conv2D) and self.gives_streams(op):
                self.streams[op.output] = self.filters_apart(op)
            elif _streamwise(self.graph, op) and any(name not in self.tensors for name in op.inputs):
                inputs = zip(*(self.apart(name) for name in op.inputs), strict=True)
                self.streams[op.output] = [
                    self.emit(replace(op, inputs=parts, output=f"{op.output}.{component}"))
                    for component, parts in zip(COMPONENTS, inputs, strict=True)
                ]
            else:
                self.emit(replace(op, inputs=tuple(self.whole(name) for name in op.inputs)))
        self.whole(self.graph.output)
        return replace(self.graph, tensors=self.tensors, ops=tuple(self.ops))

    def fast(self, op: ir.Conv2D) -> list[str]:
        """The streams that a quaternion layer gives, by its eight convolutions."""
        x, kernels = op.inputs[0], _kernels(self.graph, op)
        assert kernels is not None
        if x not in self.sums:
            self.sums[x] = self.hadamard(self.apart(x), f"{x}.u")
        products = [
            self.convolution(op, name, u, np.moveaxis(kernel, 1, -1))
            for name, u, kernel in zip(PRODUCT_NAMES, self.sums[x], product_kernels(kernels), strict=True)
        ]
        streams = []
        positive = self.hadamard(products, f"{op.output}.t")
        for n, (t, bias, gain) in enumerate(zip(positive, *self.quarters(op), strict=True)):
            factor, kernel, part = CORRECTIONS[n]
            weights = factor * np.moveaxis(kernels[kernel], 1, -1)
            correction = self.convolution(op, CORRECTION_NAMES[n], self.apart(x)[part], weights, bias, gain)
            streams.append(self.corrected(op, n, t, correction, gain))
        return streams

    def corrected(self, op: ir.Conv2D, component: int, t: str, correction: str, gain: np.ndarray | None) -> str:
        """An output stream: t, times its gain, and its correction; of the real component, less t."""
        output, sign = f"{op.output}.{COMPONENTS[component]}", -1 if component == 0 else 1
        if gain is not None and (gain != 1).any():
            t = self.scaled(t, f"{t}.gain", sign * gain, f"{t}.scaled")
        elif sign < 0:
            return self.difference(correction, t, output, op.activation)
        return self.emit(ir.Add((correction, t), output, op.activation))

    def filters_apart(self, op: ir.Conv2D) -> list[str]:
        """The streams of any other convolution, by a quarter of its filters each."""
        x, weights = self.whole(op.inputs[0]), self.graph.tensors[op.inputs[1]].data
        assert weights is not None
        return [
            self.convolution(op, COMPONENTS[n], x, filters, bias, gain, op.activation)
            for n, (filters, bias, gain) in enumerate(zip(np.split(weights, 4), *self.quarters(op), strict=True))
        ]

    def quarters(self, op: ir.Conv2D) -> tuple[list[np.ndarray], list[np.ndarray] | list[None]]:
        """Bias, and gain where there is one, of each output component of a convolution."""
        _, weight, bias = op.inputs
        gain = self.graph.tensors[weight].gain
        return np.split(constant(self.graph.tensors[bias]), 4), [None] * 4 if gain is None else np.split(gain, 4)

    def convolution(
        self,
        layer: ir.Conv2D,
        name: str,
        x: str,
        weights: np.ndarray,
        bias: np.ndarray | None = None,
        gain: np.ndarray | None = None,
        activation: str = ir.NONE,
    ) -> str:
        """One of the convolutions that a layer becomes, by these OHWI weights."""
        weight = self.constant(f"{layer.inputs[1]}.{name}", weights, gain)
        added = self.zeros(len(weights)) if bias is None else self.constant(f"{layer.inputs[2]}.{name}", bias)
        op = replace(layer, inputs=(x, weight, added), output=f"{layer.output}.{name}", activation=activation)
        return self.emit(op)

    def hadamard(self, x: Sequence[str], name: str) -> list[str]:
        """H x, in four sums and four differences."""
        a, b = self.emit(ir.Add((x[0], x[1]), f"{name}_a")), self.difference(x[0], x[1], f"{name}_b")
        c, d = self.emit(ir.Add((x[2], x[3]), f"{name}_c")), self.difference(x[2], x[3], f"{name}_d")
        return [
            self.emit(ir.Add((a, c), f"{name}0")),
            self.emit(ir.Add((b, d), f"{name}1")),
            self.difference(a, c, f"{name}2"),
            self.difference(b, d, f"{name}3"),
        ]

    def difference(self, x: str, y: str, output: str, activation: str = ir.NONE) -> str:
        if self.style == SUB:
            return self.emit(ir.Sub((x, y), output, activation))
        channels = self.tensors[y].shape[-1]
        negated = self.scaled(y, f"minus_ones_{channels}", np.full(channels, -1, np.float32), f"{y}.negated")
        return self.emit(ir.Add((x, negated), output, activation))

    def scaled(self, x: str, name: str, factors: np.ndarray, output: str) -> str:
        """Each channel of x times its factor; name: of the factors."""
        if self.style == SUB:
            return self.emit(ir.Mul((x, self.constant(name, factors)), output))
        weight = self.constant(name, factors.reshape(-1, 1, 1, 1))
        return self.emit(ir.DepthwiseConv2D((x, weight, self.zeros(len(factors))), output))

    def gives_streams(self, op: ir.Conv2D) -> bool:
        """Whether a convolution is wide, and fast layers read its map, at once or as streams, and nothing else does."""
        return self.graph.tensors[op.output].shape[-1] >= 4 * NARROWEST and self.readers(op.output) == {"fast"}

    def readers(self, name: str) -> set[str]:
        """What reads a tensor, "fast" layers and others that need it "whole"; means and maxima mind neither."""
        found = {"whole"} if name == self.graph.output else set()
        for op in self.graph.consumers(name):
            if op.output in self.layers:
                found.add("fast")
            elif not _streamwise(self.graph, op):
                found.add("whole")
            elif not isinstance(op, (ir.Mean, ir.ReduceMax)):
                found |= self.readers(op.output)
        return found

    def apart(self, name: str) -> list[str]:
        """The four streams of a tensor, cut where it is whole."""
        if name not in self.streams:
            size = self.tensors[name].shape[-1] // 4
            self.streams[name] = [
                self.emit(ir.Slice((name,), f"{name}.{component}", n * size, size))
                for n, component in enumerate(COMPONENTS)
            ]
        return self.streams[name]

    def whole(self, name: str) -> str:
        """A tensor under its own name, joined where it is in streams; constants are taken over."""
        if name in self.streams and name not in self.tensors:
            self.emit(ir.Concatenation(tuple(self.streams[name]), name))
        self.tensors.setdefault(name, self.graph.tensors[name])
        return name

    def zeros(self, channels: int) -> str:
        return self.constant(f"zeros_{channels}", np.zeros(channels, np.float32))

    def constant(self, name: str, data: np.ndarray, gain: np.ndarray | None = None) -> str:
        self.tensors[name] = ir.Tensor(name, data.shape, data=np.ascontiguousarray(data), gain=gain)
        return name

    def emit(self, op: ir.Op) -> str:
        # RESHAPE states its own shape.
        known = self.graph.tensors.get(op.output)
        shape = known.shape if known else output_shape(op, [self.tensors[name].shape for name in op.inputs])
        self.tensors[op.output] = ir.Tensor(op.output, shape)
        self.ops.append(op)
        return op.output


def _kernels(graph: ir.Graph, op: ir.Conv2D) -> np.ndarray | None:
    """Component kernels (4, out/4, in/4, rows, columns) of a convolution; None where it is not quaternion."""
    data = graph.tensors[op.inputs[1]].data
    assert data is not None
    return quaternion_components(np.moveaxis(data, -1, 1))


def _streamwise(graph: ir.Graph, op: ir.Op) -> bool:
    """Whether an operator treats every channel alike and apart from the others, so that it can work on streams."""
    shapes = [graph.tensors[name].shape for name in op.inputs]
    if isinstance(op, _BINARY):
        return shapes[0] == shapes[1] and all(graph.tensors[name].data is None for name in op.inputs)
    return isinstance(op, _STREAMWISE) and len(shapes[0]) - 1 not in getattr(op, "axes", ())
