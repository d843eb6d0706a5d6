"""Augmentations on mel power, before the logarithm: what is random is drawn first, then each is a plain function.

What is drawn depends on the size of a batch and a seeded generator alone, never on what the batch holds: so it can be
drawn before the clips are read, for two front ends alike, and put on any device.

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


class Wish(NamedTuple):
    """A crop that is wanted: of which clip, of which of its speed variants (0: as recorded), and where.

    position: from 0 to below 1, over the frames at which a crop of that clip may begin.
    """

    clip: int
    speed: int
    position: float


class Place(NamedTuple):
    """Where a crop begins: the clip, which of its speed variants, the frame."""

    clip: int
    speed: int
    start: int


class Stripe(NamedTuple):
    """Which cells of one axis are blank in each crop of a batch: (batch, 1) of each, whole numbers."""

    width: Tensor
    start: Tensor


class Mixture(NamedTuple):
    """With which other crop of the batch each is mixed, and how much of it stays its own: (batch,) of each."""

    share: Tensor
    partner: Tensor


@dataclass(frozen=True, eq=False)
class Changes:
    """What was drawn for a batch: how its crops are changed.

    gain: decibels, (batch, 1, 1). knots: how many a filter has, (batch, 1); levels: decibels at each, (batch, 6). mix:
    of power; mixup: of the network's inputs, None where there is none. mels, frames: what is blanked, stripe by stripe.
    """

    gain: Tensor
    knots: Tensor
    levels: Tensor
    mix: Mixture
    mels: tuple[Stripe, ...]
    frames: tuple[Stripe, ...]
    mixup: Mixture | None = None

    def to(self, device: torch.device) -> Changes:
        """The same on another device."""

        gain, knots, levels = (one.to(device, non_blocking=True) for one in (self.gain, self.knots, self.levels))
        mix = Mixture(*(one.to(device, non_blocking=True) for one in self.mix))
        mixup = self.mixup and Mixture(*(one.to(device, non_blocking=True) for one in self.mixup))
        mels, frames = (
            tuple(Stripe(*(each.to(device, non_blocking=True) for each in one)) for one in stripes)
            for stripes in (self.mels, self.frames)
        )
        return Changes(gain, knots, levels, mix, mels, frames, mixup)


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
            powers,
            tuple(
                tuple(audible_starts(one.amax(dim=0).numpy(), length, depth_db) for one in clips) for clips in powers
            ),
            length,
        )
        for length in lengths
    ]


def mel_powers(maps: CorpusMaps, spec: FrontendSpec, frames: int) -> Powers:
    """Mel power of log-mel maps; clips shorter than `frames` are continued as `spec.pad` says."""
    return tuple(
        tuple(lengthened(mel_power(torch.from_numpy(logmel), spec), frames, spec.pad) for logmel in logmels)
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


def wishes(clips: Tensor, variants: int, speed_probability: float, generator: torch.Generator) -> tuple[Wish, ...]:
    """Draw one crop of each clip; with speed_probability from one of its `variants` of another speed.

    clips: (batch,) indices.
    """
    change = torch.rand(len(clips), generator=generator) < speed_probability
    variant = torch.randint(1, variants + 1, (len(clips),), generator=generator) if variants else None
    position = torch.rand(len(clips), generator=generator).tolist()
    return tuple(
        Wish(clip, int(variant[i]) if variant is not None and change[i] else 0, position[i])
        for i, clip in enumerate(clips.tolist())
    )


def places(bank: CropBank, wishes: Sequence[Wish]) -> list[Place]:
    """Where the wished crops begin, each where something can be heard."""
    starts = [bank.starts[speed][clip] for clip, speed, _ in wishes]
    return [
        Place(clip, speed, int(among[int(position * len(among))]))
        for (clip, speed, position), among in zip(wishes, starts, strict=True)
    ]


def crop(powers: Powers, places: Sequence[Place], length: int) -> Tensor:
    """The crops at these places, of `length` frames: (batch, rows, length)."""
    return torch.stack([powers[speed][clip][:, start : start + length] for clip, speed, start in places])


def drawn(config: FitConfig, batch: int, mels: int, frames: int, generator: torch.Generator) -> Changes:
    """Draw how a batch of crops is changed: mels, frames are the sizes of the network's input."""
    gain = _uniform((batch, 1, 1), config.gain_db, generator)
    knots = torch.randint(3, 7, (batch, 1), generator=generator)
    levels = _uniform((batch, 6), config.filter_db, generator)
    share = torch.rand(batch, generator=generator)
    share = torch.maximum(share, 1 - share)
    share = torch.where(torch.rand(batch, generator=generator) < config.mix_probability, share, torch.ones(()))
    partner = torch.randperm(batch, generator=generator)
    stripes = [
        (_stripe(batch, mels, config.stripe_mels, generator), _stripe(batch, frames, config.stripe_frames, generator))
        for _ in range(config.stripe_count)
    ]
    return Changes(
        gain,
        knots,
        levels,
        Mixture(share, partner),
        tuple(one for one, _ in stripes),
        tuple(one for _, one in stripes),
        _mixup(config.mixup_alpha, batch, generator) if config.mixup_alpha else None,
    )


def augmented(power: Tensor, targets: Tensor, bands: Tensor, changes: Changes) -> tuple[Tensor, Tensor]:
    """A batch as other places, microphones and company would have it: gain, filter, mixture. Returns it with targets.

    bands: as in `band_filter`.
    """
    power = gain(power, changes.gain)
    power = band_filter(power, bands, changes.knots, changes.levels)
    return mix(power, targets, changes.mix)


