"""Synthetic sounds that every machine makes alike, and what the float network answers: the gate that needs no data."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgeq.audio.frontend import FrontendSpec, cut, features, logmel
from edgeq.errors import InputError

COUNT = 64
"""Fewest goldens that a gate rests on."""

LEAST_MARGIN = 0.5
"""Distance between the two largest probabilities from which the float network counts as decisive."""

TOP1, SQNR = "top1", "sqnr"

_MAX_COUNT = 4096
_BATCH = 64
_CANDIDATES = 1024


@dataclass(frozen=True, eq=False)
class Goldens:
    """Seeds of synthetic inputs and the float network's answers.

    seeds: int64 (n,). outputs: probabilities, float32 (n, classes). gate: what INT8 stages are judged by: "top1"
    agreement, or "sqnr" of the logits where the network is undecided: random weights, or hardly trained.
    """

    seeds: np.ndarray
    outputs: np.ndarray
    gate: str = TOP1

    def to_bytes(self) -> bytes:
        """As safetensors: tensors seeds and outputs, metadata gate."""
        from safetensors.numpy import save  # a board that only runs exported files needs none

        return save({"seeds": self.seeds, "outputs": self.outputs}, metadata={"gate": self.gate})

    @classmethod
    def from_bytes(cls, data: bytes) -> Goldens:
        """Read what `to_bytes` wrote. Raises InputError where it is something else."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            tensors = load(data)
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        except (SafetensorError, ValueError, KeyError) as error:
            raise InputError(f"goldens: not a safetensors file ({error}); write the bundle again") from error
        goldens = cls(
            tensors.get("seeds", np.zeros(0)),
            tensors.get("outputs", np.zeros(0)),
            header.get("__metadata__", {}).get("gate"),
        )
        goldens._check()
        return goldens

    def _check(self) -> None:
        if self.seeds.dtype != np.int64 or self.seeds.ndim != 1 or not 0 < len(self.seeds) <= _MAX_COUNT:
            raise InputError(
                f"goldens: seeds {self.seeds.dtype} {self.seeds.shape}: expected int64 (n,), n from 1 to {_MAX_COUNT}"
            )
        if self.seeds.min() < 0 or len(np.unique(self.seeds)) != len(self.seeds):
            raise InputError("goldens: seeds are negative or come twice; write the bundle again")
        shape = self.outputs.shape
        if self.outputs.dtype != np.float32 or len(shape) != 2 or shape[0] != len(self.seeds) or shape[1] < 2:
            raise InputError(
                f"goldens: outputs {self.outputs.dtype} {shape}: expected float32 ({len(self.seeds)}, classes)"
            )
        if not (np.isfinite(self.outputs).all() and self.outputs.min() >= 0 and self.outputs.max() <= 1.001):
            raise InputError("goldens: outputs are no probabilities; write the bundle again")
        if self.gate not in (TOP1, SQNR):
            raise InputError(f"goldens: gate {self.gate!r}: expected {TOP1!r} or {SQNR!r}")


def inputs(seeds: Sequence[int] | np.ndarray, frontend: FrontendSpec) -> np.ndarray:
    """Network inputs of synthetic sounds, one a seed: float32 (n, components, mels, frames).

    The same on any machine and any NumPy, up to the rounding of its sines and logarithms.
    """
    windows = [cut(logmel(waveform(int(seed), frontend), frontend), frontend)[:1] for seed in seeds]
    return features(np.concatenate(windows), frontend)


def choose(predict: Callable[[np.ndarray], np.ndarray], frontend: FrontendSpec, count: int = COUNT) -> Goldens:
    """Pick seeds for a bundle and note what the float network answers.

    predict: features (n, components, mels, frames) to probabilities (n, classes). Only seeds count on which the two
    largest probabilities lie LEAST_MARGIN apart, taken in turn from the classes that the network answers, so that they
    spread as far as synthetic sounds reach. Where fewer than `count` of the candidates are, the first seeds are taken
    and the gate is the SQNR of the logits.
    """
    found: list[list[tuple[int, np.ndarray]]] = []
    for start in range(0, _CANDIDATES, _BATCH):
        seeds = np.arange(start, start + _BATCH)
        outputs = predict(inputs(seeds, frontend)).astype(np.float32)
        found = found or [[] for _ in range(outputs.shape[1])]
        second, first = np.partition(outputs, -2, axis=1)[:, -2:].T
        decided = first - second >= LEAST_MARGIN
        for seed, output in zip(seeds[decided], outputs[decided], strict=True):
            found[int(output.argmax())].append((int(seed), output))
        if all(len(answers) * len(found) >= count for answers in found):
            break
    if sum(map(len, found)) < count:
        seeds = np.arange(count, dtype=np.int64)
        return Goldens(seeds, predict(inputs(seeds, frontend)).astype(np.float32), SQNR)
    turns = sorted((turn, seed, output) for answers in found for turn, (seed, output) in enumerate(answers))
    chosen = sorted(((seed, output) for _, seed, output in turns[:count]), key=lambda pair: pair[0])
    return Goldens(np.array([seed for seed, _ in chosen], np.int64), np.stack([output for _, output in chosen]))


