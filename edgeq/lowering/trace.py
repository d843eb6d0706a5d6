"""From a torch network to the float graph that every exporter writes: traced, folded, channels last, real operators.

To lower one more kind of layer, add a method to `_Lowering` and name it in MODULES, FUNCTIONS or METHODS below.
"""

from __future__ import annotations

import inspect
import operator
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional

from edgeq.errors import InputError
from edgeq.graph import ir
from edgeq.graph.check import output_shape
from edgeq.lowering.block import block_kernel
from edgeq.lowering.fold import BatchNorm, fold
from edgeq.nets.quaternion import QuaternionConv2d, QuaternionLinear
from edgeq.nets.spec import ArchitectureSpec


def lower(network: nn.Module, spec: ArchitectureSpec) -> ir.Graph:
    """Lower a network as it runs after training to a float NHWC graph that ends in probabilities.

    network takes (N, components, mels, frames) and gives logits (N, classes); it is not changed. Quaternion kernels
    become real block kernels; batch norm is folded (weights stay as trained, `Tensor.gain` carries the scale); ReLU is
    fused; dropout vanishes; flattening to a dense layer becomes an order of that layer's columns. Tensors are named
    by kind in order: input, conv_1, pool_1, ..., and conv_1.weight, conv_1.bias.
    Raises InputError naming the layer where one has no lowering, where shapes do not fit the spec, or where a weight
    is not finite.
    """
    return _Lowering(trace(network, spec.family), spec).run()


def trace(network: nn.Module, family: str) -> fx.GraphModule:
    """The calls of a network in order, with the layers that have a lowering as they are, unopened.

    Shares its layers with the network, and runs as it does. family: what errors call it.
    Raises InputError where what is called depends on the data.
    """
    try:
        return fx.GraphModule(network, _Tracer().trace(network))
    except (fx.proxy.TraceError, TypeError) as error:
        raise InputError(f"{family}: cannot be traced: {str(error).splitlines()[0]}") from error


