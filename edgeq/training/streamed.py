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
from edgeq.audio.maps import logmel_spec
from edgeq.corpora.packed import Packed
from edgeq.corpora.packed_corpus import PackedCorpus
from edgeq.training import augment
from edgeq.training.ahead import READERS, ahead
from edgeq.training.augment import Place, Wish
from edgeq.training.config import FitConfig
from edgeq.training.source import Heard, Plan, Positives


class PackedMaps:
    """Log-mel of the clips of a packed corpus behind a front end: `source.Recordings` that holds none of it.

    Raises InputError where the corpus was packed as log-mel of another front end, or not at these speeds.
    """

    def __init__(self, corpus: PackedCorpus, spec: FrontendSpec, speeds: Sequence[float]) -> None:
        corpus.packed.check_frontend(spec, (1.0, *speeds))
        self.packed, self.chosen, self.spec = corpus.packed, corpus.chosen, logmel_spec(spec)

    def __len__(self) -> int:
        return len(self.chosen)

    def select(self, clips: Sequence[int]) -> PackedMaps:
        """Those of these clips, in this order."""
        selected = object.__new__(PackedMaps)
        selected.packed, selected.spec = self.packed, self.spec
        selected.chosen = self.chosen[np.asarray(clips, np.int64)]
        return selected

    def logmel(self, clip: int) -> np.ndarray:
        """Log-mel of a whole clip as recorded, float32 (spec.logmel_rows, frames)."""
        return self.packed.read([int(self.chosen[clip])], self.spec)[0]

    def source(self, positives: Positives, spec: FrontendSpec, config: FitConfig) -> Streamed:
        """Crops of these clips, read as they are needed; as `source.Recordings.source`."""
        return Streamed(self.packed, self.chosen, positives, spec, config)


class Streamed:
    """A `source.Source` that reads each batch's clips from shards; they lie near each other in the order it gives.

    chosen: indices in the packed corpus of the clips that are trained on. readers: how many threads read. Memory is
    that of twice as many batches as readers, and of one clip a reader.
    """

    def __init__(
        self,
        packed: Packed,
        chosen: np.ndarray,
        positives: Positives,
        spec: FrontendSpec,
        config: FitConfig,
        readers: int = READERS,
    ) -> None:
        packed.check_frontend(spec, (1.0, *config.speeds))
        self.packed, self.chosen, self.positives = packed, chosen, positives
        self.spec, self.config, self.readers = spec, config, readers
        self.speeds = (1.0, *config.speeds)
        self.lengths = [augment.crop_frames(spec, seconds) for seconds in config.crop_seconds]

    @property
    def clips(self) -> int:
        return len(self.chosen)

    @cached_property
    def classes(self) -> int:
        return self.positives([0]).shape[1]

    @cached_property
    def fingerprint(self) -> str:
        what = self.packed.hash + logmel_spec(self.spec).hash
        return hashlib.sha256(what.encode() + self.chosen.tobytes()).hexdigest()

    def order(self, generator: torch.Generator) -> Tensor:
        """An epoch's clips: the shards at random, and the clips of a few shards at random."""
        seed = int(torch.randint(1 << 62, (), generator=generator))
        if self.config.sampling == "balanced":
            drawn = self.packed.balanced_order(seed, 0, self.chosen)
        else:
            drawn = self.packed.order(seed, 0, self.chosen)
        # From indices in the packed corpus to those among the chosen ones.
        rising = np.argsort(self.chosen)
        return torch.from_numpy(rising[np.searchsorted(self.chosen, drawn, sorter=rising)])

    def read(self, plans: Iterable[Plan]) -> Generator[Heard, None, None]:
        return ahead(self._heard, plans, self.readers)

    def _heard(self, plan: Plan) -> Heard:
        found = [self._crop(wish, self.lengths[plan.length]) for wish in plan.crops]
        targets = self.positives([wish.clip for wish in plan.crops]).astype(np.float32)
        power = torch.stack([crop for crop, _ in found])
        return Heard(plan, power, torch.from_numpy(targets), [place for _, place in found])

    def _crop(self, wish: Wish, length: int) -> tuple[Tensor, Place]:
        logmel = self.packed.read([int(self.chosen[wish.clip])], self.spec, self.speeds[wish.speed])[0]
        power = augment.lengthened(
            augment.mel_power(torch.from_numpy(logmel), self.spec), max(self.lengths), self.spec.pad
        )
        starts = augment.audible_starts(power, length, self.config.crop_depth_db)
        start = int(starts[int(wish.position * len(starts))])
        return power[:, start : start + length], Place(wish.clip, wish.speed, start)
