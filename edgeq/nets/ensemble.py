"""An ensemble as one network: its members on one input, maps that several of them share, the mean of their answers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from edgeq.errors import InputError
from edgeq.nets.spec import EnsembleSpec, SharedMaps

CHANNELWISE = (
    nn.BatchNorm2d, nn.AvgPool2d, nn.MaxPool2d, nn.ReLU, nn.ReLU6, nn.Tanh, nn.Dropout, nn.Dropout2d, nn.Identity,
)  # fmt: skip
"""Layers that treat every channel of a map alike and apart from the others; batch norm with parameters for each."""

CHANNELWISE_FUNCTIONS = (
    torch.relu, functional.relu, functional.relu6, torch.tanh, functional.tanh, functional.avg_pool2d,
    functional.max_pool2d, functional.dropout, functional.dropout2d,
)  # fmt: skip
"""The same as functions."""

CHANNELWISE_METHODS = ("relu", "tanh")


class Ensemble(nn.Module):
    """Members side by side. Takes (N, components, mels, frames), gives logits (N, classes).

    Softmax (or sigmoid) of the logits is the mean of the members' softmax (or sigmoid). A member's weights are named as
    in a network of its own, behind `members.0.`, `members.1.`, ...
    spec.shared: a convolution that takes over maps, and its batch norm, are built for the channels that it computes
    itself; where its map is read, behind the activation and the pool that follow, its own channels and those of earlier
    members are joined. A convolution that takes over all its maps, and what only it reads, are left out.
    networks: one a member of the spec, as wide as it says; they are changed, and should not be used any more.
    Raises InputError where the shared maps are of no layer that both members have, of a quaternion layer, or more than
    there are.
    Source: Singh and Plumbley, low-complexity CNNs for DCASE 2022 Task 1, Section 3 (an ensemble framework) and the
    similarity analysis of Section 4.
    """

    def __init__(self, spec: EnsembleSpec, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        numbers = range(len(networks))
        self._borrowed = [[entry for entry in spec.shared if entry.member == number] for number in numbers]
        self._lent = [
            list(dict.fromkeys(entry.layer for entry in spec.shared if entry.source == number)) for number in numbers
        ]
        traced = [trace(network) for network in networks]
        _check(spec.shared, traced)
        self.members = nn.ModuleList(
            _sharing(graph, borrowed, lent) if borrowed or lent else network
            for network, graph, borrowed, lent in zip(networks, traced, self._borrowed, self._lent, strict=True)
        )
        self.mean = MeanOfProbabilities(spec.output)

    def forward(self, x: Tensor) -> Tensor:
        logits: list[Tensor] = []
        maps: dict[tuple[int, str], Tensor] = {}
        for number, (member, borrowed, lent) in enumerate(zip(self.members, self._borrowed, self._lent, strict=True)):
            if not borrowed and not lent:
                logits.append(member(x))
                continue
            taken = [maps[entry.source, entry.layer].narrow(1, entry.start, entry.channels) for entry in borrowed]
            answer, *own = member(x, *taken)
            logits.append(answer)
            maps |= {(number, layer): one for layer, one in zip(lent, own, strict=True)}
        return self.mean(*logits)


class MeanOfProbabilities(nn.Module):
    """Logits of the mean of several networks' probabilities, from their logits, (N, classes) each.

    output: "softmax" or "sigmoid", by which logits become probabilities before, and the mean's logits after. No
    probability is ever computed, so that none can round to 0 or 1 and its logarithm to infinity.
    """

    def __init__(self, output: str) -> None:
        super().__init__()
        self.output = output

    def forward(self, *logits: Tensor) -> Tensor:
        every = torch.stack(logits)
        if self.output == "softmax":
            return every.log_softmax(dim=2).logsumexp(dim=0) - math.log(len(logits))
        return functional.logsigmoid(every).logsumexp(dim=0) - functional.logsigmoid(-every).logsumexp(dim=0)


def trace(network: nn.Module) -> fx.GraphModule:
    """The calls of a network in order, its layers unopened: they are the modules without children."""
    return fx.GraphModule(network, _Tracer().trace(network))


def channelwise_end(traced: fx.GraphModule, node: fx.Node) -> list[fx.Node]:
    """A call and those behind it that treat channels apart, in order, as far as nothing else reads what is between."""
    calls = Counter(one.target for one in traced.graph.nodes if one.op == "call_module")
    found = [node]
    while len(found[-1].users) == 1:
        (reader,) = found[-1].users
        module = traced.get_submodule(str(reader.target)) if reader.op == "call_module" else None
        apart = {
            "call_module": isinstance(module, CHANNELWISE),
            "call_function": reader.target in CHANNELWISE_FUNCTIONS,
            "call_method": reader.target in CHANNELWISE_METHODS,
        }.get(reader.op, False)
        # A batch norm that is called twice has channels that belong to both calls.
        if not apart or (isinstance(module, nn.BatchNorm2d) and calls[reader.target] > 1):
            break
        found.append(reader)
    return found


def convolution(traced: fx.GraphModule, layer: str) -> fx.Node:
    """The call of a convolution whose maps can be shared. Raises InputError where there is none of that name."""
    nodes = [node for node in traced.graph.nodes if node.op == "call_module" and node.target == layer]
    if len(nodes) != 1:
        raise InputError(f"shared maps of {layer:.100}: called {len(nodes)} times: expected a layer called once")
    module = traced.get_submodule(layer)
    if type(module) is not nn.Conv2d or module.groups != 1:
        raise InputError(
            f"shared maps of {layer}: of a {type(module).__name__}: expected a real convolution that reads all "
            "channels; the four components of a quaternion's map belong together"
        )
    return nodes[0]


class _Tracer(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return not list(module.children())


def _check(shared: Sequence[SharedMaps], traced: Sequence[fx.GraphModule]) -> None:
    """Raises InputError where shared maps are none that the source computes, or the member has room for."""
    taken: Counter[tuple[int, str]] = Counter()
    for entry in shared:
        taken[entry.member, entry.layer] += entry.channels
    for entry in shared:
        where = f"ensemble: member {entry.member}: shared maps of {entry.layer:.100}"
        chains, widths = [], []
        for number in (entry.member, entry.source):
            graph = traced[number]
            node = convolution(graph, entry.layer)
            chains.append([_kind(graph, one) for one in channelwise_end(graph, node)])
            widths.append(int(graph.get_submodule(entry.layer).weight.shape[0]))  # type: ignore[index]
        if chains[0] != chains[1]:
            raise InputError(f"{where}: other layers follow it in member {entry.source}: expected the same")
        if taken[entry.member, entry.layer] > widths[0]:
            raise InputError(f"{where}: {taken[entry.member, entry.layer]} channels: it has only {widths[0]}")
        own = widths[1] - taken[entry.source, entry.layer]
        if entry.start + entry.channels > own:
            raise InputError(
                f"{where}: channels {entry.start} to {entry.start + entry.channels} of member {entry.source}, which "
                f"computes {own} itself"
            )


def _kind(traced: fx.GraphModule, node: fx.Node) -> str:
    """What a call of a chain is, where another member's could be the same: layers by their class."""
    module = traced.get_submodule(str(node.target)) if node.op == "call_module" else None
    return str(node.target) if module is None else type(module).__name__


