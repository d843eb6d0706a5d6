"""What an architecture is as plain data: enough to rebuild a network, never pickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from edgeq.errors import InputError

OUTPUTS = ("softmax", "sigmoid")

ENSEMBLE = "ensemble"
"""The family of an ensemble, which no network of its own has."""

MOST_MEMBERS = 64

_LIMIT = 1 << 31  # what runtimes count with


class InputTooSmall(InputError):
    """A window with fewer mels or frames than a network's pools need. least_frames: how many they need."""

    def __init__(self, message: str, least_frames: int) -> None:
        super().__init__(message)
        self.least_frames = least_frames


@dataclass(frozen=True)
class ArchitectureSpec:
    """A network as plain data; a pruned network is the same family with smaller widths.

    family: key of `nets.registry.FAMILIES`, which says what `widths` mean.
    widths: real channel counts layer by layer (a quaternion layer of width 16 holds 4 quaternions).
    classes: number of outputs, at least 2.
    input_shape: (components, mels, frames) of one window.
    output: "softmax" for one label a clip, "sigmoid" for many.
    Raises InputError where a field is out of range.
    """

    family: str
    widths: tuple[int, ...]
    classes: int
    input_shape: tuple[int, int, int]
    output: str = "softmax"

    def __post_init__(self) -> None:
        if not self.widths or any(not _positive(w) for w in self.widths):
            raise InputError(f"{self.family}: widths {self.widths!r}: expected positive integers")
        if not _positive(self.classes) or self.classes < 2:
            raise InputError(f"{self.family}: {self.classes!r:.100} classes: expected at least 2, below {_LIMIT:,}")
        if len(self.input_shape) != 3 or any(not _positive(n) for n in self.input_shape):
            raise InputError(
                f"{self.family}: input_shape {self.input_shape!r}: expected (components, mels, frames), each at least 1"
            )
        if self.output not in OUTPUTS:
            raise InputError(f"{self.family}: output {self.output!r}: expected one of {', '.join(OUTPUTS)}")

    def with_classes(self, classes: int) -> ArchitectureSpec:
        """The same network for another number of classes. Raises InputError where that is below 2."""
        return replace(self, classes=classes)

    def with_input_shape(self, input_shape: tuple[int, int, int]) -> ArchitectureSpec:
        """The same network for windows of another shape. Raises InputError where a size is below 1."""
        return replace(self, input_shape=input_shape)

    def __str__(self) -> str:
        return f"{self.family} {list(self.widths)}"

    def check_input(self, least_mels: int, least_frames: int) -> None:
        """Raises InputTooSmall where a window has fewer mels or frames than that."""
        _, mels, frames = self.input_shape
        if mels < least_mels or frames < least_frames:
            raise InputTooSmall(
                f"{self.family}: input of {mels} mels x {frames} frames: "
                f"expected at least {least_mels} x {least_frames} for its pools",
                least_frames,
            )

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values, which `from_json` takes."""
        return {**asdict(self), "widths": list(self.widths), "input_shape": list(self.input_shape)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ArchitectureSpec:
        """Rebuild a spec. Raises InputError where a field is missing, unknown or of the wrong kind."""
        _check_fields("architecture", values, tuple(field.name for field in fields(cls)))
        if not isinstance(values["family"], str):
            raise InputError(f"architecture: family {values['family']!r}: expected a name")
        for name in ("widths", "input_shape"):
            if not isinstance(values[name], (list, tuple)):
                raise InputError(f"architecture: {name} {values[name]!r}: expected a list of integers")
        return cls(**{**values, "widths": tuple(values["widths"]), "input_shape": tuple(values["input_shape"])})


@dataclass(frozen=True)
class SharedMaps:
    """Maps that a member of an ensemble takes over from an earlier one instead of computing them.

    The last channels of a convolution of member `member`, `layer` by its name in the network, are channels
    [start, start + channels) of those that member `source` computes itself in the layer of that name. Members are
    numbered from 0.
    Raises InputError where the source is no earlier member, or there are no channels.
    """

    member: int
    layer: str
    source: int
    start: int
    channels: int

    def __post_init__(self) -> None:
        if not isinstance(self.layer, str):
            raise InputError(f"ensemble: shared maps of layer {self.layer!r:.100}: expected its name")
        for name, least in (("member", 1), ("source", 0), ("start", 0), ("channels", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value < _LIMIT:
                raise InputError(
                    f"ensemble: shared maps of {self.layer:.100}: {name} {value!r:.100}: expected {least} or more"
                )
        if self.source >= self.member:
            raise InputError(
                f"ensemble: shared maps of {self.layer:.100}: member {self.member} takes them from {self.source}: "
                "expected an earlier member"
            )


@dataclass(frozen=True)
class EnsembleSpec:
    """Several networks on one input, whose probabilities are averaged: one network.

    members: each as wide as its layers' maps are, shared ones included. shared: maps that are computed once; a layer's
    entries stand in the order of its channels, after those that it computes itself. Quaternion layers, and layers that
    are tied by a sum or a depthwise convolution, share none.
    Raises InputError where there are fewer than 2 members or more than MOST_MEMBERS, one is an ensemble itself, they
    differ in classes, input or output, or an entry of `shared` names no two members of one family.
    """

    members: tuple[ArchitectureSpec, ...]
    shared: tuple[SharedMaps, ...] = ()

    def __post_init__(self) -> None:
        if not 2 <= len(self.members) <= MOST_MEMBERS:
            raise InputError(f"ensemble: {len(self.members)} members: expected 2 to {MOST_MEMBERS}")
        first = self.members[0]
        for number, member in enumerate(self.members):
            if not isinstance(member, ArchitectureSpec) or member.family == ENSEMBLE:
                raise InputError(f"ensemble: member {number} is an ensemble itself: name its members instead")
            for field in ("classes", "input_shape", "output"):
                one, other = getattr(first, field), getattr(member, field)
                if one != other:
                    raise InputError(
                        f"ensemble: {field} of member 0 is {one}, of member {number} {other}: expected one for all"
                    )
        for entry in self.shared:
            if entry.member >= len(self.members):
                raise InputError(
                    f"ensemble: shared maps of {entry.layer:.100}: member {entry.member}: expected at most "
                    f"{len(self.members) - 1}"
                )
            families = self.members[entry.source].family, self.members[entry.member].family
            if len(set(families)) > 1:
                raise InputError(
                    f"ensemble: shared maps of {entry.layer:.100}: of members {' and '.join(families)}: expected one "
                    "family"
                )

    @property
    def family(self) -> str:
        """ENSEMBLE."""
        return ENSEMBLE

    @property
    def classes(self) -> int:
        """Number of outputs."""
        return self.members[0].classes

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(components, mels, frames) of one window."""
        return self.members[0].input_shape

    @property
    def output(self) -> str:
        """As ArchitectureSpec's; of a "sigmoid" output each class's probability is averaged."""
        return self.members[0].output

    def borrowed(self, member: int, layer: str) -> tuple[SharedMaps, ...]:
        """The entries of `shared` for one layer of a member, in the order of its channels."""
        return tuple(entry for entry in self.shared if (entry.member, entry.layer) == (member, layer))

    def with_classes(self, classes: int) -> EnsembleSpec:
        """The same ensemble for another number of classes. Raises InputError where that is below 2."""
        return replace(self, members=tuple(member.with_classes(classes) for member in self.members))

    def with_input_shape(self, input_shape: tuple[int, int, int]) -> EnsembleSpec:
        """The same ensemble for windows of another shape. Raises InputError where a size is below 1."""
        return replace(self, members=tuple(member.with_input_shape(input_shape) for member in self.members))

    def __str__(self) -> str:
        return f"{self.family} of {', '.join(map(str, self.members))}"

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values, which `from_json` takes."""
        return {
            "family": self.family,
            "members": [member.to_json() for member in self.members],
            "shared": [asdict(entry) for entry in self.shared],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EnsembleSpec:
        """Rebuild a spec. Raises InputError where a field is missing, unknown or of the wrong kind."""
        _check_fields("ensemble", values, ("family", "members", "shared"))
        for name in ("members", "shared"):
            listed = values[name]
            if not isinstance(listed, (list, tuple)) or any(not isinstance(one, Mapping) for one in listed):
                raise InputError(f"ensemble: {name} {listed!r:.100}: expected a list of objects")
        if len(values["members"]) > MOST_MEMBERS:
            raise InputError(f"ensemble: {len(values['members'])} members: expected 2 to {MOST_MEMBERS}")
        if any(member.get("family") == ENSEMBLE for member in values["members"]):
            raise InputError("ensemble: a member is an ensemble itself: name its members instead")
        for entry in values["shared"]:
            _check_fields("ensemble: shared maps", entry, tuple(field.name for field in fields(SharedMaps)))
        return cls(
            tuple(ArchitectureSpec.from_json(member) for member in values["members"]),
            tuple(SharedMaps(**entry) for entry in values["shared"]),
        )


NetworkSpec = ArchitectureSpec | EnsembleSpec
"""What a network is, wherever one network or an ensemble will do."""


def from_json(values: Mapping[str, Any]) -> NetworkSpec:
    """The spec, of either kind, that `to_json` wrote. Raises InputError where it is neither."""
    kind = EnsembleSpec if values.get("family") == ENSEMBLE else ArchitectureSpec
    return kind.from_json(values)


def _check_fields(what: str, values: Mapping[str, Any], expected: tuple[str, ...]) -> None:
    unknown, missing = set(values) - set(expected), set(expected) - set(values)
    if unknown or missing:
        raise InputError(f"{what}: unknown fields {sorted(unknown)}, missing fields {sorted(missing)}")


def _positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < _LIMIT
