"""Maps that members of an ensemble have in common are computed once.

Networks pruned from one parent keep filters alike, and with them maps: where a later member's map is, within a
tolerance, one that an earlier member computes, it is taken over, and the filter goes. Layer by layer from the input on,
so that what is compared is what would run.
Source: Singh and Plumbley, low-complexity CNNs for DCASE 2022 Task 1, Section 4 (similarity analysis); there by the
mean squared error over examples, here relative to the map, since maps differ in size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, fx, nn

from edgeq.batches import batches
from edgeq.compress.channels import Channels, channels_of
from edgeq.errors import InputError
from edgeq.nets import registry
from edgeq.nets.ensemble import channelwise_end, convolution, trace
from edgeq.nets.quaternion import QuaternionConv2d
from edgeq.nets.spec import ArchitectureSpec, EnsembleSpec, SharedMaps


def share(
    network: nn.Module, spec: EnsembleSpec, tolerance: float, inputs: np.ndarray
) -> tuple[nn.Module, EnsembleSpec, tuple[str, ...]]:
    """Let members of an ensemble take over maps from earlier ones.

    network: of this spec, in evaluation mode; it is not changed. tolerance: a map is taken over where the L2 norm of
    its difference to the other is at most this part of its own norm, over all inputs, behind batch norm, activation and
    pool; the nearest is taken. 0 asks for equality to the last bit. inputs: float32 (n, components, mels, frames).
    Returns the smaller network, its spec, and one line for each kind of layer that shares nothing, and why.
    Raises InputError where the tolerance is no number from 0 up, maps are shared already, or no two members have a
    layer that can share: members of one family, and real convolutions whose channels no sum and no depthwise
    convolution ties to others.
    """
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise InputError(f"tolerance {tolerance}: expected a number from 0 up")
    if spec.shared:
        raise InputError("the members share maps already: merge them again, then share")
    families: dict[str, list[int]] = {}
    for number, member in enumerate(spec.members):
        families.setdefault(member.family, []).append(number)
    notes, possible = [], []
    for family, numbers in families.items():
        if len(numbers) == 1:
            notes.append(f"{family}: one member only: shares no maps")
            continue
        layers, reasons = _layers(spec.members[numbers[0]])
        possible += [(layer, numbers) for layer in layers]
        notes += reasons
    if not possible:
        raise InputError(f"no maps can be shared: {'; '.join(notes)}; leave out the tolerance")
    for layer, numbers in possible:
        matches = _matches(network, layer, numbers, tolerance, inputs)
        if any(match.taken for match in matches.values()):
            network, spec = _rebuilt(network, spec, layer, matches)
    return network, spec, tuple(notes)


@dataclass(frozen=True)
class _Match:
    """What a member's layer keeps, and takes over: its channels, as (own, source, the source's channel)."""

    own: list[int]
    taken: list[tuple[int, int, int]]

    @property
    def order(self) -> list[int]:
        """The member's channels as they come to lie: those that it computes, then those taken over."""
        return [*self.own, *(channel for channel, _, _ in self.taken)]


def _layers(spec: ArchitectureSpec) -> tuple[list[str], list[str]]:
    """The layers of a network whose maps can be shared, in order; and why others cannot."""
    channels = channels_of(spec)
    with torch.device("meta"):
        network = registry.build(spec)
    possible: list[str] = []
    tied: list[str] = []
    quaternion: list[str] = []
    for layer, ids in channels.outputs.items():
        module = network.get_submodule(layer)
        if isinstance(module, QuaternionConv2d):
            quaternion.append(layer)
        elif isinstance(module, nn.Conv2d) and not channels.fixed & set(ids.tolist()):
            alone = channels.tied(layer) == (layer,) and len(set(ids.tolist())) == len(ids)
            (possible if alone else tied).append(layer)
    reasons = []
    if quaternion:
        reasons.append(f"{spec.family}: quaternion layers share no maps, of which four belong together")
    if tied:
        reasons.append(
            f"{spec.family}: {len(tied)} convolutions share no maps, since a sum or a depthwise convolution ties their "
            "channels to others"
        )
    return possible, reasons


