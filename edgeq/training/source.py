"""Where the training loop takes its clips from: what any source of crops offers, and the one that holds all in memory.

The loop draws what it wants to hear before anything is read (`Plan`), and a source answers plan by plan, in order. So
a source that reads from disk can run ahead of the loop, over the ends of epochs too, and needs no state to go on from
any step: plans are a function of seed and step alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from edgeq.audio.frontend import FrontendSpec
from edgeq.corpora import orders
from edgeq.training import augment
from edgeq.training.augment import Changes, Place, Wish
from edgeq.training.config import FitConfig
from edgeq.training.features import CorpusMaps

Positives = Callable[[Sequence[int]], np.ndarray]
"""Which classes the clips at these indices hold: bool (clips, classes)."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What the loop wants to hear next, drawn before anything is read.

    length: which of the config's crop_seconds all crops have. crops: one an input. changes: for `augment.augmented`.
    """

    length: int
    crops: tuple[Wish, ...]
    changes: Changes


@dataclass(frozen=True, eq=False)
class Heard:
    """What a source makes of a plan.

    power: mel power of the crops, float32 (batch, spec.logmel_rows, frames), as `augment.mel_power` has it, on any
    device. targets: float32 (batch, classes), 1 at the classes of each clip. places: where the crops begin.
    """

    plan: Plan
    power: Tensor
    targets: Tensor
    places: Sequence[Place]


class Source(Protocol):
    """Crops of the clips that a network is fitted to. Clips are numbered from 0."""

    @property
    def clips(self) -> int:
        """How many there are."""

    @property
    def classes(self) -> int:
        """How many classes their targets have."""

    @property
    def fingerprint(self) -> str:
        """Equal for two sources that give the same crops of the same plans: a digest of clips and targets."""

    def order(self, generator: torch.Generator) -> Tensor:
        """The clips of an epoch in the order they are heard: int64 (clips,).

        All chance comes from the generator: equal state, equal order. Without balanced sampling it is a permutation.
        """

    def read(self, plans: Iterable[Plan]) -> Generator[Heard, None, None]:
        """The crops of each plan, in order; plans may be taken ahead of what was asked for, a bounded number of them.

        Whoever reads closes the generator when done, before its end or not: threads and files end with it.
        """


class Recordings(Protocol):
    """Log-mel of the clips of a corpus behind a front end, wherever it is kept."""

    def __len__(self) -> int: ...

    def select(self, clips: Sequence[int]) -> Recordings:
        """Those of these clips, in this order."""

    def logmel(self, clip: int) -> np.ndarray:
        """Log-mel of a whole clip as recorded, float32 (spec.logmel_rows, frames)."""

    def source(self, positives: Positives, spec: FrontendSpec, config: FitConfig) -> Source:
        """Crops of these recordings as `config` wants them: crop_seconds, crop_depth_db, speeds, sampling."""


class InMemory:
    """A source that holds mel power of every clip at every speed.

    maps: at speeds (1, *config.speeds). targets: float32 (clips, classes).
    """

    def __init__(self, maps: CorpusMaps, targets: Tensor | np.ndarray, spec: FrontendSpec, config: FitConfig) -> None:
        lengths = [augment.crop_frames(spec, seconds) for seconds in config.crop_seconds]
        self.maps, self.targets, self.sampling = maps, torch.as_tensor(targets), config.sampling
        held = self.targets.numpy() > 0
        self._labels = np.arange(len(held)), held.sum(axis=1), held.nonzero()[1]
        self.banks = augment.crop_banks(maps, spec, lengths, config.crop_depth_db)

    @property
    def clips(self) -> int:
        return len(self.targets)

    @property
    def classes(self) -> int:
        return self.targets.shape[1]

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(self.targets.numpy().tobytes())
        for logmels in self.maps.logmels:
            for logmel in logmels:
                digest.update(f"{logmel.shape}".encode() + np.ascontiguousarray(logmel).data)
        return digest.hexdigest()

    def order(self, generator: torch.Generator) -> Tensor:
        if self.sampling == "balanced":
            return torch.from_numpy(orders.balanced(*self._labels, self.clips, augment.number(generator), 0))
        return torch.randperm(self.clips, generator=generator)

    def read(self, plans: Iterable[Plan]) -> Generator[Heard, None, None]:
        for plan in plans:
            bank = self.banks[plan.length]
            places = augment.places(bank, plan.crops)
            targets = self.targets[[wish.clip for wish in plan.crops]]
            yield Heard(plan, augment.crop(bank.powers, places, bank.length), targets, places)
