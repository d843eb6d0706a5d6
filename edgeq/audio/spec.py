"""What a front end is as plain data, and the ones that edgeq knows by name."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from edgeq.errors import InputError

DERIVATIVE_ORDERS = (1, 2, 3)
DERIVATIVE_WIDTHS = {"none": 9, "time": 9, "power-frequency": 5}
"""Choices of FrontendSpec.derivatives, with the derivative_width that `with_derivatives` gives each."""

_MAX_INPUT_VALUES = 1 << 26
_MAX_STATISTIC = 1e6  # of a normalised component: keeps every feature inside float32
_CHOICES = {
    "window": ("hann", "hamming"),
    "mel_scale": ("slaney", "htk"),
    "mel_norm": ("slaney", "none"),
    "log": ("db", "ln"),
    "floor_rule": ("add", "max"),
    "derivatives": tuple(DERIVATIVE_WIDTHS),
    "pad": ("zero", "repeat"),
}


@dataclass(frozen=True)
class FrontendSpec:
    """Everything that turns a recording into network inputs, as plain data.

    Log-mel. sample_rate (Hz); n_fft, win_length, hop_length (samples); window ("hann" or "hamming", periodic);
    centre (frames centred on their hop, edges reflected); power (1 magnitude, 2 power); n_mels; fmin, fmax (Hz);
    mel_scale ("slaney" or "htk"); mel_norm ("slaney" area or "none"); log ("db": 10 log10, "ln": natural);
    floor with floor_rule ("add": log(max(x, 0) + floor), "max": log(max(x, floor))).

    Network input. derivatives: "none" (1 component), or one of two readings of the quaternion paper's Eq. 8 (4), see
    below; derivative_width: frames or bins that a derivative looks at, odd; mean, std: one a component, subtracted and
    divided.

    Derivatives "time" are what the paper says: log-mel and its first three derivatives over time, per frame. Eq. 8
    names no formula; edgeq's is Savitzky-Golay with order = polynomial order = 1, 2, 3 (with width 9, what
    librosa.feature.delta computes away from the edges), taken inside the window, edges replicated.

    Derivatives "power-frequency" are what the paper's public code computes (audio-pruning, pytorch/QMOdel.py, where
    torchaudio's compute_deltas meets a map whose last axis is frequency): regression deltas (width 5:
    [-2, -1, 0, 1, 2] / 10, edges replicated) over the bins of the power spectrogram, before mel filters and log,
    applied once, twice and three times; then each through the same mel filters, log and floor as the spectrogram. They
    say nothing about time. A delta is negative about as often as positive, the floor swallows what is negative, and
    where it fell is not visible: in white noise, with panns-32k, 0, 50, 46 and 50 % of the cells of the four components
    lie at -100 dB. They cannot be computed from a log-mel, hence are rows of it (`logmel_rows`). Needs power 2.

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
        self._check_choices()
        self._check_stft()
        self._check_mel()
        self._check_input()
        self._check_windows()

    @property
    def components(self) -> int:
        """Channels of the network input: 1, or 4 with derivatives."""
        return 1 if self.derivatives == "none" else 1 + len(DERIVATIVE_ORDERS)

    @property
    def logmel_rows(self) -> int:
        """Rows of what `logmel` gives: n_mels, or with derivatives "power-frequency" the mels of each component."""
        return self.n_mels * (self.components if self.derivatives == "power-frequency" else 1)

    @property
    def window_frames(self) -> int:
        """Frames of one network window."""
        return round(self.window_seconds * self.sample_rate / self.hop_length) + int(self.end_frame)

    @property
    def window_hop_frames(self) -> int:
        """Frames between the starts of two windows."""
        return max(1, round(self.window_hop_seconds * self.sample_rate / self.hop_length))

    @property
    def window_samples(self) -> int:
        """Samples that a recording needs for one window; `pad` fills up to it."""
        for_frames = (self.window_frames - 1) * self.hop_length + (0 if self.centre else self.n_fft)
        return max(round(self.window_seconds * self.sample_rate), for_frames, self.least_samples)

    @property
    def least_samples(self) -> int:
        """Samples of the shortest waveform that `logmel` takes: one STFT window, and enough to reflect at the edges."""
        return max(self.win_length, self.n_fft // 2 + 1) if self.centre else self.n_fft

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(components, mels, frames) of one window."""
        return self.components, self.n_mels, self.window_frames

    @property
    def hash(self) -> str:
        """sha256 of the fields, in hexadecimal: equal when two specs compute the same thing."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values, which `from_json` takes."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> FrontendSpec:
        """Rebuild a spec. Raises InputError where a field is missing, unknown or of the wrong kind."""
        if not isinstance(values, Mapping):
            raise InputError(f"front end: found {type(values).__name__}, expected an object with the fields of a spec")
        names = {f.name for f in fields(cls)}
        if set(values) != names:
            unknown = sorted(str(key) for key in set(values) - names)
            raise InputError(f"front end: unknown fields {unknown}, missing fields {sorted(names - set(values))}")
        return cls(**values)

    def _check_choices(self) -> None:
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if not isinstance(value, str) or value not in choices:
                raise _wrong(name, value, " or ".join(repr(choice) for choice in choices))
        for name in ("centre", "end_frame"):
            if not isinstance(getattr(self, name), bool):
                raise _wrong(name, getattr(self, name), "true or false")

    def _check_stft(self) -> None:
        self._integer("sample_rate", 1_000, 768_000)
        self._integer("n_fft", 16, 1 << 16)
        if self.n_fft % 2:
            raise _wrong("n_fft", self.n_fft, "an even number of samples")
        self._integer("win_length", 2, self.n_fft, "n_fft")
        self._integer("hop_length", 1, self.n_fft, "n_fft")
        self._number("power", 1.0, 2.0)
        if self.power not in (1.0, 2.0):
            raise _wrong("power", self.power, "1 (magnitude) or 2 (power)")
        if self.derivatives == "power-frequency" and self.power != 2.0:
            raise _wrong("power", self.power, "2 (power) with derivatives 'power-frequency'")

    def _check_mel(self) -> None:
        self._integer("n_mels", 1, 512)
        self._number("fmax", 0.0, self.sample_rate / 2, "half the sample rate")
        self._number("fmin", 0.0, self.fmax, "fmax")
        if self.fmin == self.fmax:
            raise _wrong("fmin", self.fmin, f"a frequency below fmax, {self.fmax:g} Hz")
        self._number("floor", 1e-30, 1.0)

    def _check_input(self) -> None:
        self._integer("derivative_width", 5, 255)
        if self.derivative_width % 2 == 0:
            raise _wrong("derivative_width", self.derivative_width, "an odd number of frames or bins")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if not isinstance(values, (tuple, list)) or len(values) != self.components:
                raise _wrong(name, values, f"{self.components} numbers, one a component")
            least = -_MAX_STATISTIC if name == "mean" else 1 / _MAX_STATISTIC
            if not all(_is_finite(value) and least <= value <= _MAX_STATISTIC for value in values):
                raise _wrong(name, values, f"numbers from {least:g} to {_MAX_STATISTIC:g}")
            object.__setattr__(self, name, tuple(float(value) for value in values))

    def _check_windows(self) -> None:
        self._number("window_seconds", 1e-3, 3600.0)
        self._number("window_hop_seconds", 1e-3, 3600.0)
        if self.gate is not None:
            self._number("gate", -1e6, 1e6)
        if self.window_frames < 1:
            raise _wrong("window_seconds", self.window_seconds, f"at least a hop of {self.hop_length} samples")
        if math.prod(self.input_shape) > _MAX_INPUT_VALUES:
            raise _wrong("window_seconds", self.window_seconds, f"at most {_MAX_INPUT_VALUES} values a window")

    def _integer(self, name: str, least: int, most: int, most_name: str = "") -> None:
        value = getattr(self, name)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise _wrong(
                name, value, f"a whole number from {least} to {most}" + (f" ({most_name})" if most_name else "")
            )

    def _number(self, name: str, least: float, most: float, most_name: str = "") -> None:
        value = getattr(self, name)
        if not _is_finite(value) or not least <= value <= most:
            raise _wrong(name, value, f"a number from {least:g} to {most:g}" + (f" ({most_name})" if most_name else ""))
        # 1 and 1.0 must give the same hash.
        object.__setattr__(self, name, float(value))


def _is_finite(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    # Whole numbers that a float holds exactly.
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 1 << 53


def _wrong(name: str, value: object, expected: str) -> InputError:
    return InputError(f"front end: {name} is {str(value)[:80]!r}, expected {expected}")


PRESETS: dict[str, FrontendSpec] = {
    # PANNs (Kong et al. 2020): 10-s clips, 1001 frames of 10 ms.
    "panns-32k": FrontendSpec(
        sample_rate=32_000,
        n_fft=1024,
        win_length=1024,
        hop_length=320,
        n_mels=64,
        fmin=50.0,
        fmax=14_000.0,
        window_seconds=10.0,
        window_hop_seconds=5.0,
        end_frame=True,
    ),
    # Baseline of DCASE 2022 Task 1: 40 x 51, natural log of a magnitude mel spectrogram plus the spacing of 1.0.
    "dcase2022": FrontendSpec(
        sample_rate=44_100,
        n_fft=2048,
        win_length=1764,
        hop_length=882,
        n_mels=40,
        fmin=0.0,
        fmax=22_050.0,
        window="hamming",
        power=1.0,
        log="ln",
        floor=2.0**-52,
        floor_rule="add",
        end_frame=True,
    ),
    # Gate: the loudest cell of a full-scale sine is near 30 dB, and of the quietest clip of ESC-10 near -8 dB; below
    # -30 dB lie digital silence and what no microphone hears.
    "edge-32k": FrontendSpec(
        sample_rate=32_000,
        n_fft=1024,
        win_length=1024,
        hop_length=640,
        n_mels=64,
        fmin=50.0,
        fmax=16_000.0,
        floor=1e-6,
        floor_rule="add",
        gate=-30.0,
    ),
    # The same 32-ms window, 31.25-Hz bins and 20-ms hop as edge-32k: every one of the 64 filters still spans a bin, and
    # the FFT, which a micro-controller pays for each frame, is half as long. Half the samples a window are 6 dB less
    # power, hence the lower gate.
    "edge-16k": FrontendSpec(
        sample_rate=16_000,
        n_fft=512,
        win_length=512,
        hop_length=320,
        n_mels=64,
        fmin=50.0,
        fmax=8_000.0,
        floor=1e-6,
        floor_rule="add",
        gate=-36.0,
    ),
}


def with_derivatives(spec: FrontendSpec, derivatives: str = "time") -> FrontendSpec:
    """The same front end with other derivatives, in their usual width, not normalised yet (mean 0, std 1).

    derivatives: "time" or "power-frequency", the two readings of Eq. 8 with 4 components, or "none"; see FrontendSpec.
    Raises InputError where it is another, or the front end does not suit it.
    """
    components = 1 if derivatives == "none" else 1 + len(DERIVATIVE_ORDERS)
    return replace(
        spec,
        derivatives=derivatives,
        derivative_width=DERIVATIVE_WIDTHS.get(derivatives, spec.derivative_width),
        mean=(0.0,) * components,
        std=(1.0,) * components,
    )
