"""Which recordings of a corpus a model says it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgeq.corpora.clips import Clips
from edgeq.corpora.corpus import Corpus


def trained_on(provenance: Mapping[str, Any], corpus: Corpus) -> Clips:
    """The clips that a bundle says it was trained on; none where it says nothing of them, or it cannot be told.

    provenance: the bundle's; of an ensemble, what any member was trained on counts. The recordings' own bytes are
    compared with what it says, so that another version of the corpus is not taken for the one it means, and those that
    it left out as damaged are found. Either may have been packed.
    Raises InputError where a file cannot be read.
    """
    return Clips.of(corpus.clips).take(_heard(provenance, corpus))


def _heard(provenance: Mapping[str, Any], corpus: Corpus) -> np.ndarray:
    """Indices of those clips, rising."""
    none = np.zeros(0, np.int64)
    members = provenance.get("members")
    if isinstance(members, list):
        parts = [one.get("provenance") for one in members if isinstance(one, Mapping)]
        heard = [_heard(part, corpus) for part in parts if isinstance(part, Mapping)]
        return np.unique(np.concatenate([none, *heard]))
    folds, licences = provenance.get("folds"), provenance.get("exclude_licences", [])
    if provenance.get("corpus") != corpus.name or not isinstance(folds, list) or not isinstance(licences, list):
        return none
    clips, splits = Clips.of(corpus.clips), provenance.get("splits")
    used = clips.licences.among(lambda licence: licence not in licences)
    used &= clips.folds.among(lambda fold: not folds or fold in folds)
    used &= clips.splits.among(lambda split: not splits or split in splits)
    chosen = np.flatnonzero(used)
    left_out = provenance.get("left_out_sha256")
    if unsound := set(map(str, left_out)) if isinstance(left_out, list) else set():
        sound = (corpus.recording_hash(clip) not in unsound for clip in chosen.tolist())
        chosen = chosen[np.fromiter(sound, bool, len(chosen))]
    if not len(chosen) or len(chosen) != provenance.get("clips"):
        return none
    return chosen if corpus.subset(chosen).recordings_hash == provenance.get("corpus_sha256") else none
