"""From a waveform to what a network sees: the one definition that torch, streaming and C are tested against."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from edgeq.errors import InputError


@dataclass(frozen=True)
class FrontendSpec:
    """Everything that turns a recording into network inputs, as plain data.

    Log-mel. sample_rate (Hz); n_fft, win_length, hop_length (samples); window ("hann" or "hamming", periodic);
    centre (frames centred on their hop, edges reflected); power (1 magnitude, 2 power); n_mels; fmin, fmax (Hz);
    mel_scale ("slaney" or "htk"); mel_norm ("slaney" area or "none"); log ("db": 10 log10, "ln": natural);
    floor with floor_rule ("add": log(x + floor), "max": log(max(x, floor))).

    Network input. derivatives: "none" (1 component) or "time" (4: log-mel and its first three time derivatives,
    quaternion paper Eq. 8, as Savitzky-Golay of width derivative_width and order = polynomial order = 1, 2, 3,
    taken inside the window with edges replicated); mean, std: one a component, subtracted and divided.

    Windows. window_seconds, window_hop_seconds; end_frame: whether a window holds the frame centred on its end (51
    frames a second at 20 ms) or not (50); pad: what fills a recording shorter than a window ("zero": silence behind
    it, "repeat": itself); gate: a window whose largest log-mel value (before normalisation) is below this is gated,
    None gates nothing.

    Raises InputError where a field is out of range, naming it.
    """

    sample_rate: int
    n_fft: int
    win_length: int
    hop_length: int
    n_mels: int
    fmin: float
    fmax: float
    window: str = "hann"
    centre: bool = True
    power: float = 2.0
    mel_scale: str = "slaney"
    mel_norm: str = "slaney"
    log: str = "db"
    floor: float = 1e-10
    floor_rule: str = "max"
    derivatives: str = "none"
    derivative_width: int = 9
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    window_seconds: float = 1.0
    window_hop_seconds: float = 0.5
    end_frame: bool = False
    pad: str = "zero"
    gate: float | None = None

    def __post_init__(self) -> None:
        raise NotImplementedError

    @property
    def components(self) -> int:
        """Channels of the network input: 1, or 4 with derivatives."""
        return 4 if self.derivatives == "time" else 1

    @property
    def window_frames(self) -> int:
        """Frames of one network window."""
        return round(self.window_seconds * self.sample_rate / self.hop_length) + int(self.end_frame)

    @property
    def window_hop_frames(self) -> int:
        """Frames between the starts of two windows."""
        return max(1, round(self.window_hop_seconds * self.sample_rate / self.hop_length))

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(components, mels, frames) of one window."""
        return self.components, self.n_mels, self.window_frames

    @property
    def hash(self) -> str:
        """sha256 of the fields, in hexadecimal: equal when two specs compute the same thing."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> FrontendSpec:
        """Rebuild a spec. Raises InputError where a field is missing, unknown or of the wrong kind."""
        names = {f.name for f in fields(cls)}
        if set(values) != names:
            raise InputError(
                f"front end: unknown fields {sorted(set(values) - names)}, missing fields {sorted(names - set(values))}"
            )
        return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})
