"""Small float graphs of every shape that the exporters and the interpreter must handle, random but seeded."""

from __future__ import annotations

import numpy as np

from edgeq.graph.check import output_shape
from edgeq.graph.ir import (
    NONE,
    RELU,
    RELU6,
    Add,
    AveragePool2D,
    Concatenation,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Graph,
    HardSwish,
    Logistic,
    MaxPool2D,
    Mean,
    Mul,
    Op,
    Pad,
    ReduceMax,
    Relu,
    Relu6,
    Reshape,
    Slice,
    Softmax,
    Sub,
    Tanh,
    Tensor,
    Transpose,
)

METADATA = {"labels": '["a","b","c"]', "frontend": "{}"}


def chain(seed: int = 0) -> Graph:
    """Convolutions, average pool, tanh, flatten, dense layers, softmax: the shape of the DCASE networks."""
    net = Builder((1, 8, 10, 1), seed)
    x = net.conv(net.input, 4, (3, 3), padding=(1, 1, 1, 1))
    x = net.average_pool(x, (2, 2))
    x = net.conv(x, 8, (3, 3), padding=(1, 1, 1, 1), activation=NONE)
    x = net.tanh(x)
    x = net.average_pool(x, (2, 5))
    x = net.dense(net.flatten(x), 6)
    x = net.dense(x, 3, activation=NONE)
    return net.graph("chain", net.softmax(x))


def residual(seed: int = 0) -> Graph:
    """Two additions, the second with a fused ReLU, and a ReLU of its own."""
    net = Builder((1, 6, 7, 3), seed)
    x = net.conv(net.input, 4, (3, 3), padding=(1, 1, 1, 1))
    y = net.conv(x, 4, (3, 3), padding=(1, 1, 1, 1), activation=NONE)
    x = net.add(x, y)
    y = net.conv(net.relu(x), 4, (1, 1), activation=NONE)
    x = net.add(y, x, activation=RELU)
    x = net.dense(net.mean(x, (1, 2)), 5, activation=NONE)
    return net.graph("residual", net.softmax(x))


def mean_max(seed: int = 0) -> Graph:
    """Mean over mels, then mean plus maximum over time: the head of the small family."""
    net = Builder((1, 8, 6, 4), seed)
    x = net.conv(net.input, 8, (3, 3), padding=(1, 1, 1, 1))
    x = net.max_pool(x, (2, 2))
    x = net.conv(x, 8, (3, 3), padding=(1, 1, 1, 1))
    x = net.mean(x, (1,))
    x = net.add(net.mean(x, (1,)), net.reduce_max(x, (1,)))
    x = net.dense(x, 4, activation=NONE)
    return net.graph("mean_max", net.softmax(x))


def strided(seed: int = 0) -> Graph:
    """Stride 2 with padding that TensorFlow Lite's SAME cannot say, and an explicit PAD."""
    net = Builder((1, 8, 10, 2), seed)
    x = net.conv(net.input, 4, (3, 3), stride=(2, 2), padding=(1, 1, 1, 1))
    x = net.pad(x, (1, 0, 0, 2))
    x = net.conv(x, 4, (3, 2), stride=(2, 1), activation=NONE)
    x = net.conv(x, 6, (2, 2), stride=(2, 2), padding=(0, 1, 0, 1))
    x = net.dense(net.flatten(x), 3, activation=NONE)
    return net.graph("strided", net.softmax(x))


def logistic(seed: int = 0) -> Graph:
    """Many labels a clip: a logistic head."""
    net = Builder((1, 6, 6, 1), seed)
    x = net.conv(net.input, 4, (5, 3), padding=(2, 2, 1, 1))
    x = net.dense(net.reduce_max(x, (1, 2)), 4, activation=NONE)
    return net.graph("logistic", net.logistic(x))


