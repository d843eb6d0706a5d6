"""One training: where it starts from, and what it was trained under."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from beeps import RECIPE, beeps

from edgeq.audio.frontend import FrontendSpec
from edgeq.corpora import Corpus
from edgeq.errors import InputError
from edgeq.training import recipe as recipes
from edgeq.training.evaluate import clip_probabilities
from edgeq.training.features import CorpusMaps, corpus_maps
from edgeq.training.tables import Recipe
from edgeq.training.teacher import Member, Teacher
from edgeq.training.trial import HeldBack, Trained, train_on

CLIPS = range(8)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return beeps(tmp_path_factory.mktemp("beeps"))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    path = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    path.write_text(RECIPE)
    read = recipes.read(path)
    return replace(read, architecture=read.architecture.with_classes(2), fit=replace(read.fit, epochs=2))


@pytest.fixture(scope="module")
def maps(corpus: Corpus, recipe: Recipe) -> CorpusMaps:
    return corpus_maps(corpus, recipe.frontend, recipe.fit.speeds)


@pytest.fixture(scope="module")
def parent(corpus: Corpus, recipe: Recipe, maps: CorpusMaps) -> Trained:
    return train_on(corpus, maps, CLIPS, recipe.architecture, recipe.frontend, recipe.fit, 0)


def test_a_seed_may_be_larger_than_what_torch_takes(corpus: Corpus, recipe: Recipe, maps: CorpusMaps) -> None:
    quick = replace(recipe.fit, epochs=1)
    assert train_on(corpus, maps, CLIPS, recipe.architecture, recipe.frontend, quick, 10**24).ranges


def test_fine_tuning_starts_at_the_weights_and_keeps_their_normalisation(
    corpus: Corpus, recipe: Recipe, maps: CorpusMaps, parent: Trained
) -> None:
    before = parent.weights()
    gentle = replace(recipe.fit, epochs=1, learning_rate=1e-7, average_decay=0.0, weight_decay=0.0)
    tuned = train_on(
        corpus, maps, range(4, 12), parent.architecture, parent.frontend, gentle, 0, start=parent.network
    )  # fmt: skip
    assert tuned.frontend == parent.frontend, "though these are other clips"
    assert all(np.array_equal(before[name], value) for name, value in parent.weights().items()), "a copy is trained"
    for name, value in tuned.weights().items():
        if "running" not in name:
            np.testing.assert_allclose(value, before[name], atol=1e-5)
    assert tuned.ranges != parent.ranges, "calibrated on its own clips"


def test_a_teacher_with_maps_of_the_whole_corpus_hears_the_students_clips(
    corpus: Corpus, recipe: Recipe, maps: CorpusMaps, parent: Trained
) -> None:
    fit = replace(recipe.fit, gain_db=12.0, filter_db=6.0, mix_probability=0.5)

    def heard(spec: FrontendSpec, own: CorpusMaps | None) -> list[torch.Tensor]:
        inputs: list[torch.Tensor] = []

        def network(features: torch.Tensor) -> torch.Tensor:
            inputs.append(features.clone())
            return features.new_zeros(len(features), 2)

        member = Member("t", network, corpus.labels, "softmax", spec, "0", own)
        train_on(
            corpus, maps, range(4, 12), recipe.architecture, recipe.frontend, fit, 0, teacher=Teacher((member,))
        )  # fmt: skip
        return inputs

    # A hair's breadth makes it another log-mel, which is then cropped and augmented on its own.
    other = replace(parent.frontend, floor=recipe.frontend.floor * (1 + 1e-9))
    for one, another in zip(heard(parent.frontend, None), heard(other, maps), strict=True):
        torch.testing.assert_close(one, another, atol=1e-3, rtol=0)


def test_many_labels_a_clip_are_learnt_one_by_one(corpus: Corpus, recipe: Recipe, maps: CorpusMaps) -> None:
    architecture = replace(recipe.architecture, output="sigmoid")
    fit = replace(recipe.fit, epochs=12)
    trained = train_on(corpus, maps, range(12), architecture, recipe.frontend, fit, 0)
    scores = clip_probabilities(trained.predict(), maps.select(range(12)).logmels[0], trained.frontend)
    assert (scores.argmax(axis=1) == np.array(corpus.targets)[:12]).all()
    assert scores.max(axis=1).min() > 0.6 and scores.min(axis=1).max() < 0.4, "each class on its own"


def test_a_checkpoint_chosen_by_other_clips_is_refused(
    corpus: Corpus, recipe: Recipe, maps: CorpusMaps, tmp_path: Path
) -> None:
    fit, checkpoint = replace(recipe.fit, epochs=1), tmp_path / "run"
    of = recipe.architecture, recipe.frontend, fit, 0, checkpoint
    for held_back in (HeldBack([8, 9, 10]), HeldBack([8, 9, 10], keep=2)):
        assert train_on(corpus, maps, CLIPS, *of, held_back=held_back).best is not None
    for other in (HeldBack([8, 9, 11]), HeldBack([8, 9, 10], every=2), None):
        with pytest.raises(InputError, match=r"run: found a checkpoint of .* other validation clips; remove it"):
            train_on(corpus, maps, CLIPS, *of, held_back=other)


def test_a_teacher_with_other_labels_is_refused(corpus: Corpus, recipe: Recipe, maps: CorpusMaps, parent: Trained):
    stranger = Member("stranger", parent.network, ("a", "b", "c"), "softmax", parent.frontend, "0")
    with pytest.raises(InputError, match="teacher stranger: 3 labels, the student 2: it does not know high, low"):
        train_on(
            corpus, maps, CLIPS, recipe.architecture, recipe.frontend, recipe.fit, 0, teacher=Teacher((stranger,))
        )  # fmt: skip
