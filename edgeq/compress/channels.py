"""Which channels of a network are one and the same, so that they can be removed together only.

The network is followed call by call. A convolution or a dense layer makes new channels; batch norm, activations, pools
and reductions over the map keep them; a depthwise convolution has those of its input; adding two maps makes the
channels at one place one; the four components of a quaternion are one channel, where they are made and where they are
read; flattening gives a channel as many places as the map has. To follow one more kind of call, write a method of
`_Walk` and name it in MODULES, FUNCTIONS or METHODS.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from edgeq.errors import InputError
from edgeq.lowering.trace import trace
from edgeq.nets import registry
from edgeq.nets.ensemble import CHANNELWISE, CHANNELWISE_FUNCTIONS, CHANNELWISE_METHODS
from edgeq.nets.panns import MelBatchNorm
from edgeq.nets.quaternion import QuaternionConv2d, QuaternionLinear
from edgeq.nets.spec import ArchitectureSpec


@dataclass(frozen=True, eq=False)
class Channels:
    """The channels of a network, as numbers; places with equal numbers are one channel.

    outputs: the channel at each output of a convolution or dense layer, by the layer's name; int64 (outputs,). inputs:
    the same of its inputs, (inputs,), of depthwise convolutions none. norms: the same of a batch norm's entries.
    fixed: channels that are the network's own input or its classes.
    """

    outputs: Mapping[str, np.ndarray]
    inputs: Mapping[str, np.ndarray]
    norms: Mapping[str, np.ndarray]
    fixed: frozenset[int]

    def tied(self, layer: str) -> tuple[str, ...]:
        """The layers that have the same channels as this one, itself included, in the order they are called."""
        own = set(self.outputs[layer].tolist())
        return tuple(name for name, ids in self.outputs.items() if own & set(ids.tolist()))


def channels_of(spec: ArchitectureSpec) -> Channels:
    """The channels of the network that a spec builds; no weights are made.

    Raises InputError where the spec cannot be built, or naming a call through which channels are not followed.
    """
    with torch.device("meta"):
        network = registry.build(spec).eval()
    traced = trace(network, spec.family)
    ShapeProp(traced).propagate(torch.empty(1, *spec.input_shape, device="meta"))
    return _Walk(traced, spec).run()


class _Walk:
    """Goes through the calls once; channels found to be one are noted and made one at the end."""

    def __init__(self, traced: fx.GraphModule, spec: ArchitectureSpec) -> None:
        self.traced, self.spec = traced, spec
        self.count = 0
        self.same: list[tuple[np.ndarray, np.ndarray]] = []
        self.values: dict[fx.Node, np.ndarray] = {}
        self.outputs: dict[str, np.ndarray] = {}
        self.inputs: dict[str, np.ndarray] = {}
        self.norms: dict[str, np.ndarray] = {}

    def run(self) -> Channels:
        fixed = []
        for node in self.traced.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = self._new(self.spec.input_shape[0])
                fixed.append(self.values[node])
            elif node.op == "output":
                fixed.append(self.values[node.args[0]])
            else:
                self.values[node] = self._call(node)
        one = _one(self.count, self.same)
        outputs, inputs, norms = (
            {name: one[ids] for name, ids in table.items()} for table in (self.outputs, self.inputs, self.norms)
        )
        return Channels(outputs, inputs, norms, frozenset(one[np.concatenate(fixed)].tolist()))

    def _call(self, node: fx.Node) -> np.ndarray:
        name = str(node.target) if node.op == "call_module" else getattr(node.target, "__name__", str(node.target))
        if node.op == "call_module":
            module = self.traced.get_submodule(name)
            rule, what = MODULES.get(type(module)), f"{name} ({type(module).__name__})"
        else:
            rule, what = (FUNCTIONS if node.op == "call_function" else METHODS).get(node.target), name
        if rule is None:
            raise InputError(f"{self.spec.family}: {what}: pruning does not follow channels through it")
        return rule(self, node)

    def weighted(self, node: fx.Node) -> np.ndarray:
        name, x = self._layer(node), self._input(node)
        layer: Any = self.traced.get_submodule(name)
        quaternion = isinstance(layer, (QuaternionConv2d, QuaternionLinear))
        if isinstance(layer, (nn.Linear, QuaternionLinear)) and len(_shape(node)) != 2:
            raise InputError(f"{self.spec.family}: {name}: of an input of {len(_shape(node))} axes: expected 2")
        groups = getattr(layer, "groups", 1)
        if groups > 1:
            if groups != len(x):
                raise InputError(f"{self.spec.family}: {name}: {groups} groups: expected 1, or one an input channel")
            self.outputs[name] = x.repeat(layer.out_channels // groups)
            return self.outputs[name]
        if quaternion:
            real, *imaginary = x.reshape(4, -1)
            self.same += [(real, component) for component in imaginary]
        self.inputs[name] = x
        outputs = int(_shape(node)[1])
        self.outputs[name] = np.tile(self._new(outputs // 4), 4) if quaternion else self._new(outputs)
        return self.outputs[name]

    def norm(self, node: fx.Node) -> np.ndarray:
        self.norms[self._layer(node)] = self._input(node)
        return self._input(node)

    def keep(self, node: fx.Node) -> np.ndarray:
        return self._input(node)

    def reduce(self, node: fx.Node) -> np.ndarray:
        before, after = _shape(node.all_input_nodes[0]), _shape(node)
        axes: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        if any(axis % len(before) < 2 for axis in ((axes,) if isinstance(axes, int) else axes)):
            raise InputError(f"{self.spec.family}: {node.name}: {before} to {after}: expected channels to stay")
        return self._input(node)

    def flatten(self, node: fx.Node) -> np.ndarray:
        before, after = _shape(node.all_input_nodes[0]), _shape(node)
        if after != (before[0], math.prod(before[1:])):
            raise InputError(f"{self.spec.family}: {node.name}: {before} to {after}: expected all but the first axis")
        return self._input(node).repeat(math.prod(before[2:]))

    def combine(self, node: fx.Node) -> np.ndarray:
        first, *others = (self.values[source] for source in node.all_input_nodes)
        for other in others:
            if len(other) != len(first):
                raise InputError(f"{self.spec.family}: {node.name}: {len(first)} channels and {len(other)}")
            self.same.append((first, other))
        return first

    def join(self, node: fx.Node) -> np.ndarray:
        sources: Any = node.args[0]
        axis: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        if axis % len(_shape(node)) != 1:
            raise InputError(f"{self.spec.family}: {node.name}: joins axis {axis}: expected 1, the channels")
        return np.concatenate([self.values[source] for source in sources])

    def _layer(self, node: fx.Node) -> str:
        name = str(node.target)
        if name in self.outputs or name in self.norms:
            raise InputError(f"{self.spec.family}: {name}: called twice; pruning expects a layer for each call")
        return name

    def _input(self, node: fx.Node) -> np.ndarray:
        (source,) = node.all_input_nodes
        return self.values[source]

    def _new(self, count: int) -> np.ndarray:
        self.count += count
        return np.arange(self.count - count, self.count)


Rule = Callable[[_Walk, fx.Node], np.ndarray]

MODULES: dict[type[nn.Module], Rule] = {
    nn.Conv2d: _Walk.weighted,
    QuaternionConv2d: _Walk.weighted,
    nn.Linear: _Walk.weighted,
    QuaternionLinear: _Walk.weighted,
    **dict.fromkeys((*CHANNELWISE, MelBatchNorm), _Walk.keep),
    nn.BatchNorm2d: _Walk.norm,
    nn.Flatten: _Walk.flatten,
}

FUNCTIONS: dict[Any, Rule] = {
    **dict.fromkeys(CHANNELWISE_FUNCTIONS, _Walk.keep),
    **dict.fromkeys((torch.mean, torch.amax), _Walk.reduce),
    **dict.fromkeys((torch.add, operator.add, operator.iadd), _Walk.combine),
    torch.cat: _Walk.join,
    torch.flatten: _Walk.flatten,
}

METHODS: dict[Any, Rule] = {
    **dict.fromkeys(CHANNELWISE_METHODS, _Walk.keep),
    **dict.fromkeys(("mean", "amax"), _Walk.reduce),
    "add": _Walk.combine,
    "flatten": _Walk.flatten,
}


def _shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(node.meta["tensor_meta"].shape)


def _one(count: int, same: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """For each channel the least of those that it is one with."""
    least = list(range(count))

    def find(channel: int) -> int:
        while least[channel] != channel:
            least[channel] = channel = least[least[channel]]
        return channel

    for left, right in same:
        for a, b in zip(left.tolist(), right.tolist(), strict=True):
            low, high = sorted((find(a), find(b)))
            least[high] = low
    return np.array([find(channel) for channel in range(count)])
