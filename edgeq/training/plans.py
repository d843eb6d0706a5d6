"""What the training loop wants to hear, drawn step by step: a function of seed, step and part alone."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from edgeq.audio.frontend import FrontendSpec
from edgeq.training import augment
from edgeq.training.config import FitConfig
from edgeq.training.source import Plan


@dataclass(frozen=True)
class Course:
    """How long a fit is and how its epochs are cut into batches.

    batch_size: clips a step, a multiple of the config's parts. epoch_steps: steps an epoch; clips that do not fill a
    batch are left out of it. steps: in all.
    """

    batch_size: int
    epoch_steps: int
    steps: int


def course(config: FitConfig, clips: int) -> Course:
    """The course of a fit on so many clips, at least as many as the config has parts."""
    batch_size = min(config.batch_size, clips) // config.parts * config.parts
    epoch_steps = clips // batch_size
    return Course(batch_size, epoch_steps, config.iterations or config.epochs * epoch_steps)


def plans(
    of: Course,
    order: Callable[[torch.Generator], Tensor],
    spec: FrontendSpec,
    config: FitConfig,
    seed: int,
    parts: Collection[int],
    start: int,
) -> Iterator[Plan]:
    """What to hear in these parts of each batch, from step `start` to the end.

    order: of an epoch's clips, as `Source.order`. With one part an epoch has one generator, so that plans of steps that
    are done are drawn again; with several, each part of each step has its own.
    """
    frames = [augment.crop_frames(spec, seconds) for seconds in config.crop_seconds]
    for epoch in itertools.count(start // of.epoch_steps):
        generator = torch.Generator().manual_seed(drawn_seed(seed, epoch))
        clips = order(generator)
        first = epoch * of.epoch_steps
        for step in range(first, min(first + of.epoch_steps, of.steps)):
            batch = clips[(step - first) * of.batch_size : (step - first + 1) * of.batch_size]
            if config.parts == 1:
                plan = _plan(batch, frames, spec, config, generator)
                if step >= start:
                    yield plan
            elif step >= start:
                for part, of_part in enumerate(batch.chunk(config.parts)):
                    if part in parts:
                        chance = torch.Generator().manual_seed(drawn_seed(seed, step, part))
                        yield _plan(of_part, frames, spec, config, chance)
        if first + of.epoch_steps >= of.steps:
            return


def drawn_seed(*numbers: int) -> int:
    """A seed for torch that follows from numbers of any size, and is another for others."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, numbers)).encode()).digest()[:7])


def _plan(clips: Tensor, frames: list[int], spec: FrontendSpec, config: FitConfig, generator: torch.Generator) -> Plan:
    length = int(torch.randint(len(frames), (), generator=generator))
    crops = augment.wishes(clips, len(config.speeds), config.speed_probability, generator)
    changes = augment.drawn(config, len(clips), spec.n_mels, frames[length], generator)
    return Plan(length, crops, changes)
