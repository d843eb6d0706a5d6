"""A packed corpus as training sees any corpus: its clips are made when they are asked for, from arrays."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgeq.corpora import packed
from edgeq.corpora.corpus import Corpus
from edgeq.corpora.packed import Packed
from edgeq.errors import InputError


def open(folder: Path | str) -> PackedCorpus:
    """Open a packed corpus as a Corpus of all its clips. Raises InputError as `packed.open`."""
    opened = packed.open(folder)
    return PackedCorpus(
        opened.name,
        opened.clips,
        opened.labels,
        opened.multi_label,
        licence=opened.licence,
        citation=opened.citation,
        packed=opened,
    )


@dataclass(frozen=True, eq=False)
class PackedCorpus(Corpus):
    """Clips of a packed corpus. Their paths, folder/key, are names: what they hold is in the shards.

    packed: where the clips are.
    """

    packed: Packed = field(kw_only=True)

    def __post_init__(self) -> None:
        if not len(self.clips):  # the rest was found right when it was packed
            raise InputError(f"{self.name}: found no clips, expected labelled recordings")

    @property
    def chosen(self) -> np.ndarray:
        """Index in the packed corpus of each clip, int64 (clips,)."""
        return self._clips.rows

    @property
    def hash(self) -> str:
        """sha256 over the packed corpus and which of its clips these are."""
        return hashlib.sha256(self.packed.hash.encode() + self.chosen.tobytes()).hexdigest()

    def recording_hash(self, clip: int) -> str:
        return self.packed.recordings.sha256[self._clips.row(clip)].tobytes().hex()

    @property
    def damaged_hashes(self) -> tuple[str, ...]:
        return self.packed.damaged

    def _as_recorded(self) -> np.ndarray:
        return np.argsort(self.packed.recordings.number[self.chosen])
