"""What a bundle records of the clips it was trained on: the same packed or not, and found again in either."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from beeps import RECIPE, beeps

from edgeq import corpora
from edgeq.corpora import Corpus, pack, packed_corpus
from edgeq.corpora.trained import trained_on
from edgeq.training import recipe as recipes
from edgeq.training import result, session
from edgeq.training.tables import Recipe

KEYS = ("corpus", "corpus_sha256", "clips", "folds", "left_out_sha256")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Corpus, Corpus]:
    """A corpus of which one recording is damaged, as it is and packed."""
    folder = tmp_path_factory.mktemp("trained")
    damaged = beeps(folder / "corpus").clips[4].path
    damaged.write_bytes(damaged.read_bytes()[:3000])
    pack.pack(folder / "corpus", folder / "packed", jobs=1, max_damaged=0.2)
    return corpora.open(folder / "corpus"), packed_corpus.open(folder / "packed")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    path = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    path.write_text(RECIPE)
    return recipes.read(path)


def record(corpus: Corpus, recipe: Recipe, fold: int | None = None) -> dict[str, Any]:
    """What a training on all of a corpus that can be used says of it, or on one fold."""
    usable, left_out = session.sound(corpus, recipe.frontend, recipe.fit.speeds)
    chosen = usable.without_licences(recipe.exclude_licences)
    if fold is not None:
        chosen = chosen.subset(chosen.part(fold=fold))
    told = result.provenance(chosen, recipe.fit, recipe.seed, recipe.threads, left_out)
    return {"exclude_licences": list(recipe.exclude_licences), **{key: told[key] for key in KEYS}}


@pytest.mark.parametrize("fold", [None, 2])
def test_it_is_the_same_packed_or_not_and_found_in_both(
    both: tuple[Corpus, Corpus], recipe: Recipe, fold: int | None
) -> None:
    told, packed = (record(corpus, recipe, fold) for corpus in both)
    assert told == packed and told["clips"] == (11 if fold is None else 6)
    heard = [{clip.path.stem for clip in trained_on(told, corpus)} for corpus in both]
    assert heard[0] == heard[1] and len(heard[0]) == told["clips"]
    other = {**told, "corpus_sha256": "0" * 64}
    assert not any(len(trained_on(other, corpus)) for corpus in both)


def test_recordings_decide_and_not_how_they_were_packed(both: tuple[Corpus, Corpus], tmp_path: Path) -> None:
    corpus, packed = both
    usable = np.flatnonzero([clip.path.stem != "4" for clip in corpus.clips])
    assert packed.recordings_hash == corpus.subset(usable).recordings_hash
    assert packed.hash != packed.recordings_hash, "to training it is other data"
    few = packed.subset([3, 1, 2])
    assert few.recordings_hash == packed.subset([1, 2, 3]).recordings_hash
    named = {packed.clips[i].path.stem for i in (1, 2, 3)}
    assert few.recordings_hash == corpus.select(lambda clip: clip.path.stem in named).recordings_hash
    relabelled = [replace(clip, labels=("low",)) for clip in corpus.clips]
    assert replace(corpus, clips=relabelled).recordings_hash != corpus.recordings_hash


def test_a_recording_of_millions_is_looked_up_without_going_over_all(
    both: tuple[Corpus, Corpus], monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = both[1]
    expected = packed.recordings_hash
    made: list[int] = []
    arange = np.arange
    monkeypatch.setattr(
        "edgeq.corpora.clips.np.arange", lambda *told, **options: made.append(1) or arange(*told, **options)
    )
    assert packed.recordings_hash == expected and len(made) <= 2
    named = {clip.path.stem: number for number, clip in enumerate(both[0].clips)}
    hashes = [packed.recording_hash(number) for number in range(-1, len(packed.clips) - 1)]
    stems = [packed.clips[number].path.stem for number in range(-1, len(packed.clips) - 1)]
    assert hashes == [both[0].recording_hash(named[stem]) for stem in stems]
