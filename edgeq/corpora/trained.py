"""Which recordings of a corpus a model says it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edgeq.corpora.corpus import Clip, Corpus, file_hash


def trained_on(provenance: Mapping[str, Any], corpus: Corpus) -> tuple[Clip, ...]:
    """The clips that a bundle says it was trained on; none where it says nothing of them, or it cannot be told.

    provenance: the bundle's; of an ensemble, what any member was trained on counts. The clips' own bytes are compared
    with what it says, so that another version of the corpus is not taken for the one it means, and those that it left
    out as damaged are found.
    Raises InputError where a file cannot be read.
    """
    members = provenance.get("members")
    if isinstance(members, list):
        parts = [one.get("provenance") for one in members if isinstance(one, Mapping)]
        heard = {clip.path for part in parts if isinstance(part, Mapping) for clip in trained_on(part, corpus)}
        return tuple(clip for clip in corpus.clips if clip.path in heard)
    folds, licences = provenance.get("folds"), provenance.get("exclude_licences", [])
    unsound = provenance.get("left_out_sha256") or ()
    if provenance.get("corpus") != corpus.name or not isinstance(folds, list) or not isinstance(licences, list):
        return ()
    splits = provenance.get("splits") or {clip.split for clip in corpus.clips}
    clips = tuple(
        clip
        for clip in corpus.clips
        if clip.licence not in licences
        and (not folds or clip.fold in folds)
        and clip.split in splits
        and not (unsound and file_hash(clip.path) in unsound)
    )
    if not clips or len(clips) != provenance.get("clips"):
        return ()
    return clips if replace(corpus, clips=clips).hash == provenance.get("corpus_sha256") else ()