def waveform(seed: int, frontend: FrontendSpec) -> np.ndarray:
    """One synthetic sound, float32 (frontend.window_samples,): a noise floor and one to three layers over it.

    A layer is a tone, harmonics or a band of noise, gliding or still, under an envelope (steady, struck, pulsed or
    swelling), at its own level.
    """
    draw = _Draw(seed)
    samples = frontend.window_samples
    seconds = np.arange(samples) / frontend.sample_rate
    sound = _noise(draw, samples, frontend.sample_rate, 0.0, frontend.sample_rate / 2) * draw.decibels(-70, -30)
    for _ in range(1 + int(3 * draw.one())):
        source = _harmonics(draw, seconds) if draw.one() < 0.5 else _band(draw, samples, frontend.sample_rate)
        sound += source * _envelope(draw, seconds) * draw.decibels(-30, 0)
    return (sound * (draw.decibels(-40, -1) / np.abs(sound).max())).astype(np.float32)


class _Draw:
    """Uniform numbers from the raw bits of PCG64, whose stream NumPy keeps (its distributions may change)."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)

    def many(self, count: int) -> np.ndarray:
        return (self._bits.random_raw(count) >> np.uint64(11)) * 2.0**-53

    def one(self) -> float:
        return float(self.many(1)[0])

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.one()

    def octaves(self, low: float, high: float) -> float:
        """Between low and high, even in the logarithm."""
        return low * (high / low) ** self.one()

    def decibels(self, low: float, high: float) -> float:
        """An amplitude between two levels."""
        return 10.0 ** (self.between(low, high) / 20)


def _noise(draw: _Draw, samples: int, sample_rate: int, low: float, high: float) -> np.ndarray:
    """Noise of RMS 1 between two frequencies, falling by up to 6 dB an octave."""
    spectrum = np.fft.rfft(draw.many(samples) - 0.5)
    frequency = np.fft.rfftfreq(samples, 1 / sample_rate)
    shape = np.maximum(frequency, 20.0) ** -draw.one()
    shape[(frequency < low) | (frequency > high)] = 0.0
    noise = np.fft.irfft(spectrum * shape, samples)
    return noise / np.sqrt(np.mean(noise**2))


def _band(draw: _Draw, samples: int, sample_rate: int) -> np.ndarray:
    low = draw.octaves(50, sample_rate / 8)
    return _noise(draw, samples, sample_rate, low, low * draw.octaves(1.5, 20))


def _harmonics(draw: _Draw, seconds: np.ndarray) -> np.ndarray:
    """A tone with up to 11 overtones, gliding by up to an octave a second, with or without vibrato; RMS about 1."""
    sample_rate = 1 / seconds[1]
    fundamental = draw.octaves(80, sample_rate / 12)
    glide = draw.between(-1, 1) if draw.one() < 0.5 else 0.0
    vibrato = draw.between(0, 0.3) * np.sin(2 * np.pi * draw.between(2, 12) * seconds)
    frequency = fundamental * 2.0 ** (glide * (seconds % 1.0) + vibrato)
    phase = 2 * np.pi * np.cumsum(frequency) / sample_rate
    fall = draw.between(0.3, 2)
    tone = np.zeros_like(seconds)
    for partial in range(1, 1 + int(draw.octaves(1, 13))):
        audible = frequency * partial < sample_rate / 2
        tone += audible * np.sin(partial * phase + 2 * np.pi * draw.one()) * partial**-fall
    return tone * np.sqrt(2)


def _envelope(draw: _Draw, seconds: np.ndarray) -> np.ndarray:
    length = seconds[-1]
    kind = int(4 * draw.one())
    if kind == 0:  # steady
        return np.ones_like(seconds)
    if kind == 1:  # struck once, dying away
        since = seconds - draw.between(0, 0.8 * length)
        return np.where(since >= 0, np.exp(-np.maximum(since, 0) / draw.octaves(0.01, 0.5)), 0.0)
    if kind == 2:  # pulses
        phase = (seconds * draw.octaves(1.5, 30) + draw.one()) % 1.0
        return np.exp(-phase * draw.octaves(2, 40))
    return 0.5 - 0.5 * np.cos(2 * np.pi * (seconds * draw.between(0.3, 4) + draw.one()))  # swells
