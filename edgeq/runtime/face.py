"""What every runtime looks like from outside, and what it asks of its input."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from edgeq.errors import InputError


class Runtime(Protocol):
    """A model ready to run.

    name: a key of RUNTIMES. input_shape: of one window: (components, mels, frames) of edgeq's models, whatever others
    have. classes: number of outputs. int8: whether the file itself takes int8; the conversion is done inside. metadata:
    what the file says about itself, see `embedded`; nothing where there is no file.
    """

    name: str
    input_shape: tuple[int, ...]
    classes: int
    int8: bool

    @property
    def metadata(self) -> Mapping[str, str]: ...

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Probabilities of windows.

        features: float32 (n, *input_shape), n from 0; a batch at a time, see `batches`. Returns float32 (n, classes).
        Raises InputError where the features have another shape or kind, or hold NaN or infinity.
        """
        ...


def check_features(features: np.ndarray, input_shape: tuple[int, ...]) -> None:
    """Raises InputError where features are not finite float32 (n, *input_shape)."""
    if not isinstance(features, np.ndarray) or features.dtype != np.float32:
        found = features.dtype if isinstance(features, np.ndarray) else type(features).__name__
        raise InputError(f"features: found {found}, expected a float32 array; convert with .astype(np.float32)")
    if features.shape[1:] != input_shape or not features.ndim:
        expected = ", ".join(("n", *map(str, input_shape)))
        named = ": components, mels, frames" if len(input_shape) == 3 else ""
        raise InputError(f"features of shape {features.shape}: expected ({expected}){named}")
    # A sum of squares is finite only where all values are: a third of the time of looking at each of them.
    if not math.isfinite(np.vdot(features, features)) and not np.isfinite(features).all():
        raise InputError("features: NaN or infinity; look for them in the recording")


def as_input_shape(where: str, sizes: tuple[object, ...], layout: str) -> tuple[int, ...]:
    """The shape of a model's input without its batch axis: three sizes as (components, mels, frames), others as given.

    layout: of three sizes, "CHW" or "HWC". Raises InputError where one is not fixed.
    """
    if not sizes or any(not isinstance(size, int) or size < 1 for size in sizes):
        raise InputError(f"{where}: takes inputs of shape {sizes}, expected fixed sizes: not one of edgeq's models")
    fixed = tuple(int(str(size)) for size in sizes)
    return tuple(fixed[layout.index(axis)] for axis in "CHW") if len(fixed) == 3 else fixed


def channels_last(features: np.ndarray) -> np.ndarray:
    """Windows as .tflite files take them: (n, mels, frames, components); those of other ranks stay as they are."""
    return np.ascontiguousarray(features.transpose(0, 2, 3, 1) if features.ndim == 4 else features)


def unreadable(where: str, runtime: str, error: Exception) -> InputError:
    """The one line for a file that a runtime does not take, whatever the runtime had to say."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return InputError(f"{where}: {runtime} cannot run it ({reason}); export it again")


def missing(package: str, mend: str) -> InputError:
    """The one line for a runtime that is not installed."""
    return InputError(f"{package} is not installed; run: {mend}")
