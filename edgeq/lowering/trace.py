"""From a torch network to the float graph that every exporter writes: traced, folded, channels last, real operators.

What each kind of layer becomes is in `layers`; this walks the trace and asks it.
"""

from __future__ import annotations

import inspect
from typing import Any

from torch import fx, nn
from torch.nn import functional

from edgeq.errors import InputError
from edgeq.graph import ir
from edgeq.lowering.building import Building, Value
from edgeq.lowering.layers import FUNCTIONS, METHODS, MODULES
from edgeq.nets.spec import NetworkSpec


def lower(network: nn.Module, spec: NetworkSpec) -> ir.Graph:
    """Lower a network as it runs after training to a float NHWC graph that ends in probabilities.

    network takes (N, components, mels, frames) and gives logits (N, classes); it is not changed. Quaternion kernels
    become real block kernels; batch norm is folded (weights stay as trained, `Tensor.gain` carries the scale), but for
    that over mel bands, which becomes a product and a sum; ReLU and ReLU6 are fused; dropout and pools of one cell
    vanish; flattening to a dense layer becomes an order of that layer's columns. Tensors are named by kind in order:
    input, conv_1, pool_1, ..., and conv_1.weight, conv_1.bias.
    Raises InputError naming the layer where one has no lowering, where shapes do not fit the spec, or where a weight
    is not finite.
    """
    traced = trace(network, spec.family)
    _remove_dropout(traced)
    traced.graph.eliminate_dead_code()  # maps that a member of an ensemble was lent, and has no use for
    components, mels, frames = spec.input_shape
    graph = Building()
    for node in traced.graph.nodes:
        if node.op == "placeholder":
            if graph.values:
                raise InputError(f"{spec.family}: {node.name}: a second input: expected a network of one")
            graph.values[node] = graph.tensor("input", (1, mels, frames, components))
        elif node.op == "output":
            output = _probabilities(graph, node.args[0], spec)
        else:
            graph.values[node] = _call(graph, traced, node, spec.family)
    return ir.Graph(spec.family, graph.tensors, tuple(graph.ops.values()), "input", output.name)


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


def _remove_dropout(traced: fx.GraphModule) -> None:
    for node in list(traced.graph.nodes):
        dropped = (
            isinstance(traced.get_submodule(node.target), (nn.Dropout, nn.Dropout2d, nn.Identity))
            if node.op == "call_module"
            else node.target in (functional.dropout, functional.dropout2d)
        )
        if dropped:
            node.replace_all_uses_with(node.all_input_nodes[0])
            traced.graph.erase_node(node)


def _call(graph: Building, traced: fx.GraphModule, node: fx.Node, family: str) -> Value:
    """What one call of a layer, function or method gives, its operators added to the graph."""
    if node.op == "call_module":
        module = traced.get_submodule(str(node.target))
        emit, what = MODULES.get(type(module)), f"{node.target} ({type(module).__name__})"
        first: tuple[Any, ...] = (graph, module)
    else:
        table: dict[Any, Any] = {"call_function": FUNCTIONS, "call_method": METHODS}.get(node.op, {})
        emit, what = table.get(node.target), getattr(node.target, "__name__", str(node.target))
        first = (graph,)
    if emit is None:
        raise InputError(f"{family}: {what}: no lowering for it; express it with layers that have one")
    values: Any = graph.values  # nodes become values, which fx's own type for arguments does not know
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
    try:
        inspect.signature(emit).bind(*first, *args, **kwargs)
    except TypeError as error:
        raise InputError(f"{family}: {what}: arguments without a lowering: {error}") from error
    try:
        return emit(*first, *args, **kwargs)
    except InputError as error:
        raise InputError(f"{family}: {what}: {error}") from error


def _probabilities(graph: Building, returned: Any, spec: NetworkSpec) -> Value:
    if not isinstance(returned, fx.Node):
        raise InputError(f"{spec.family}: returns {returned}: expected one tensor of logits")
    x = graph.values[returned]
    if x.shape != (1, spec.classes) or x.columns is not None:
        raise InputError(f"{spec.family}: output of shape {x.shape}: expected {(1, spec.classes)} logits")
    if x.probabilities:
        return x
    op = ir.Softmax((x.name,), "softmax") if spec.output == "softmax" else ir.Logistic((x.name,), "logistic")
    return graph.emit(op)