def _sharing(traced: fx.GraphModule, borrowed: Sequence[SharedMaps], lent: Sequence[str]) -> fx.GraphModule:
    """A member that takes (x, *borrowed maps) and gives (logits, *lent maps)."""
    graph = traced.graph
    ends = {}
    for layer in dict.fromkeys([*lent, *(entry.layer for entry in borrowed)]):
        ends[layer] = channelwise_end(traced, convolution(traced, layer))
    (last,) = (node for node in graph.nodes if node.op == "placeholder")
    taken: dict[str, list[fx.Node]] = {}
    for number, entry in enumerate(borrowed):
        with graph.inserting_after(last):
            last = graph.placeholder(f"borrowed_{number}")
        taken.setdefault(entry.layer, []).append(last)
    for layer, maps in taken.items():
        channels = sum(entry.channels for entry in borrowed if entry.layer == layer)
        chain = ends[layer]
        own = _narrow(traced, chain, channels)
        readers = list(chain[-1].users)
        with graph.inserting_after(chain[-1]):
            parts = [chain[-1], *maps] if own else maps
            joined = graph.call_function(torch.cat, (parts, 1)) if len(parts) > 1 else parts[0]
        for reader in readers:
            reader.replace_input_with(chain[-1], joined)
    (output,) = (node for node in graph.nodes if node.op == "output")
    output.args = ((output.args[0], *(ends[layer][-1] for layer in lent)),)
    graph.eliminate_dead_code()
    return fx.GraphModule(traced, graph)


def _narrow(traced: fx.GraphModule, chain: Sequence[fx.Node], channels: int) -> int:
    """Take the last channels from a convolution and what follows it; how many are left."""
    own = 0
    for node in chain:
        module = traced.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.Conv2d):
            own = module.out_channels = module.out_channels - channels
        elif isinstance(module, nn.BatchNorm2d):
            module.num_features = own
        else:
            continue
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(parameter.detach()[:own].clone(), parameter.requires_grad))
        for name, buffer in list(module.named_buffers(recurse=False)):
            if buffer.ndim:
                setattr(module, name, buffer[:own].clone())
    return own
