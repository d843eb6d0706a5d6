"""A recipe's stages: each starts where the one before ended, is done once, and never hears what is held out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from beeps import RECIPE, beeps

from edgeq import bundle, goldens, runtime, verify
from edgeq.compress import chain, follow
from edgeq.compress.chain import Setting, Stage
from edgeq.corpora import Corpus
from edgeq.errors import InputError
from edgeq.export import run as exporting
from edgeq.nets.count import totals
from edgeq.nets.spec import EnsembleSpec
from edgeq.training import fit as fitting
from edgeq.training import recipe as recipes
from edgeq.training.session import maps
from edgeq.training.tables import Recipe
from edgeq.training.trial import held_out_scores

TEACHER = """
name = "teacher"
architecture = "dcase22"
seed = 1
threads = 1
exclude_licences = ["secret"]

[frontend]
floor = 1e-3
floor_rule = "add"

[fit]
epochs = 4
batch_size = 4
learning_rate = 0.01
average_decay = 0.5
speeds = [1.1]
"""

PRUNE = """
[prune]
method = "operator-norm"
ratio = 0.5
sites = ["conv2", "conv3"]
"""

TUNE = """
[fine_tune]
epochs = 3
learning_rate = 0.001
"""

TAUGHT = """
[teacher]
recipe = "teacher.toml"
alpha = 0.25
"""

MEMBERS = """
[prune]
method = "similarity"

[[members]]
name = "first"
ratios = { conv1 = 0.25 }

[[members]]
name = "both"
ratios = { conv1 = 0.25, conv3 = 0.5 }
"""

KILLED = """
import signal, sys, torch
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_chain import followed
from edgeq.compress import chain
train_on = chain.train_on
def stopping(corpus, maps, clips, architecture, spec, config, seed, checkpoint, on_progress, start, *rest):
    def told(epoch, loss):
        on_progress(epoch, loss)
        if start is not None and epoch == 1:
            print("fine-tuning", flush=True)
            signal.pause()
    return train_on(corpus, maps, clips, architecture, spec, config, seed, checkpoint, told, start, *rest)
chain.train_on = stopping
followed(Path({folder!r}))
"""


@pytest.fixture(autouse=True)
def few_sounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """These networks decide little: do not search a thousand sounds for goldens."""
    monkeypatch.setattr(goldens, "_CANDIDATES", goldens.COUNT)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return beeps(tmp_path_factory.mktemp("beeps"))


def written(folder: Path, *tables: str, name: str = "chained") -> Path:
    """A recipe of few epochs with these tables, beside its teacher's."""
    (folder / "teacher.toml").write_text(TEACHER)
    path = folder / f"{name}.toml"
    path.write_text(RECIPE.replace('"beeps"', f'"{name}"').replace("epochs = 12", "epochs = 4") + "".join(tables))
    return path


