"""What every runtime looks like from outside, and what it asks of its input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from edgeq.errors import InputError


class Runtime(Protocol):
    """A model ready to run.

    name: a key of RUNTIMES. input_shape: (components, mels, frames) of one window. classes: number of outputs.
    int8: whether the file itself takes int8; the conversion is done inside. metadata: what the file says
    about itself, see `embedded`; nothing where there is no file.
    """

    name: str
    input_shape: tuple[int, int, int]
    classes: int
    int8: bool

    @property
    def metadata(self) -> Mapping[str, str]: ...

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Probabilities of windows.

        features: float32 (n, components, mels, frames), n from 0; a batch at a time, see `batches`. Returns float32
        (n, classes).
        Raises InputError where the features have another shape or kind, or hold NaN or infinity.
        """
        ...


def check_features(features: np.ndarray, input_shape: tuple[int, int, int]) -> None:
    """Raises InputError where features are not finite float32 (n, *input_shape)."""
    if not isinstance(features, np.ndarray) or features.dtype != np.float32:
        found = features.dtype if isinstance(features, np.ndarray) else type(features).__name__
        raise InputError(f"features: found {found}, expected a float32 array; convert with .astype(np.float32)")
    if features.ndim != 4 or features.shape[1:] != input_shape:
        expected = ", ".join(map(str, input_shape))
        raise InputError(f"features of shape {features.shape}: expected (n, {expected}): components, mels, frames")
    if not np.isfinite(features).all():
        raise InputError("features: NaN or infinity; look for them in the recording")


def as_input_shape(where: str, sizes: tuple[object, ...], layout: str) -> tuple[int, int, int]:
    """(components, mels, frames) of a model's input without its batch axis; layout "CHW" or "HWC".

    Raises InputError where it is not three fixed sizes.
    """
    if len(sizes) != 3 or any(not isinstance(size, int) or size < 1 for size in sizes):
        raise InputError(
            f"{where}: takes inputs of shape {sizes}, expected three fixed sizes: not one of edgeq's models"
        )
    named = dict(zip(layout, (int(str(size)) for size in sizes), strict=True))
    return named["C"], named["H"], named["W"]


def unreadable(where: str, runtime: str, error: Exception) -> InputError:
    """The one line for a file that a runtime does not take, whatever the runtime had to say."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return InputError(f"{where}: {runtime} cannot run it ({reason}); export it again")


def missing(package: str, mend: str) -> InputError:
    """The one line for a runtime that is not installed."""
    return InputError(f"{package} is not installed; run: {mend}")