class _Tracer(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return type(module) in MODULES or super().is_leaf_module(module, qualified_name)


@dataclass(frozen=True, eq=False)
class _Value:
    """What a node of the trace computes: a tensor of the graph.

    Torch has channels on axis 1, the graph on the last one; the other axes keep their order.
    columns: after flattening, which torch column stands at each of the graph's columns.
    """

    name: str
    shape: tuple[int, ...]
    columns: np.ndarray | None = None


class _Lowering:
    """Walks the trace once, emitting operators; batch norm and ReLU change the operator before them."""

    def __init__(self, traced: fx.GraphModule, spec: ArchitectureSpec) -> None:
        self.traced, self.spec = traced, spec
        self.tensors: dict[str, ir.Tensor] = {}
        self.ops: dict[str, ir.Op] = {}
        self.values: dict[fx.Node, _Value] = {}
        self.counts: Counter[str] = Counter()

    def run(self) -> ir.Graph:
        components, mels, frames = self.spec.input_shape
        self._remove_dropout()
        for node in self.traced.graph.nodes:
            if node.op == "placeholder":
                if self.values:
                    raise InputError(f"{self.spec.family}: {node.name}: a second input: expected a network of one")
                self.values[node] = self._tensor("input", (1, mels, frames, components))
            elif node.op == "output":
                output = self._probabilities(self._result(node.args[0]))
            else:
                self.values[node] = self._call(node)
        return ir.Graph(self.spec.family, self.tensors, tuple(self.ops.values()), "input", output.name)

    def _remove_dropout(self) -> None:
        for node in list(self.traced.graph.nodes):
            dropped = (
                isinstance(self.traced.get_submodule(node.target), (nn.Dropout, nn.Dropout2d, nn.Identity))
                if node.op == "call_module"
                else node.target in (functional.dropout, functional.dropout2d)
            )
            if dropped:
                node.replace_all_uses_with(node.all_input_nodes[0])
                self.traced.graph.erase_node(node)

    def _call(self, node: fx.Node) -> _Value:
        if node.op == "call_module":
            module = self.traced.get_submodule(str(node.target))
            emit, what = MODULES.get(type(module)), f"{node.target} ({type(module).__name__})"
            first: tuple[Any, ...] = (module,)
        else:
            table = FUNCTIONS if node.op == "call_function" else METHODS if node.op == "call_method" else {}
            emit, what, first = table.get(node.target), getattr(node.target, "__name__", str(node.target)), ()
        if emit is None:
            raise InputError(f"{self.spec.family}: {what}: no lowering for it; express it with layers that have one")
        args, kwargs = self._arguments(node)
        try:
            inspect.signature(emit).bind(self, node, *first, *args, **kwargs)
        except TypeError as error:
            raise InputError(f"{self.spec.family}: {what}: arguments without a lowering: {error}") from error
        try:
            return emit(self, node, *first, *args, **kwargs)
        except InputError as error:
            raise InputError(f"{self.spec.family}: {what}: {error}") from error

    def _arguments(self, node: fx.Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
        values: Any = self.values  # nodes become values, which fx's own type for arguments does not know
        return fx.node.map_arg((node.args, node.kwargs), values.__getitem__)

    def _result(self, returned: Any) -> _Value:
        if not isinstance(returned, fx.Node):
            raise InputError(f"{self.spec.family}: returns {returned}: expected one tensor of logits")
        return self.values[returned]

    def convolution(self, node: fx.Node, layer: nn.Conv2d | QuaternionConv2d, x: _Value) -> _Value:
        if isinstance(layer, nn.Conv2d):
            if layer.groups != 1 or layer.dilation != (1, 1) or layer.padding_mode != "zeros":
                raise InputError("groups, dilation or padding mode: expected 1, 1 and zeros")
            if isinstance(layer.padding, str):
                raise InputError(f"padding {layer.padding!r}: expected numbers")
            kernel = _array(layer.weight)
        else:
            kernel = block_kernel(_array(layer.weight))
        (rows, columns), (pad_rows, pad_columns) = _pair(layer.stride), _pair(layer.padding)
        name = self._name("conv")
        weight = self._constant(f"{name}.weight", kernel.transpose(0, 2, 3, 1))
        bias = self._constant(f"{name}.bias", _bias(layer.bias, len(kernel)))
        padding = (pad_rows, pad_rows, pad_columns, pad_columns)
        return self._emit(ir.Conv2D((x.name, weight, bias), name, stride=(rows, columns), padding=padding))

    def batch_norm(self, node: fx.Node, layer: nn.BatchNorm2d, x: _Value) -> _Value:
        op = self._fusable(node, x)
        weight = self.tensors[op.inputs[1]] if isinstance(op, ir.Conv2D) and op.activation == ir.NONE else None
        if weight is None or weight.gain is not None:
            raise InputError("batch norm that does not directly follow a convolution of its own")
        if layer.running_mean is None or layer.running_var is None:
            raise InputError("batch norm without running statistics")
        bias = self.tensors[f"{x.name}.bias"]
        ones, zeros = np.ones(layer.num_features, np.float32), np.zeros(layer.num_features, np.float32)
        gamma = ones if layer.weight is None else _array(layer.weight)
        beta = zeros if layer.bias is None else _array(layer.bias)
        norm = BatchNorm(gamma, beta, _array(layer.running_mean), _array(layer.running_var), layer.eps)
        gain, folded = fold(norm, bias.data)
        self.tensors[weight.name] = replace(weight, gain=_finite(gain))
        self.tensors[bias.name] = replace(bias, data=_finite(folded))
        return x

    def dense(self, node: fx.Node, layer: nn.Linear | QuaternionLinear, x: _Value) -> _Value:
        weights = _array(layer.weight)
        weights = block_kernel(weights) if isinstance(layer, QuaternionLinear) else weights
        if x.shape[1:] != weights.shape[1:]:
            raise InputError(f"input of shape {x.shape}: expected (1, {weights.shape[1]})")
        if x.columns is not None:
            weights = weights[:, x.columns]
        name = self._name("dense")
        weight = self._constant(f"{name}.weight", weights)
        bias = self._constant(f"{name}.bias", _bias(layer.bias, len(weights)))
        return self._emit(ir.FullyConnected((x.name, weight, bias), name))

    def average_pool(self, node: fx.Node, layer: nn.AvgPool2d, x: _Value) -> _Value:
        if layer.ceil_mode or _pair(layer.padding) != (0, 0) or layer.divisor_override is not None:
            raise InputError("padding, ceil_mode or divisor_override: expected a plain pool")
        return self._pool(ir.AveragePool2D, layer, x)

    def max_pool(self, node: fx.Node, layer: nn.MaxPool2d, x: _Value) -> _Value:
        if layer.ceil_mode or _pair(layer.padding) != (0, 0) or _pair(layer.dilation) != (1, 1):
            raise InputError("padding, ceil_mode or dilation: expected a plain pool")
        return self._pool(ir.MaxPool2D, layer, x)

    def _pool(self, kind: type[ir.AveragePool2D] | type[ir.MaxPool2D], layer: Any, x: _Value) -> _Value:
        return self._emit(kind((x.name,), self._name("pool"), _pair(layer.kernel_size), _pair(layer.stride)))

    def relu_layer(self, node: fx.Node, layer: nn.Module, x: _Value) -> _Value:
        return self.relu(node, x)

    def relu(self, node: fx.Node, x: _Value, inplace: bool = False) -> _Value:
        op = self._fusable(node, x)
        if isinstance(op, (ir.Conv2D, ir.FullyConnected, ir.Add)) and op.activation == ir.NONE:
            self.ops[x.name] = replace(op, activation=ir.RELU)
            return x
        return self._emit(ir.Relu((x.name,), self._name("relu")), x.columns)

    def tanh_layer(self, node: fx.Node, layer: nn.Module, x: _Value) -> _Value:
        return self.tanh(node, x)

    def tanh(self, node: fx.Node, x: _Value) -> _Value:
        return self._emit(ir.Tanh((x.name,), self._name("tanh")), x.columns)

    def mean(self, node: fx.Node, x: _Value, dim: Any, keepdim: bool = False) -> _Value:
        return self._reduce(ir.Mean, "mean", x, dim, keepdim)

    def maximum(self, node: fx.Node, x: _Value, dim: Any, keepdim: bool = False) -> _Value:
        return self._reduce(ir.ReduceMax, "max", x, dim, keepdim)

    def _reduce(
        self, kind: type[ir.Mean] | type[ir.ReduceMax], stem: str, x: _Value, dim: Any, keepdim: bool
    ) -> _Value:
        dims = tuple(d % len(x.shape) for d in ((dim,) if isinstance(dim, int) else dim))
        if keepdim or any(d < 2 for d in dims):
            raise InputError(f"over axes {dims}, keepdim {keepdim}: expected mels or frames, and the axis dropped")
        return self._emit(kind((x.name,), self._name(stem), axes=tuple(sorted(d - 1 for d in dims))))

    def add(self, node: fx.Node, x: _Value, y: _Value) -> _Value:
        if not (isinstance(x, _Value) and isinstance(y, _Value)):
            raise InputError("a constant in the sum: expected two tensors")
        layouts = [np.arange(v.shape[-1]) if v.columns is None else v.columns for v in (x, y)]
        if x.shape != y.shape or not np.array_equal(layouts[0], layouts[1]):
            raise InputError(f"shapes {x.shape} and {y.shape}: expected two of one shape and layout")
        return self._emit(ir.Add((x.name, y.name), self._name("add")), x.columns)

    def flatten_layer(self, node: fx.Node, layer: nn.Flatten, x: _Value) -> _Value:
        return self.flatten(node, x, layer.start_dim, layer.end_dim)

    def flatten(self, node: fx.Node, x: _Value, start_dim: int = 0, end_dim: int = -1) -> _Value:
        if start_dim != 1 or end_dim not in (-1, len(x.shape) - 1):
            raise InputError(f"from axis {start_dim} to {end_dim}: expected from 1 to the last")
        if len(x.shape) == 2:
            return x
        *rows, channels = x.shape[1:]
        size = int(np.prod(x.shape[1:]))
        columns = np.moveaxis(np.arange(size).reshape(channels, *rows), 0, -1).ravel()
        op = ir.Reshape((x.name,), self._name("reshape"))
        self.ops[op.output] = op
        return self._tensor(op.output, (1, size), columns)

    def _probabilities(self, x: _Value) -> _Value:
        if x.shape != (1, self.spec.classes) or x.columns is not None:
            raise InputError(f"{self.spec.family}: output of shape {x.shape}: expected {(1, self.spec.classes)} logits")
        op = ir.Softmax((x.name,), "softmax") if self.spec.output == "softmax" else ir.Logistic((x.name,), "logistic")
        return self._emit(op)

    def _fusable(self, node: fx.Node, x: _Value) -> ir.Op | None:
        """The operator that made x, where this node is the only one to read it."""
        (source, *_) = node.all_input_nodes
        return self.ops.get(x.name) if len(source.users) == 1 else None

    def _emit(self, op: ir.Op, columns: np.ndarray | None = None) -> _Value:
        shape = output_shape(op, [self.tensors[name].shape for name in op.inputs])
        self.ops[op.output] = op
        return self._tensor(op.output, shape, columns)

    def _tensor(self, name: str, shape: tuple[int, ...], columns: np.ndarray | None = None) -> _Value:
        self.tensors[name] = ir.Tensor(name, shape)
        return _Value(name, shape, columns)

    def _constant(self, name: str, data: np.ndarray) -> str:
        self.tensors[name] = ir.Tensor(name, data.shape, data=_finite(np.ascontiguousarray(data)))
        return name

    def _name(self, stem: str) -> str:
        self.counts[stem] += 1
        return f"{stem}_{self.counts[stem]}"


MODULES: dict[type[nn.Module], Callable[..., _Value]] = {
    nn.Conv2d: _Lowering.convolution,
    QuaternionConv2d: _Lowering.convolution,
    nn.BatchNorm2d: _Lowering.batch_norm,
    nn.Linear: _Lowering.dense,
    QuaternionLinear: _Lowering.dense,
    nn.AvgPool2d: _Lowering.average_pool,
    nn.MaxPool2d: _Lowering.max_pool,
    nn.ReLU: _Lowering.relu_layer,
    nn.Tanh: _Lowering.tanh_layer,
    nn.Flatten: _Lowering.flatten_layer,
}

FUNCTIONS: dict[Any, Callable[..., _Value]] = {
    torch.relu: _Lowering.relu,
    functional.relu: _Lowering.relu,
    torch.tanh: _Lowering.tanh,
    functional.tanh: _Lowering.tanh,
    torch.mean: _Lowering.mean,
    torch.amax: _Lowering.maximum,
    torch.add: _Lowering.add,
    operator.add: _Lowering.add,
    operator.iadd: _Lowering.add,
    torch.flatten: _Lowering.flatten,
}

METHODS: dict[Any, Callable[..., _Value]] = {
    "relu": _Lowering.relu,
    "tanh": _Lowering.tanh,
    "mean": _Lowering.mean,
    "amax": _Lowering.maximum,
    "add": _Lowering.add,
    "flatten": _Lowering.flatten,
}


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().to("cpu", torch.float32).numpy().copy()


def _bias(bias: torch.Tensor | None, channels: int) -> np.ndarray:
    return np.zeros(channels, np.float32) if bias is None else _array(bias)


def _finite(data: np.ndarray) -> np.ndarray:
    if not np.isfinite(data).all():
        raise InputError("weights hold NaN or infinity: the training diverged, or the checkpoint is damaged")
    return data


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)
