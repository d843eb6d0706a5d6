"""Augmentations on mel power, before the logarithm: each a plain function of a batch and a seeded generator.

Working on power keeps them physical: a gain is a factor, a filter a factor a band, a mixture a sum. Batches are
float32 (batch, rows, frames), rows as in FrontendSpec.logmel_rows; nothing is changed in place.

Where rows hold derivatives "power-frequency", the log has kept of these only what is positive: there a gain is still
exact, a filter and a mixture are approximations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from edgeq.audio.frontend import FrontendSpec
from edgeq.errors import InputError
from edgeq.training.config import FitConfig
from edgeq.training.features import CorpusMaps

Powers = tuple[tuple[Tensor, ...], ...]
"""Mel power of every clip at every speed: powers[speed][clip] is float32 (rows, frames)."""


class Place(NamedTuple):
    """Where a crop begins: the clip, which of its speed variants, the frame."""

    clip: int
    speed: int
    start: int


@dataclass(frozen=True, eq=False)
class CropBank:
    """Mel power of every clip at every speed, ready to be cropped at random.

    powers: of at least `length` frames each. starts[speed][clip]: the frames at which a crop of `length` frames may
    begin.
    """

    powers: Powers
    starts: tuple[tuple[Tensor, ...], ...]
    length: int


def crop_banks(maps: CorpusMaps, spec: FrontendSpec, lengths: Sequence[int], depth_db: float) -> list[CropBank]:
    """Prepare random crops that hold something to hear, one bank for each length in frames.

    A crop is audible when its loudest mel cell is within depth_db of the clip's loudest: a clip's label says nothing
    about the silence it was padded with. Clips shorter than the longest crop are continued with silence or themselves,
    as `spec.pad` says.
    """
    powers = mel_powers(maps, spec, max(lengths))
    return [
        CropBank(
            powers, tuple(tuple(_audible_starts(one, length, depth_db) for one in clips) for clips in powers), length
        )
        for length in lengths
    ]


def mel_powers(maps: CorpusMaps, spec: FrontendSpec, frames: int) -> Powers:
    """Mel power of log-mel maps; clips shorter than `frames` are continued as `spec.pad` says."""
    return tuple(
        tuple(_lengthened(_power(torch.from_numpy(logmel), spec), frames, spec.pad) for logmel in logmels)
        for logmels in maps.logmels
    )


def crop_frames(spec: FrontendSpec, seconds: float) -> int:
    """Frames of a crop; a crop as long as the window has as many frames as the window.

    Raises InputError where it has none.
    """
    frames = spec.window_frames + round((seconds - spec.window_seconds) * spec.sample_rate / spec.hop_length)
    if frames < 1:
        raise InputError(f"crop_seconds {seconds:g}: no frame of the front end; expected longer crops")
    return frames


@torch.no_grad()
def check_crops(
    who: str, network: Callable[[Tensor], Tensor], spec: FrontendSpec, seconds: Sequence[float], classes: int
) -> None:
    """Raises InputError where a network takes no crops of these lengths, or gives other classes.

    network: features to logits; a module has to be in evaluation mode. who: what a message begins with.
    """
    for length in seconds:
        shape = (1, spec.components, spec.n_mels, crop_frames(spec, length))
        try:
            logits = network(torch.zeros(shape))
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{who}: does not take crops of {length:g} s: {reason}") from error
        if logits.shape != (1, classes):
            raise InputError(f"{who}: gives {tuple(logits.shape)} for one crop, expected (1, {classes})")


def places(bank: CropBank, clips: Tensor, speed_probability: float, generator: torch.Generator) -> list[Place]:
    """Draw one audible crop of each clip; with speed_probability from one of its speed variants.

    clips: (batch,) indices.
    """
    variants = len(bank.powers) - 1
    change = torch.rand(len(clips), generator=generator) < speed_probability
    variant = torch.randint(1, variants + 1, (len(clips),), generator=generator) if variants else None
    position = torch.rand(len(clips), generator=generator).tolist()
    drawn = []
    for i, clip in enumerate(clips.tolist()):
        speed = int(variant[i]) if variant is not None and change[i] else 0
        starts = bank.starts[speed][clip]
        drawn.append(Place(clip, speed, int(starts[int(position[i] * len(starts))])))
    return drawn


def crop(powers: Powers, places: Sequence[Place], length: int) -> Tensor:
    """The crops at these places, of `length` frames: (batch, rows, length)."""
    return torch.stack([powers[speed][clip][:, start : start + length] for clip, speed, start in places])


def augmented(
    power: Tensor, targets: Tensor, bands: Tensor, config: FitConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A batch as other places, microphones and company would have it: gain, filter, mixture. Returns it with targets.

    bands: as in `band_filter`. What is drawn depends on the generator and the size of the batch alone, so that two
    front ends can be given the same.
    """
    power = gain(power, config.gain_db, generator)
    power = band_filter(power, bands, config.filter_db, generator)
    return mix(power, targets, config.mix_probability, generator)