def quaternion(seed: int = 0) -> Graph:
    """Two convolutions with Hamilton-structured weights and batch norm's gain kept apart, of both signs."""
    net = Builder((1, 8, 6, 4), seed)
    x = net.conv(net.input, 8, (3, 3), padding=(1, 1, 1, 1), weight=net.hamilton(8, 4, (3, 3)), gain=net.gain(8))
    x = net.average_pool(x, (2, 2))
    x = net.conv(x, 12, (3, 3), padding=(1, 1, 1, 1), weight=net.hamilton(12, 8, (3, 3)), gain=net.gain(12))
    x = net.dense(net.mean(x, (1, 2)), 4, activation=NONE)
    return net.graph("quaternion", net.softmax(x))


def inverted_residual(seed: int = 0) -> Graph:
    """Depthwise convolutions between 1 x 1 ones as in MobileNetV2, with ReLU6: fused, behind a sum, and alone."""
    net = Builder((1, 8, 9, 2), seed)
    stem = net.conv(net.input, 4, (3, 3), stride=(2, 2), padding=(1, 1, 1, 1), activation=RELU6)
    x = net.conv(stem, 8, (1, 1), activation=RELU6)
    x = net.depthwise(x, (3, 3), padding=(1, 1, 1, 1), activation=RELU6)
    x = net.conv(x, 4, (1, 1), activation=NONE)
    x = net.add(x, net.relu6(stem), activation=RELU6)
    x = net.depthwise(x, (3, 3), stride=(2, 2), padding=(1, 1, 1, 1), multiplier=2, activation=RELU6, gain=net.gain(8))
    x = net.depthwise(net.conv(x, 6, (1, 1), activation=NONE), (1, 2), padding=(0, 0, 0, 1))
    x = net.dense(net.mean(x, (1, 2)), 4, activation=NONE)
    return net.graph("inverted_residual", net.softmax(x))


def streams(seed: int = 0) -> Graph:
    """Channels taken apart, sums and differences of streams, a product of two, and all joined again."""
    net = Builder((1, 8, 6, 4), seed)
    r, i, j, k = (net.slice(net.input, n, 1) for n in range(4))
    sums = [net.add(r, i), net.sub(r, i), net.sub(j, k, activation=RELU), net.add(j, k)]
    sums = [net.conv(x, 3, (3, 3), padding=(1, 1, 1, 1), activation=NONE) for x in sums]
    sums[1] = net.sub(sums[1], sums[2])
    x = net.concatenation([*sums, net.mul(sums[0], sums[3], activation=RELU)])
    x = net.concatenation([net.max_pool(x, (2, 2)), net.slice(net.average_pool(x, (2, 2)), 4, 5)])
    x = net.mean(net.conv(x, 6, (3, 3), activation=NONE), (1,))
    x = net.concatenation([net.mean(x, (1,)), net.reduce_max(x, (1,))])
    x = net.dense(x, 4, activation=NONE)
    return net.graph("streams", net.softmax(x))


def mel_affine(seed: int = 0) -> Graph:
    """Each mel band scaled and shifted by constants, as PANNs' batch norm over bands; then a constant a channel."""
    net = Builder((1, 8, 10, 2), seed)
    x = net.mul(net.input, net.rng.uniform(0.5, 2, (1, 8, 1, 1)))
    x = net.add(x, net.rng.standard_normal((1, 8, 1, 1)))
    x = net.conv(x, 6, (3, 3), padding=(1, 1, 1, 1))
    x = net.sub(x, net.rng.uniform(0, 2, (1, 1, 1, 6)), activation=RELU)
    x = net.dense(net.mean(x, (1, 2)), 4, activation=NONE)
    return net.graph("mel_affine", net.logistic(x))


BUILDERS = {
    make.__name__: make
    for make in (
        chain, residual, mean_max, strided, logistic, quaternion, inverted_residual, streams, mel_affine,
    )
}  # fmt: skip


def inputs(graph: Graph, count: int, seed: int = 1) -> np.ndarray:
    """Standard normal inputs (count, ...) of a graph's shape."""
    shape = (count, *graph.tensors[graph.input].shape[1:])
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def hamilton_block(components: np.ndarray) -> np.ndarray:
    """Real OHWI kernel of quaternion weights (4, out/4, in/4, kh, kw), component-major rows and columns."""
    r, i, j, k = components
    rows = [np.concatenate(row, axis=1) for row in ([r, -i, -j, -k], [i, r, -k, j], [j, k, r, -i], [k, -j, i, r])]
    return np.concatenate(rows, axis=0).transpose(0, 2, 3, 1).copy()


