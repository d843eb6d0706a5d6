"""What an architecture is as plain data: enough to rebuild a network, never pickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from edgeq.errors import InputError

OUTPUTS = ("softmax", "sigmoid")

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
    def from_json(cls, fields: Mapping[str, Any]) -> ArchitectureSpec:
        """Rebuild a spec. Raises InputError where a field is missing, unknown or of the wrong kind."""
        expected = ("family", "widths", "classes", "input_shape", "output")
        unknown, missing = set(fields) - set(expected), set(expected) - set(fields)
        if unknown or missing:
            raise InputError(f"architecture: unknown fields {sorted(unknown)}, missing fields {sorted(missing)}")
        if not isinstance(fields["family"], str):
            raise InputError(f"architecture: family {fields['family']!r}: expected a name")
        for name in ("widths", "input_shape"):
            if not isinstance(fields[name], (list, tuple)):
                raise InputError(f"architecture: {name} {fields[name]!r}: expected a list of integers")
        return cls(**{**fields, "widths": tuple(fields["widths"]), "input_shape": tuple(fields["input_shape"])})


def _positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < _LIMIT