def gain(power: Tensor, decibels: float, generator: torch.Generator) -> Tensor:
    """Make each crop louder or quieter by up to `decibels`."""
    level = _uniform((len(power), 1, 1), decibels, generator)
    return power * 10 ** (level / 10)


def band_filter(power: Tensor, bands: Tensor, decibels: float, generator: torch.Generator) -> Tensor:
    """Colour each crop as another microphone would: up to `decibels` at 3 to 6 knots over the mels, linear between.

    power: (batch, rows, frames). bands: where each mel lies from the first knot, 0, to the last, 1: (mels,), of which
    rows are a multiple; each multiple is coloured alike.
    Source: Nam et al., "FilterAugment: an acoustic environmental data augmentation method", ICASSP 2022 (linear type).
    """
    batch, rows, _ = power.shape
    knots = torch.randint(3, 7, (batch, 1), generator=generator)
    levels = _uniform((batch, 6), decibels, generator)
    position = bands * (knots - 1)
    left = position.floor().clamp(max=knots - 2).long()
    fraction = position - left
    level = levels.gather(1, left) * (1 - fraction) + levels.gather(1, left + 1) * fraction
    return power * 10 ** (level.repeat(1, rows // len(bands))[:, :, None] / 10)


def mix(power: Tensor, targets: Tensor, probability: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Add another crop of the batch to some of them, labels in proportion.

    Both are brought to the same peak, summed with weights lambda^2 and (1 - lambda)^2 (amplitudes lambda and
    1 - lambda of uncorrelated sounds) and given back the first one's peak; lambda is uniform, at least 1/2, so the
    first one stays the louder. targets: (batch, classes). Returns both mixed.
    Source: Zhang et al., "mixup", ICLR 2018; on energies as in Tokozume et al., "Between-class learning", ICLR 2018.
    """
    batch = len(power)
    share = torch.rand(batch, generator=generator)
    share = torch.maximum(share, 1 - share)
    share = torch.where(torch.rand(batch, generator=generator) < probability, share, torch.ones(()))
    partner = torch.randperm(batch, generator=generator)
    peak = power.amax(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(power.dtype).tiny)
    own = (share**2 / (share**2 + (1 - share) ** 2))[:, None, None]
    mixed = own * power + (1 - own) * power[partner] * (peak / peak[partner])
    weight = share[:, None]
    return mixed, weight * targets + (1 - weight) * targets[partner]


def to_log(power: Tensor, spec: FrontendSpec) -> Tensor:
    """Log-mel of mel power, by the front end's own exponent, logarithm and floor."""
    linear = power if spec.power == 2 else power.sqrt()
    floored = linear + spec.floor if spec.floor_rule == "add" else linear.clamp_min(spec.floor)
    return floored.log10() * 10 if spec.log == "db" else floored.log()


def stripes(features: Tensor, mels: int, frames: int, generator: torch.Generator) -> Tensor:
    """Blank one band of up to `mels` mels and one span of up to `frames` frames in each input.

    features: (batch, components, mels, frames) after normalisation, so that 0 is the mean of the training data.
    Source: Park et al., "SpecAugment", Interspeech 2019 (no time warping).
    """
    keep = _outside_stripe(len(features), features.shape[2], mels, generator)[:, None, :, None]
    return features * (keep & _outside_stripe(len(features), features.shape[3], frames, generator)[:, None, None, :])


def _uniform(shape: tuple[int, ...], bound: float, generator: torch.Generator) -> Tensor:
    return (torch.rand(shape, generator=generator) * 2 - 1) * bound


def _outside_stripe(batch: int, size: int, widest: int, generator: torch.Generator) -> Tensor:
    width = torch.randint(0, min(widest, size) + 1, (batch, 1), generator=generator)
    start = (torch.rand((batch, 1), generator=generator) * (size - width + 1)).floor()
    place = torch.arange(size)
    return (place < start) | (place >= start + width)


def _power(logmel: Tensor, spec: FrontendSpec) -> Tensor:
    linear = 10 ** (logmel.double() / 10) if spec.log == "db" else logmel.double().exp()
    if spec.floor_rule == "add":
        linear = (linear - spec.floor).clamp_min(0)
    else:  # what lies at the floor, up to float32, was nothing: a gain must not lift it
        linear = torch.where(linear > spec.floor * (1 + 1e-5), linear, 0.0)
    # Mels of magnitudes are squared, so that a decibel is the same for every front end.
    return (linear if spec.power == 2 else linear.square()).float()


def _lengthened(power: Tensor, length: int, pad: str) -> Tensor:
    frames = power.shape[1]
    if frames >= length:
        return power
    if pad == "repeat":
        return power.repeat(1, math.ceil(length / frames))[:, :length].contiguous()
    return torch.nn.functional.pad(power, (0, length - frames))


def _audible_starts(power: Tensor, length: int, depth_db: float) -> Tensor:
    loudest = power.amax(dim=0).numpy()
    crops = np.lib.stride_tricks.sliding_window_view(loudest, length).max(axis=1)
    return torch.from_numpy(np.flatnonzero(crops >= loudest.max() * 10 ** (-depth_db / 10)))