def _matches(
    network: nn.Module, layer: str, numbers: Sequence[int], tolerance: float, inputs: np.ndarray
) -> dict[int, _Match]:
    """For each of these members what it takes over in a layer from those before it."""
    distances, energies = _distances(network, layer, numbers, inputs)
    found: dict[int, _Match] = {}
    for member in numbers:
        own, taken = [], []
        for channel, energy in enumerate(energies[member]):
            nearest = min(
                (
                    # Of equally near ones, as dead maps are, that at the channel's own place: runs stay whole.
                    (float(distances[source, member][channel, other]), source, abs(other - channel), other)
                    for source, match in found.items()
                    for other in match.own
                ),
                default=(math.inf, 0, 0, 0),
            )
            if math.sqrt(nearest[0]) <= tolerance * math.sqrt(energy):
                taken.append((channel, nearest[1], nearest[3]))
            else:
                own.append(channel)
        found[member] = _Match(own, sorted(taken, key=lambda one: (*one[1:], one[0])))
    return found


def _distances(
    network: nn.Module, layer: str, numbers: Sequence[int], inputs: np.ndarray
) -> tuple[dict[tuple[int, int], np.ndarray], dict[int, np.ndarray]]:
    """Squared L2 distances (channels of a member, of an earlier one) by (earlier, member); squared norms by member."""
    traced = trace(network)
    ends = {number: channelwise_end(traced, convolution(traced, f"members.{number}.{layer}"))[-1] for number in numbers}
    distances: dict[tuple[int, int], np.ndarray] = {}
    energies: dict[int, np.ndarray] = {}
    for batch in batches(inputs, keep=True):
        run = fx.Interpreter(traced, garbage_collect_values=False)
        with torch.inference_mode():
            run.run(torch.from_numpy(np.ascontiguousarray(batch)))
        maps = {number: run.env[node].numpy() for number, node in ends.items()}
        for place, member in enumerate(numbers):
            own = maps[member]
            energies[member] = energies.get(member, 0) + np.square(own, dtype=np.float64).sum((0, 2, 3))
            for source in numbers[:place]:
                # Differences, not products of norms, so that equal maps are 0 apart.
                apart = np.stack([np.square(own[:, [n]] - maps[source]).sum((0, 2, 3)) for n in range(own.shape[1])])
                distances[source, member] = distances.get((source, member), 0) + apart.astype(np.float64)
    return distances, energies


def _rebuilt(
    network: nn.Module, spec: EnsembleSpec, layer: str, matches: Mapping[int, _Match]
) -> tuple[nn.Module, EnsembleSpec]:
    """The ensemble in which a layer's maps are taken over."""
    weights = network.state_dict()
    shared = list(spec.shared)
    for member, match in matches.items():
        if match.taken:
            _reorder(weights, f"members.{member}.", channels_of(spec.members[member]), layer, match)
            shared += _entries(member, layer, match, matches)
    smaller = replace(spec, shared=tuple(shared))
    with torch.device("meta"):
        rebuilt = registry.build(smaller)
    rebuilt.load_state_dict({name: weights[name] for name in rebuilt.state_dict()}, assign=True)
    return rebuilt.train(network.training), smaller


def _entries(member: int, layer: str, match: _Match, matches: Mapping[int, _Match]) -> list[SharedMaps]:
    """What a layer takes over, as runs of its sources' channels."""
    found: list[SharedMaps] = []
    for _, source, channel in match.taken:
        place = matches[source].own.index(channel)
        last = found[-1] if found else None
        if last is not None and last.source == source and last.start + last.channels == place:
            found[-1] = replace(last, channels=last.channels + 1)
        else:
            found.append(SharedMaps(member, layer, source, place, 1))
    return found


def _reorder(weights: dict[str, Tensor], prefix: str, channels: Channels, layer: str, match: _Match) -> None:
    """Put a layer's channels in their new order where they are read, and keep its own only where they are made."""
    ids = channels.outputs[layer]
    own = torch.tensor(match.own, dtype=torch.int64)
    for name in (f"{layer}.weight", f"{layer}.bias"):
        _select(weights, prefix + name, 0, own)
    for norm, entries in channels.norms.items():
        if np.array_equal(entries, ids):
            for field in ("weight", "bias", "running_mean", "running_var"):
                _select(weights, f"{prefix}{norm}.{field}", 0, own)
    for reader, read in channels.inputs.items():
        columns = np.arange(len(read))
        for channel, before in zip(ids, ids[match.order], strict=True):
            columns[read == channel] = np.flatnonzero(read == before)
        if (columns != np.arange(len(read))).any():
            _select(weights, f"{prefix}{reader}.weight", 1, torch.from_numpy(columns))


def _select(weights: dict[str, Tensor], name: str, axis: int, places: Tensor) -> None:
    if name in weights:
        weights[name] = weights[name].index_select(axis, places.to(weights[name].device))
