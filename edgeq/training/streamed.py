"""Training clips read from a packed corpus as they are needed, ahead of the loop, in memory that does not grow with it.

Which crops a batch has follows from its plan alone, and what is read for one plan from nothing else: so the number of
threads that read changes nothing, and a run begins at any step without the ones before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from edgeq.audio.frontend import FrontendSpec
from edgeq.corpora.packed_corpus import PackedCorpus
from edgeq.training import augment
from edgeq.training.ahead import READERS, ahead
from edgeq.training.augment import Place
from edgeq.training.config import FitConfig
from edgeq.training.logmels import PackedLogmels
from edgeq.training.source import Heard, Plan, Positives


class PackedMaps:
    """Log-mel of the clips of a packed corpus behind a front end: `source.Recordings` that holds none of it.

    config: how networks are fitted on them. Raises InputError as `PackedLogmels`.
    """

    def __init__(self, corpus: PackedCorpus, spec: FrontendSpec, config: FitConfig) -> None:
        self.logmels, self.chosen = PackedLogmels(corpus.packed, spec, config), corpus.chosen

    def __len__(self) -> int:
        return len(self.chosen)

    def select(self, clips: Sequence[int]) -> PackedMaps:
        """Those of these clips, in this order."""
        selected = object.__new__(PackedMaps)
        selected.logmels, selected.chosen = self.logmels, self.chosen[np.asarray(clips, np.int64)]
        return selected

    def logmel(self, clip: int) -> np.ndarray:
        """Log-mel of a whole clip as recorded, float32 (spec.logmel_rows, frames)."""
        (_, maps), *_ = self.logmels.of([(int(self.chosen[clip]), 0)])
        return maps[0].numpy(force=True)

    def source(self, positives: Positives, spec: FrontendSpec, config: FitConfig) -> Streamed:
        """Crops of these clips, read as they are needed; as `source.Recordings.source`."""
        return Streamed(PackedLogmels(self.logmels.packed, spec, config), self.chosen, positives, config)


class Streamed:
    """A `source.Source` that reads each batch's clips from shards; they lie near each other in the order it gives.

    logmels: at the speeds of config. chosen: indices in the packed corpus of the clips that are trained on. readers:
    how many threads read. Memory is that of twice as many batches as readers, and of the whole clips of one batch a
    reader.
    """

    def __init__(
        self,
        logmels: PackedLogmels,
        chosen: np.ndarray,
        positives: Positives,
        config: FitConfig,
        readers: int = READERS,
    ) -> None:
        self.logmels, self.chosen, self.positives = logmels, chosen, positives
        self.config, self.readers = config, readers
        self.lengths = [augment.crop_frames(logmels.spec, seconds) for seconds in config.crop_seconds]

    @property
    def clips(self) -> int:
        return len(self.chosen)

    @cached_property
    def classes(self) -> int:
        return self.positives([0]).shape[1]

    @cached_property
    def fingerprint(self) -> str:
        what = self.logmels.packed.hash + self.logmels.spec.hash
        return hashlib.sha256(what.encode() + self.chosen.tobytes()).hexdigest()

    def order(self, generator: torch.Generator) -> Tensor:
        """An epoch's clips: the shards at random, and the clips of a few shards at random."""
        seed = augment.number(generator)
        if self.config.sampling == "balanced":
            drawn = self.logmels.packed.balanced_order(seed, 0, self.chosen)
        else:
            drawn = self.logmels.packed.order(seed, 0, self.chosen)
        # From indices in the packed corpus to those among the chosen ones.
        rising = np.argsort(self.chosen)
        return torch.from_numpy(rising[np.searchsorted(self.chosen, drawn, sorter=rising)])

    def read(self, plans: Iterable[Plan]) -> Generator[Heard, None, None]:
        return ahead(self._heard, plans, self.readers)

    def _heard(self, plan: Plan) -> Heard:
        length, longest = self.lengths[plan.length], max(self.lengths)
        crops: dict[int, tuple[Tensor, Place]] = {}
        for numbers, logmels in self.logmels.of([(int(self.chosen[wish.clip]), wish.speed) for wish in plan.crops]):
            spec = self.logmels.spec
            powers = augment.lengthened(augment.mel_power(logmels, spec), longest, spec.pad)
            loudest = powers.amax(dim=1).numpy(force=True)  # a GPU is waited for once, not for each clip
            for number, power, of_frames in zip(numbers, powers, loudest, strict=True):
                wish = plan.crops[number]
                starts = augment.audible_starts(of_frames, length, self.config.crop_depth_db)
                start = int(starts[int(wish.position * len(starts))])
                crops[number] = power[:, start : start + length], Place(wish.clip, wish.speed, start)
        found = [crops[number] for number in range(len(plan.crops))]
        targets = self.positives([wish.clip for wish in plan.crops]).astype(np.float32)
        power = torch.stack([crop for crop, _ in found])
        return Heard(plan, power, torch.from_numpy(targets), [place for _, place in found])
