"""Filter pruning: the least important filters of a layer go, with everything that made or read their channels.

A filter goes with its bias, its batch norm's entries (those of all four components of a quaternion filter), and the
slice of every layer that reads its channel. Layers whose channels are tied, by a residual sum or a depthwise
convolution, lose them together. What is left is a smaller spec of the same family and its weights.
Source: quaternion paper, Section IV-B and Algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgeq.compress import similarity
from edgeq.compress.channels import Channels, channels_of
from edgeq.compress.importance import Importance
from edgeq.errors import InputError, naming
from edgeq.lowering.trace import trace
from edgeq.nets import registry
from edgeq.nets.quaternion import QuaternionConv2d, QuaternionLinear
from edgeq.nets.spec import ArchitectureSpec
from edgeq.nets.widths import PRUNED, narrowed

PUBLISHED: dict[str, dict[str, tuple[str, float | None]]] = {
    **{family: {layer: (layer, None) for layer in layers} for family, layers in PRUNED.items()},
    "dcase22": {"C1": ("conv1", 4 / 16), "C2": ("conv2", 4 / 16), "C3": ("conv3", 10 / 32)},
}
"""Sites that the papers prune, by the papers' names: the layer, and the ratio where the paper has one of its own."""


@dataclass(frozen=True)
class Change:
    """What pruning did to a layer: real outputs before and after, and which of its filters were kept, by index."""

    layer: str
    before: int
    after: int
    kept: tuple[int, ...]


def prune(
    network: nn.Module,
    spec: ArchitectureSpec,
    ratios: Mapping[str, float],
    importance: Importance,
    round_to: int = 1,
) -> tuple[nn.Module, ArchitectureSpec, tuple[Change, ...]]:
    """Remove the least important filters of some layers.

    network: of this spec; it is not changed. ratios: the part of its filters that a layer loses, by the layer's name in
    the network; int(filters * (1 - ratio)) are kept. Naming a layer prunes those tied to it too: a filter's score is
    then the sum of its scores in each layer, in units of the layer's mean. Of equal filters the earlier is kept.
    round_to: the least multiple of real channels to which kept widths are rounded up, where the layer has them.
    Returns the smaller network, in the mode of `network` and on its device; its spec; and the layers that changed.
    Raises InputError where there is no such layer, it cannot be pruned, a ratio is outside [0, 1) or leaves nothing,
    layers that are tied have different ratios, or the family has no network of the widths that come out.
    """
    if round_to < 1:
        raise InputError(f"round_to {round_to}: expected at least 1 channel")
    channels = channels_of(spec)
    gone: set[int] = set()
    for layer, ratio in _each_tie_once(channels, ratios, spec).items():
        gone |= _least_important(network, channels, layer, ratio, importance, round_to)
    kept = {
        layer: ~np.isin(ids, list(gone)) for table in (channels.outputs, channels.norms) for layer, ids in table.items()
    }
    weights = _sliced(network, channels, kept)
    smaller = _narrowed(spec, {layer: int(kept[layer].sum()) for layer in channels.outputs})
    changes = tuple(
        Change(layer, len(ids), int(kept[layer].sum()), _filters_kept(network, layer, kept[layer]))
        for layer, ids in channels.outputs.items()
        if not kept[layer].all()
    )
    return _rebuilt(network, spec, smaller, weights), smaller, changes


def ratios(
    network: nn.Module, spec: ArchitectureSpec, method: str, sites: Sequence[str] = (), ratio: float | None = None
) -> dict[str, float]:
    """What `prune` takes, from what people write: the ratio of each layer.

    sites: names of layers; the papers' names (`PUBLISHED`), "paper" for all of those; each as it is or as NAME=RATIO.
    None: every convolution. ratio: of the sites that have none of their own; without one the published ratio counts,
    and the method similarity finds its own.
    Raises InputError where a site is unknown, named twice, or left without a ratio.
    """
    published = PUBLISHED.get(spec.family, {})
    chosen: dict[str, float] = {}
    for site in sites or every_convolution(spec):
        name, given, text = site.partition("=")
        if not name:
            raise InputError(f"site {site!r:.100}: has no name; expected NAME or NAME=RATIO")
        own = _number(site, text) if given else ratio
        if name == "paper" and not published:
            raise InputError(
                f"{spec.family}: no paper says which of its layers to prune; name some, or leave out sites"
            )
        for layer, default in published.values() if name == "paper" else [published.get(name, (name, None))]:
            if layer in chosen:
                raise InputError(f"site {layer}: named twice; name it once")
            value = default if own is None else own
            if value is None and method != "similarity":
                raise InputError(f"site {layer}: no ratio for it; give a ratio for all, or {layer}=RATIO")
            chosen[layer] = _similar(network, spec, layer) if value is None else value
    return chosen