def followed(folder: Path) -> bundle.Bundle:
    """The recipe in a folder that holds corpus and recipe, followed there."""
    result = follow.run(folder / "chained.toml", folder / "corpus", folder / "out" / "chained")
    return bundle.read(result["bundle"])


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What each training was asked for."""
    told: list[dict[str, Any]] = []
    train_on = chain.train_on
    # As the chain passes them, in this order.
    names = ["corpus", "maps", "clips", "architecture", "spec", "config", "seed", "checkpoint", "on_progress"]
    names += ["start", "teacher", "held_back"]

    def noting(*values: Any) -> Any:
        told.append(dict(zip(names, values, strict=True)))
        return train_on(*values)

    monkeypatch.setattr(chain, "train_on", noting)
    return told


def whole(corpus: Corpus, work: Path) -> Setting:
    return Setting(corpus, range(len(corpus.clips)), work)


def test_stages_of_every_kind_of_recipe(tmp_path: Path) -> None:
    def of(*tables: str) -> tuple[Stage, ...]:
        return chain.stages(recipes.read(written(tmp_path, *tables)))

    fit = recipes.read(written(tmp_path)).fit
    tune = replace(fit, epochs=3, learning_rate=0.001)
    assert of() == (Stage(fit),)
    assert of(TAUGHT) == (Stage(fit, taught=True),)
    assert of(PRUNE) == (Stage(fit), Stage(None, 1))
    assert of(TUNE, TAUGHT) == (Stage(fit), Stage(tune, taught=True))
    assert of(PRUNE, TUNE) == (Stage(fit), Stage(tune, 1))
    assert of(PRUNE + "steps = 2\n", TUNE, TAUGHT) == (
        Stage(fit),
        Stage(replace(tune, epochs=1), 1, taught=True),
        Stage(replace(tune, epochs=2), 2, taught=True),
    )


def test_a_recipe_rebuilds_its_model_whole(corpus: Corpus, tmp_path: Path, trainings: list[dict[str, Any]]) -> None:
    recipe = recipes.read(written(tmp_path, PRUNE, TUNE, TAUGHT + "seeds = [0, 5]\n"))
    built, metrics = follow.train(recipe, corpus, tmp_path / "out", tmp_path / "work")
    bundle.check(built)
    assert built.architecture.widths == (16, 8, 16, 100)
    assert metrics["lowered"] < 9_000
    parent, *teachers, last = trainings
    assert parent["start"] is None and parent["teacher"] is None
    assert [one["seed"] for one in teachers] == [0, 5] and all(one["corpus"] is parent["corpus"] for one in teachers)
    assert last["start"] is not None and last["seed"] != parent["seed"]
    assert [member.name for member in last["teacher"].members] == ["teacher", "teacher"]
    assert built.frontend == last["spec"] == bundle.read(next((tmp_path / "work/stages").glob("q*"))).frontend
    told = built.provenance["distilled"]
    assert (told["alpha"], told["temperature"]) == (0.25, 2.0)
    stored = {bundle.read(path).files["weights.safetensors"].sha256 for path in (tmp_path / "work/stages").glob("d*")}
    assert {teacher["weights_sha256"] for teacher in told["teachers"]} == stored
    assert built.provenance["pruned"]["widths"] == [16, 16, 32, 100]
    assert not list((tmp_path / "work").rglob("*.checkpoint")), "a finished chain needs none"


@pytest.mark.slow
def test_a_chained_bundle_exports_and_verifies_like_any_other(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # with goldens of a network that has learnt to decide
    recipe = recipes.read(written(tmp_path, PRUNE, TUNE))
    recipe = replace(recipe, fit=replace(recipe.fit, epochs=12))
    built, _ = follow.train(recipe, corpus, tmp_path / "out", tmp_path / "work")
    exporting.export(str(built.folder), tmp_path / "exported", formats=("onnx", "tflite"), int8=True)
    assert verify.verify(str(tmp_path / "exported"), data=None).passed


def test_variants_share_their_parent_and_repeat_themselves(
    corpus: Corpus, tmp_path: Path, trainings: list[dict[str, Any]]
) -> None:
    first = recipes.read(written(tmp_path, PRUNE, TUNE))
    other = recipes.read(written(tmp_path, PRUNE.replace("0.5", "0.25"), TUNE, name="other"))
    kept = [follow.train(one, corpus, tmp_path / one.name, tmp_path / "work")[0] for one in (first, other)]
    assert [one["start"] is None for one in trainings] == [True, False, False], "one parent for both"
    assert [one.architecture.widths[1] for one in kept] == [8, 12]
    again, _ = follow.train(first, corpus, tmp_path / "again", tmp_path / "elsewhere")
    assert (again.folder / "bundle.json").read_bytes() == (kept[0].folder / "bundle.json").read_bytes()


def test_members_of_one_parent_become_one_network(
    corpus: Corpus, tmp_path: Path, trainings: list[dict[str, Any]]
) -> None:
    recipe = recipes.read(written(tmp_path, MEMBERS, TUNE))
    built, metrics = follow.train(recipe, corpus, tmp_path / "out", tmp_path / "work")
    bundle.check(built)
    assert isinstance(built.architecture, EnsembleSpec)
    assert [member.widths for member in built.architecture.members] == [(12, 16, 32, 100), (12, 16, 16, 100)]
    _, *tuned = trainings
    assert [one["start"] is None for one in trainings] == [True, False, False], "one parent for both"
    assert len({one["seed"] for one in trainings}) == 3, "neither hears the other's crops, or the parent's"
    kept = {one.name: one for one in map(bundle.read, (tmp_path / "work/stages").iterdir())}
    assert set(kept) == {"chained", "first", "both"}
    assert built.provenance["members"] == [
        {
            "name": name,
            "sites": sites,
            "widths": list(kept[name].architecture.widths),
            "weights_sha256": kept[name].files["weights.safetensors"].sha256,
        }
        for name, sites in (("first", ["conv1=0.25"]), ("both", ["conv1=0.25", "conv3=0.5"]))
    ]
    assert built.provenance["pruned"]["widths"] == [16, 16, 32, 100]
    assert built.provenance["pruned"]["method"] == "similarity"
    assert built.frontend == tuned[0]["spec"] == tuned[1]["spec"]
    features = goldens.inputs(range(4), built.frontend)
    alone = [runtime.open(kept[name].folder, stage="torch").predict(features) for name in ("first", "both")]
    together = runtime.open(built.folder, stage="torch").predict(features)
    np.testing.assert_allclose(together, np.mean(alone, axis=0), atol=1e-6)
    assert metrics["parameters"] == sum(
        totals(one.architecture, one.frontend)["parameters"] for name, one in kept.items() if name != "chained"
    )


def test_a_killed_ensemble_keeps_the_members_it_has(
    corpus: Corpus, tmp_path: Path, trainings: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, setting = recipes.read(written(tmp_path, MEMBERS, TUNE)), whole(corpus, tmp_path / "work")
    noting = chain.train_on

    def stopping(*values: Any) -> Any:
        if len(trainings) == 2:
            raise KeyboardInterrupt
        return noting(*values)

    with monkeypatch.context() as patched:
        patched.setattr(chain, "train_on", stopping)
        with pytest.raises(KeyboardInterrupt):
            chain.trained(recipe, setting, None, "test")
    resumed = chain.trained(recipe, setting, None, "test").weights()
    assert [one["start"] is None for one in trainings] == [True, False, False], "no training was done again"
    straight = chain.trained(recipe, whole(corpus, tmp_path / "elsewhere"), None, "test").weights()
    assert resumed.keys() == straight.keys()
    for name, values in straight.items():
        np.testing.assert_array_equal(resumed[name], values)


def test_cross_validated_members_have_scores_of_their_own(corpus: Corpus, tmp_path: Path) -> None:
    recipe = recipes.read(written(tmp_path, MEMBERS, TUNE))
    scores = follow.held_out(recipe, corpus, tmp_path, 1)
    setting = follow.without_fold(recipe, corpus, tmp_path, 1)
    assert list(scores["members"]) == ["first", "both"]
    testing = [i for i, clip in enumerate(setting.corpus.clips) if clip.fold == 1]
    for name, member in chain.members_trained(recipe, setting).items():
        heard = maps(setting.corpus, member.frontend, recipe.fit, tmp_path)
        assert scores["members"][name] == held_out_scores(member, setting.corpus, heard, testing)
    floats = np.mean([one["probabilities_float"] for one in scores["members"].values()], axis=0)
    np.testing.assert_allclose(scores["probabilities_float"], floats, atol=2e-5)
    assert "members" not in follow.held_out(replace(recipe, members=(), prune=None), corpus, tmp_path, 1)


def test_an_ensemble_teaches_with_all_its_members(
    corpus: Corpus, tmp_path: Path, trainings: list[dict[str, Any]]
) -> None:
    path = written(tmp_path, TAUGHT)
    (tmp_path / "teacher.toml").write_text(TEACHER + MEMBERS + TUNE)
    built, _ = follow.train(recipes.read(path), corpus, tmp_path / "out", tmp_path / "work")
    assert [one["name"] for one in built.provenance["distilled"]["teachers"]] == ["first", "both"]
    assert len(trainings) == 4 and len(trainings[-1]["teacher"].members) == 2


def test_filters_that_go_in_steps_leave_as_many_as_at_once(corpus: Corpus, tmp_path: Path) -> None:
    table = PRUNE.replace('["conv2", "conv3"]', '["conv1=0.25", "conv3=0.5"]')
    found = []
    for steps in (1, 3):
        recipe = recipes.read(written(tmp_path, table + f"steps = {steps}\n", TUNE))
        outcome = chain.trained(recipe, whole(corpus, tmp_path / "work"), None, "test")
        found.append(outcome.architecture.widths)
    assert found == [(12, 16, 16, 100)] * 2
    widths = {bundle.read(path).architecture.widths for path in (tmp_path / "work/stages").iterdir()}
    assert widths == {(16, 16, 32, 100), (12, 16, 24, 100), (12, 16, 20, 100)}


def test_nothing_held_out_is_heard_by_parent_or_teacher(
    corpus: Corpus, tmp_path: Path, trainings: list[dict[str, Any]]
) -> None:
    recipe = recipes.read(written(tmp_path, PRUNE, TUNE, TAUGHT))
    result = follow.cross_validation(recipe, corpus, tmp_path)
    assert result["clips"] == 12
    assert len(trainings) == 2 * 3
    for fold, those in ((1, trainings[:3]), (2, trainings[3:])):
        for one in those:
            folds = {one["corpus"].clips[i].fold for i in one["clips"]}
            assert folds == {3 - fold}
    assert len(list((tmp_path / "stages").iterdir())) == 4, "a parent and a teacher for each fold"


def test_a_killed_chain_goes_on_where_it_stood(tmp_path: Path, trainings: list[dict[str, Any]]) -> None:
    """Killed after an epoch of fine-tuning: parent and teacher are not trained again, and no epoch is run twice."""
    places = [tmp_path / "killed", tmp_path / "straight"]
    for place in places:
        place.mkdir()
        beeps(place / "corpus")
        written(place, PRUNE, TUNE, TAUGHT)
    script = KILLED.format(tests=str(Path(__file__).parent), folder=str(places[0]))
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=Path.cwd())
    assert process.stdout is not None
    try:
        assert process.stdout.readline().strip() == "fine-tuning"
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    epochs: list[int] = []
    step = fitting._Run._step

    def counted(run: Any, number: int, heard: Any) -> Any:
        if number % run.course.epoch_steps == 0:
            epochs.append(number // run.course.epoch_steps)
        return step(run, number, heard)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fitting._Run, "_step", counted)
        resumed = followed(places[0])
    assert len(trainings) == 1 and epochs == [1, 2], "only what was left of the fine-tuning"
    straight = followed(places[1])
    assert resumed.files["weights.safetensors"] == straight.files["weights.safetensors"]


def test_a_parent_stopped_half_way_is_not_begun_again(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, setting = recipes.read(written(tmp_path, TUNE)), whole(corpus, tmp_path / "work")
    epochs: list[int] = []
    step = fitting._Run._step

    def stopping(run: Any, number: int, heard: Any) -> Any:
        if number % run.course.epoch_steps == 0:
            epochs.append(number // run.course.epoch_steps if len(epochs) != 2 else -1)
        if epochs[-1] == -1:
            raise KeyboardInterrupt
        return step(run, number, heard)

    monkeypatch.setattr(fitting._Run, "_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        chain.trained(recipe, setting, None, "test")
    chain.trained(recipe, setting, None, "test")
    assert epochs == [0, 1, -1, 2, 3, 0, 1, 2], "two epochs of the parent were left, then three of fine-tuning"


def test_what_would_fail_late_is_told_at_once(corpus: Corpus, tmp_path: Path, trainings: list[dict[str, Any]]) -> None:
    stranger = tmp_path / "stranger"
    for tables, message in (
        ((PRUNE.replace("conv3", "conv9"),), r"chained, \[prune\]: .* layer 'conv9'; did you mean conv3"),
        ((PRUNE.replace("0.5", "0.99"),), "leaves none of its 4 filters; expected at most 0.75"),
        ((PRUNE.replace("operator-norm", "operator_norm"),), "did you mean operator-norm"),
        ((MEMBERS.replace("conv3", "conv9"),), r"chained, member both: .* layer 'conv9'; did you mean conv3"),
        ((MEMBERS.replace("0.5", "1.5"),), r"chained, member both: .*ratio 1\.5: expected 0 or more and less than 1"),
        (('[teacher]\nmodel = "esc10-tinny"\n',), r"chained, \[teacher\]: .* did you mean esc10-tiny"),
        ((TUNE + "crop_seconds = [1.0, 0.5]\n",), "chained: does not take crops of 0.5 s"),
        ((f'[teacher]\nmodel = "esc10-tiny"\n{TAUGHT[11:]}',), "trained by recipe 1299a532, and teacher.recipe is"),
    ):
        recipe = recipes.read(written(tmp_path, *tables))
        with pytest.raises(InputError, match=message):
            follow.train(recipe, corpus, stranger, tmp_path / "work")
    recipe = recipes.read(written(tmp_path, '[teacher]\nmodel = "esc10-tiny"\n'))
    with pytest.raises(
        InputError, match=r"teacher\.model esc10-tiny may have heard the clips held out; give teacher\."
    ):
        follow.cross_validation(recipe, corpus, tmp_path / "work")
    with pytest.raises(InputError, match=r"teacher esc10-tiny: 10 labels, the student 2: it does not know high, low"):
        follow.train(recipe, corpus, stranger, tmp_path / "work")
    assert not trainings and not (tmp_path / "work").exists()


def test_a_model_teaches_where_nothing_is_held_out(
    corpus: Corpus, tmp_path: Path, trainings: list[dict[str, Any]]
) -> None:
    teacher = recipes.read(written(tmp_path).with_name("teacher.toml"))
    model, _ = follow.train(teacher, corpus, tmp_path / "model", tmp_path / "work")
    recipe = recipes.read(written(tmp_path, TAUGHT + 'model = ["./model"]\n'))
    built, _ = follow.train(recipe, corpus, tmp_path / "out", tmp_path / "work")
    (told,) = built.provenance["distilled"]["teachers"]
    assert told["weights_sha256"] == model.files["weights.safetensors"].sha256
    assert len(trainings) == 2
    follow.held_out(recipe, corpus, tmp_path / "work", 1)
    assert len(trainings) == 4, "without the fold its recipe is followed"


def test_other_seeds_and_clips_have_other_parents(corpus: Corpus, tmp_path: Path) -> None:
    recipe = recipes.read(written(tmp_path, TUNE))

    def key(recipe: Recipe, clips: range) -> str:
        return chain._key(recipe, 0, Setting(corpus, clips, tmp_path))

    plain = key(recipe, range(8))
    assert plain == key(replace(recipe, name="other", fine_tune=None), range(8))
    assert plain == key(replace(recipe, member="first"), range(8)), "all members have one parent"
    assert len({plain, key(replace(recipe, seed=2), range(8)), key(recipe, range(1, 9)), key(recipe, range(9))}) == 4


def test_what_was_taught_before_it_was_pruned_is_told_apart_by_its_lesson(corpus: Corpus, tmp_path: Path) -> None:
    """Taught in [fit], pruned after: as a teacher of yet another, such a network is kept."""
    setting = whole(corpus, tmp_path / "work")
    lessons = [TAUGHT, TAUGHT.replace("0.25", "0.75")]
    assert len({chain._key(recipes.read(written(tmp_path, PRUNE, lesson)), 1, setting) for lesson in lessons}) == 2