class Builder:
    """Collects tensors and operators under canonical names (conv_1, conv_1.weight, ...)."""

    def __init__(self, shape: tuple[int, ...], seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.tensors = {"input": Tensor("input", shape)}
        self.ops: list[Op] = []
        self.counts: dict[str, int] = {}
        self.input = "input"

    def conv(
        self,
        x: str,
        channels: int,
        kernel: tuple[int, int],
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int, int, int] = (0, 0, 0, 0),
        activation: str = RELU,
        weight: np.ndarray | None = None,
        bias: np.ndarray | None = None,
        gain: np.ndarray | None = None,
        dilation: tuple[int, int] = (1, 1),
    ) -> str:
        depth = self.tensors[x].shape[3]
        name = self._name("conv")
        fan_in = kernel[0] * kernel[1] * depth
        weight = self._normal((channels, *kernel, depth), fan_in**-0.5) if weight is None else weight
        bias = self._normal((channels,), 0.2) if bias is None else bias
        self.tensors[f"{name}.weight"] = Tensor(f"{name}.weight", weight.shape, data=weight, gain=gain)
        self.tensors[f"{name}.bias"] = Tensor(f"{name}.bias", bias.shape, data=bias)
        op = Conv2D((x, f"{name}.weight", f"{name}.bias"), name, stride, padding, activation, dilation)
        return self._emit(op)

    def depthwise(
        self,
        x: str,
        kernel: tuple[int, int],
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int, int, int] = (0, 0, 0, 0),
        multiplier: int = 1,
        activation: str = RELU,
        gain: np.ndarray | None = None,
        dilation: tuple[int, int] = (1, 1),
    ) -> str:
        name = self._name("depthwise")
        channels = self.tensors[x].shape[3] * multiplier
        weight = self._normal((channels, *kernel, 1), (kernel[0] * kernel[1]) ** -0.5)
        self.tensors[f"{name}.weight"] = Tensor(f"{name}.weight", weight.shape, data=weight, gain=gain)
        self.tensors[f"{name}.bias"] = Tensor(f"{name}.bias", (channels,), data=self._normal((channels,), 0.2))
        op = DepthwiseConv2D((x, f"{name}.weight", f"{name}.bias"), name, stride, padding, activation, dilation)
        return self._emit(op)

    def dense(
        self,
        x: str,
        units: int,
        activation: str = RELU,
        weight: np.ndarray | None = None,
        bias: np.ndarray | None = None,
    ) -> str:
        depth = self.tensors[x].shape[-1]
        name = self._name("dense")
        weight = self._normal((units, depth), depth**-0.5) if weight is None else weight
        bias = self._normal((units,), 0.2) if bias is None else bias
        self.tensors[f"{name}.weight"] = Tensor(f"{name}.weight", weight.shape, data=weight)
        self.tensors[f"{name}.bias"] = Tensor(f"{name}.bias", bias.shape, data=bias)
        return self._emit(FullyConnected((x, f"{name}.weight", f"{name}.bias"), name, activation))

    def average_pool(
        self,
        x: str,
        window: tuple[int, int],
        stride: tuple[int, int] | None = None,
        padding: tuple[int, int, int, int] = (0, 0, 0, 0),
        activation: str = NONE,
    ) -> str:
        return self._emit(AveragePool2D((x,), self._name("pool"), window, stride or window, padding, activation))

    def max_pool(
        self,
        x: str,
        window: tuple[int, int],
        stride: tuple[int, int] | None = None,
        padding: tuple[int, int, int, int] = (0, 0, 0, 0),
        activation: str = NONE,
    ) -> str:
        return self._emit(MaxPool2D((x,), self._name("pool"), window, stride or window, padding, activation))

    def mean(self, x: str, axes: tuple[int, ...], keep_dims: bool = False) -> str:
        return self._emit(Mean((x,), self._name("mean"), axes, keep_dims))

    def reduce_max(self, x: str, axes: tuple[int, ...], keep_dims: bool = False) -> str:
        return self._emit(ReduceMax((x,), self._name("max"), axes, keep_dims))

    def add(self, x: str, y: str | np.ndarray, activation: str = NONE) -> str:
        return self._binary(Add, "add", x, y, activation)

    def sub(self, x: str | np.ndarray, y: str | np.ndarray, activation: str = NONE) -> str:
        return self._binary(Sub, "sub", x, y, activation)

    def mul(self, x: str, y: str | np.ndarray, activation: str = NONE) -> str:
        return self._binary(Mul, "mul", x, y, activation)

    def concatenation(self, inputs: list[str], axis: int = -1) -> str:
        return self._emit(Concatenation(tuple(inputs), self._name("concat"), axis))

    def slice(self, x: str, begin: int, size: int, axis: int = -1, step: int = 1) -> str:
        return self._emit(Slice((x,), self._name("slice"), begin, size, axis, step))

    def pad(self, x: str, padding: tuple[int, int, int, int], channels: tuple[int, int] = (0, 0)) -> str:
        return self._emit(Pad((x,), self._name("pad"), padding, channels))

    def transpose(self, x: str, permutation: tuple[int, ...]) -> str:
        return self._emit(Transpose((x,), self._name("transpose"), permutation))

    def flatten(self, x: str) -> str:
        shape = self.tensors[x].shape
        return self._emit(Reshape((x,), self._name("reshape")), (shape[0], int(np.prod(shape[1:]))))

    def relu(self, x: str) -> str:
        return self._emit(Relu((x,), self._name("relu")))

    def relu6(self, x: str) -> str:
        return self._emit(Relu6((x,), self._name("relu6")))

    def hard_swish(self, x: str) -> str:
        return self._emit(HardSwish((x,), self._name("hard_swish")))

    def tanh(self, x: str) -> str:
        return self._emit(Tanh((x,), self._name("tanh")))

    def softmax(self, x: str) -> str:
        return self._emit(Softmax((x,), "softmax"))

    def logistic(self, x: str) -> str:
        return self._emit(Logistic((x,), "logistic"))

    def hamilton(self, out_channels: int, in_channels: int, kernel: tuple[int, int]) -> np.ndarray:
        fan_in = kernel[0] * kernel[1] * in_channels
        return hamilton_block(self._normal((4, out_channels // 4, in_channels // 4, *kernel), fan_in**-0.5))

    def gain(self, channels: int) -> np.ndarray:
        return (self.rng.uniform(0.5, 2.0, channels) * self.rng.choice([-1.0, 1.0], channels)).astype(np.float32)

    def graph(self, name: str, output: str) -> Graph:
        return Graph(name, self.tensors, tuple(self.ops), self.input, output, METADATA)

    def _binary(
        self, kind: type[Add | Sub | Mul], stem: str, x: str | np.ndarray, y: str | np.ndarray, activation: str
    ) -> str:
        name = self._name(stem)
        inputs = [self._constant(name, one) if isinstance(one, np.ndarray) else one for one in (x, y)]
        return self._emit(kind((inputs[0], inputs[1]), name, activation))

    def _constant(self, name: str, data: np.ndarray) -> str:
        name = f"{name}.constant"
        self.tensors[name] = Tensor(name, data.shape, data=data.astype(np.float32))
        return name

    def _name(self, stem: str) -> str:
        self.counts[stem] = self.counts.get(stem, 0) + 1
        return f"{stem}_{self.counts[stem]}"

    def _emit(self, op: Op, shape: tuple[int, ...] | None = None) -> str:
        shape = shape or output_shape(op, [self.tensors[name].shape for name in op.inputs])
        self.tensors[op.output] = Tensor(op.output, shape)
        self.ops.append(op)
        return op.output

    def _normal(self, shape: tuple[int, ...], deviation: float) -> np.ndarray:
        return (self.rng.standard_normal(shape) * deviation).astype(np.float32)