def every_convolution(spec: ArchitectureSpec) -> tuple[str, ...]:
    """The convolutions that can be pruned; of those that are tied the first."""
    channels = channels_of(spec)
    with torch.device("meta"):
        network = registry.build(spec)
    found: dict[str, None] = {}
    for layer, ids in channels.outputs.items():
        convolution = isinstance(network.get_submodule(layer), (nn.Conv2d, QuaternionConv2d))
        if convolution and not channels.fixed & set(ids.tolist()):
            found[channels.tied(layer)[0]] = None
    return tuple(found)


def _number(site: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"site {site!r:.100}: expected NAME or NAME=RATIO, a number") from None


def _similar(network: nn.Module, spec: ArchitectureSpec, layer: str) -> float:
    """The ratio that similarity pruning comes to by itself in a layer: redundant filters over filters."""
    _check_site(channels_of(spec), layer, spec)
    weights = _weights(network, layer)
    with naming(layer):
        return len(similarity.redundant(weights)) / weights.shape[weights.ndim - 4]


def _each_tie_once(channels: Channels, ratios: Mapping[str, float], spec: ArchitectureSpec) -> dict[str, float]:
    """The ratios by one layer of each tie."""
    chosen: dict[str, float] = {}
    named: dict[str, str] = {}
    for layer, ratio in ratios.items():
        _check_site(channels, layer, spec)
        if not 0 <= ratio < 1:
            raise InputError(f"{spec.family}: {layer}: ratio {ratio:g}: expected 0 or more and less than 1")
        first = channels.tied(layer)[0]
        if chosen.setdefault(first, ratio) != ratio:
            raise InputError(
                f"{spec.family}: {named[first]} and {layer} have the same channels, but ratios {chosen[first]:g} and "
                f"{ratio:g}: expected one; name one of them"
            )
        named.setdefault(first, layer)
    return chosen


def _check_site(channels: Channels, layer: str, spec: ArchitectureSpec) -> None:
    if layer not in channels.outputs:
        near = get_close_matches(layer, channels.outputs, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(channels.outputs)}"
        raise InputError(f"{spec.family}: no convolution or dense layer {layer!r:.100}; {hint}")
    own = set(channels.outputs[layer].tolist())
    if own & channels.fixed:
        raise InputError(f"{spec.family}: {layer}: its outputs are the network's input or classes; leave it out")
    for other in channels.tied(layer):
        if set(channels.outputs[other].tolist()) != own:
            raise InputError(
                f"{spec.family}: {layer}: {other} has its channels in part; pruning expects all or none; leave it out"
            )


def _least_important(
    network: nn.Module, channels: Channels, layer: str, ratio: float, importance: Importance, round_to: int
) -> set[int]:
    """The channels that go from a tie of layers."""
    ids = np.unique(channels.outputs[layer])
    left = narrowed(len(ids), ratio)
    if left == 0:
        raise InputError(
            f"{layer}: a ratio of {ratio:g} leaves none of its {len(ids)} filters; "
            f"expected at most {1 - 1 / len(ids):.4g}"
        )
    width = len(channels.outputs[layer]) // len(ids)  # real channels a filter
    step = math.lcm(round_to, width) // width
    left = min(len(ids), math.ceil(left / step) * step)
    scores = np.zeros(len(ids))
    for member in channels.tied(layer):
        with naming(member):
            found = importance(_weights(network, member))
        places = np.searchsorted(ids, channels.outputs[member][: len(found)])
        np.add.at(scores, places, found / (found.mean() or 1.0))
    order = np.lexsort((-np.arange(len(ids)), scores))
    return set(ids[order[: len(ids) - left]].tolist())