def gain(power: Tensor, level: Tensor) -> Tensor:
    """Make each crop louder or quieter by its level in decibels, (batch, 1, 1)."""
    return power * 10 ** (level / 10)


def band_filter(power: Tensor, bands: Tensor, knots: Tensor, levels: Tensor) -> Tensor:
    """Colour each crop as another microphone would: a level in decibels at 3 to 6 knots over the mels, linear between.

    power: (batch, rows, frames). bands: where each mel lies from the first knot, 0, to the last, 1: (mels,), of which
    rows are a multiple; each multiple is coloured alike. knots, levels: as in Changes.
    Source: Nam et al., "FilterAugment: an acoustic environmental data augmentation method", ICASSP 2022 (linear type).
    """
    rows = power.shape[1]
    position = bands * (knots - 1)
    left = position.floor().clamp(max=knots - 2).long()
    fraction = position - left
    level = levels.gather(1, left) * (1 - fraction) + levels.gather(1, left + 1) * fraction
    return power * 10 ** (level.repeat(1, rows // len(bands))[:, :, None] / 10)


def mix(power: Tensor, targets: Tensor, mixture: Mixture) -> tuple[Tensor, Tensor]:
    """Add another crop of the batch to each, labels in proportion.

    Both are brought to the same peak, summed with weights lambda^2 and (1 - lambda)^2 (amplitudes lambda and
    1 - lambda of uncorrelated sounds) and given back the first one's peak; lambda is the share, at least 1/2, so the
    first one stays the louder, and at 1 is alone. targets: (batch, classes). Returns both mixed.
    Source: Zhang et al., "mixup", ICLR 2018; on energies as in Tokozume et al., "Between-class learning", ICLR 2018.
    """
    share, partner = mixture
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


def number(generator: torch.Generator) -> int:
    """A whole number below 2^62, to seed what takes no generator of torch's."""
    return int(torch.randint(1 << 62, (), generator=generator))


def mixup(features: Tensor, targets: Tensor, mixture: Mixture) -> tuple[Tensor, Tensor]:
    """A weighted mean of each input with another of the batch, of targets alike.

    features: (batch, components, mels, frames) as the network takes them: logarithms are averaged, not powers, which
    no two sounds at once do, but which the paper does. targets: (batch, classes). Returns both mixed.
    Source: Zhang et al., "mixup", ICLR 2018, Eq. 1; quaternion paper, Section V-C.
    """
    share, partner = mixture.share[:, None], mixture.partner
    own = share[:, :, None, None]
    return own * features + (1 - own) * features[partner], share * targets + (1 - share) * targets[partner]


def stripes(features: Tensor, mels: Stripe, frames: Stripe) -> Tensor:
    """Blank one band of mels and one span of frames in each input.

    features: (batch, components, mels, frames) after normalisation, so that 0 is the mean of the training data.
    Source: Park et al., "SpecAugment", Interspeech 2019 (no time warping).
    """
    keep = _outside(mels, features.shape[2])[:, None, :, None]
    return features * (keep & _outside(frames, features.shape[3])[:, None, None, :])


def _mixup(alpha: float, batch: int, generator: torch.Generator) -> Mixture:
    partner = torch.randperm(batch, generator=generator)
    # torch's own beta distribution takes no generator.
    random = np.random.default_rng(number(generator))
    return Mixture(torch.from_numpy(random.beta(alpha, alpha, batch)).float(), partner)


def _uniform(shape: tuple[int, ...], bound: float, generator: torch.Generator) -> Tensor:
    return (torch.rand(shape, generator=generator) * 2 - 1) * bound


def _stripe(batch: int, size: int, widest: int, generator: torch.Generator) -> Stripe:
    width = torch.randint(0, min(widest, size) + 1, (batch, 1), generator=generator)
    return Stripe(width, (torch.rand((batch, 1), generator=generator) * (size - width + 1)).floor())


def _outside(stripe: Stripe, size: int) -> Tensor:
    place = torch.arange(size, device=stripe.width.device)
    return (place < stripe.start) | (place >= stripe.start + stripe.width)


def mel_power(logmel: Tensor, spec: FrontendSpec) -> Tensor:
    """Mel power of log-mel maps, (..., rows, frames): what `to_log` takes."""
    linear = 10 ** (logmel.double() / 10) if spec.log == "db" else logmel.double().exp()
    if spec.floor_rule == "add":
        linear = (linear - spec.floor).clamp_min(0)
    else:  # what lies at the floor, up to float32, was nothing: a gain must not lift it
        linear = torch.where(linear > spec.floor * (1 + 1e-5), linear, 0.0)
    # Mels of magnitudes are squared, so that a decibel is the same for every front end.
    return (linear if spec.power == 2 else linear.square()).float()


def lengthened(power: Tensor, length: int, pad: str) -> Tensor:
    """Mel power of at least `length` frames, continued with silence or itself as `FrontendSpec.pad` says.

    power: (..., rows, frames).
    """
    frames = power.shape[-1]
    if frames >= length:
        return power
    if pad == "repeat":
        return torch.cat([power] * math.ceil(length / frames), dim=-1)[..., :length].contiguous()
    return torch.nn.functional.pad(power, (0, length - frames))


def audible_starts(loudest: np.ndarray, length: int, depth_db: float) -> Tensor:
    """The frames at which a crop of `length` frames may begin, see `crop_banks`.

    loudest: mel power of the loudest row, (frames,).
    """
    crops = np.lib.stride_tricks.sliding_window_view(loudest, length).max(axis=1)
    return torch.from_numpy(np.flatnonzero(crops >= loudest.max() * 10 ** (-depth_db / 10)))