def _weights(network: nn.Module, layer: str) -> np.ndarray:
    """A layer's weights with kernel axes, which dense layers get of size 1."""
    module: Any = network.get_submodule(layer)
    weights = module.weight.detach().to("cpu", torch.float32).numpy()
    return weights.reshape(*weights.shape, 1, 1) if isinstance(module, (nn.Linear, QuaternionLinear)) else weights


def _filters_kept(network: nn.Module, layer: str, kept: np.ndarray) -> tuple[int, ...]:
    quaternion = isinstance(network.get_submodule(layer), (QuaternionConv2d, QuaternionLinear))
    return tuple(np.flatnonzero(kept[: len(kept) // 4] if quaternion else kept).tolist())


def _sliced(network: nn.Module, channels: Channels, kept: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """The state dict without the channels that go."""
    state = network.state_dict()
    gone = np.concatenate([channels.outputs[layer][~kept[layer]] for layer in channels.outputs])

    def keep(name: str, axis: int, mask: np.ndarray) -> None:
        if name in state:
            tensor = state[name]
            places = torch.from_numpy(np.flatnonzero(mask[: tensor.shape[axis]])).to(tensor.device)
            state[name] = tensor.index_select(axis, places)

    for layer in channels.outputs:
        # Of a quaternion layer's real channels the first quarter stands for all: what is tied is kept or goes together.
        quaternion = isinstance(network.get_submodule(layer), (QuaternionConv2d, QuaternionLinear))
        keep(f"{layer}.weight", 1 if quaternion else 0, kept[layer])
        keep(f"{layer}.bias", 0, kept[layer])
        if layer in channels.inputs:
            keep(f"{layer}.weight", 2 if quaternion else 1, ~np.isin(channels.inputs[layer], gone))
    for norm in channels.norms:
        for field in ("weight", "bias", "running_mean", "running_var"):
            keep(f"{norm}.{field}", 0, kept[norm])
    return {name: tensor.clone() for name, tensor in state.items()}


def _narrowed(spec: ArchitectureSpec, outputs: Mapping[str, int]) -> ArchitectureSpec:
    """The spec whose layers have so many outputs.

    Which layers a width sets is told from a network in which no two widths are equal, nor equal to the classes.
    """
    before = _outputs(spec)
    distinct = tuple(4 * (spec.classes // 4 + 1 + place) for place in range(len(spec.widths)))
    told_apart = _outputs(replace(spec, widths=distinct))
    widths = list(spec.widths)
    for place, width in enumerate(spec.widths):
        layers = [layer for layer in outputs if told_apart[layer] == distinct[place] and before[layer] == width]
        if len({outputs[layer] for layer in layers}) > 1:
            found = ", ".join(f"{layer} {outputs[layer]}" for layer in layers)
            raise InputError(f"{spec.family}: these have one width in all its networks, and would have: {found}")
        widths[place] = outputs[layers[0]] if layers else width
    return replace(spec, widths=tuple(widths))


def _outputs(spec: ArchitectureSpec) -> dict[str, int]:
    with torch.device("meta"):
        network = registry.build(spec)
    kinds = (nn.Conv2d, QuaternionConv2d), (nn.Linear, QuaternionLinear)
    found: dict[str, int] = {}
    for name, module in network.named_modules():
        layer: Any = module
        if isinstance(module, kinds):
            found[name] = layer.out_channels if isinstance(module, kinds[0]) else layer.out_features
    return found


def _rebuilt(
    network: nn.Module, spec: ArchitectureSpec, smaller: ArchitectureSpec, weights: Mapping[str, Tensor]
) -> nn.Module:
    """The network of the smaller spec with these weights, once it is sure that they are its own."""
    with torch.device("meta"):
        rebuilt = registry.build(smaller)
    for name, tensor in rebuilt.state_dict().items():
        if name not in weights or weights[name].shape != tensor.shape:
            found = list(weights[name].shape) if name in weights else "nothing"
            raise InputError(
                f"{spec.family}: {name}: pruned to {found}, but a network of widths {list(smaller.widths)} "
                f"has {list(tensor.shape)}; prune other layers, or those beside it alike"
            )
    if trace(rebuilt, spec.family).code != trace(network, spec.family).code:
        raise InputError(
            f"{spec.family}: of widths {list(smaller.widths)} it is another network, not this one with less filters; "
            "choose another ratio"
        )
    rebuilt.load_state_dict(weights, assign=True)
    return rebuilt.train(network.training)
