"""Recipes are read strictly and followed to a bundle that opens, quantizes and classifies."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import corpus_copies as copies
import numpy as np
import pytest
import soundfile
import torch
from beeps import RECIPE, beeps

from edgeq import bundle, corpora
from edgeq.audio import decode, frontend
from edgeq.commands import present
from edgeq.compress import chain, follow
from edgeq.corpora import Corpus
from edgeq.corpora.trained import trained_on
from edgeq.decision import clip_scores
from edgeq.errors import InputError
from edgeq.lowering.trace import lower
from edgeq.nets import arrays, registry
from edgeq.training import recipe as recipes
from edgeq.training import trial
from edgeq.training.config import Distillation
from edgeq.training.evaluate import clip_probabilities, normalisation
from edgeq.training.features import at_speed, corpus_maps
from edgeq.training.session import corpus_at
from edgeq.training.tables import Member, Pruning

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return beeps(tmp_path_factory.mktemp("beeps"))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module")
def trained(corpus: Corpus, work: Path) -> bundle.Bundle:
    result = follow.run(work / "recipe.toml", corpus.clips[0].path.parent.parent, work / "beeps")
    assert result["metrics"]["training_accuracy"] == 1.0
    return bundle.read(result["bundle"])


def test_bundle_holds_what_deploying_takes(trained: bundle.Bundle, corpus: Corpus) -> None:
    bundle.check(trained)
    assert trained.labels == ("high", "low")
    assert trained.architecture.classes == 2
    assert trained.frontend.floor == 1e-3
    assert trained.provenance["clips"] == 12, "the clip under an excluded licence is left out"
    assert trained.provenance["seed"] == 1
    assert trained.licence == "Apache-2.0"
    network = registry.build(trained.architecture)
    graph = lower(network, trained.architecture)
    assert {op.output for op in graph.ops} | {"input"} == set(trained.ranges())
    assert len(trained.goldens().seeds) >= 64
    assert not list(trained.folder.parent.glob("*.checkpoint")), "a finished run needs no checkpoint"


def test_clips_that_cannot_be_used_are_left_out_and_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = beeps(tmp_path / "corpus")
    damaged = corpus.clips[4].path
    damaged.write_bytes(damaged.read_bytes()[:3000])
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.replace("epochs = 12", "epochs = 1").replace("[1.1]", "[]"))
    result = follow.run(recipe, tmp_path / "corpus", tmp_path / "beeps")
    assert [(row["file"], row["kind"]) for row in result["left_out"]] == [(str(damaged), "unreadable")]
    present(result, "training", False)
    shown = capsys.readouterr().out
    assert "left out: 1 recording that cannot be used" in shown and str(damaged) in shown
    provenance = bundle.read(result["bundle"]).provenance
    assert provenance["clips"] == 11
    heard = {clip.path for clip in corpus.clips if clip.licence == "CC0"} - {damaged}
    assert {clip.path for clip in trained_on(provenance, corpora.open(tmp_path / "corpus"))} == heard
    soundfile.write(corpus.clips[5].path, np.ones(100), 44100)
    with pytest.raises(InputError, match="2 of 13 clips cannot be used"):
        follow.run(recipe, tmp_path / "corpus", tmp_path / "beeps")


def test_a_layout_is_taken_where_the_folder_does_not_tell(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.replace("epochs = 12", "epochs = 1"))
    folder = copies.esc50(tmp_path / "corpus")
    assert len(corpora.open(folder).labels) != len(corpus_at(folder, "esc10").labels)
    with pytest.raises(InputError, match="corpus other: expected one of"):
        follow.run(recipe, folder, tmp_path / "beeps", layout="other")


def test_a_start_that_has_heard_what_is_held_out_is_refused(
    trained: bundle.Bundle, corpus: Corpus, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE + f'\n[start]\nmodel = "{trained.folder}"\nhead = "own"\n')
    read = recipes.read(recipe)
    with pytest.raises(InputError, match="was trained on 6 of the clips held out"):
        follow.held_out(read, corpus, tmp_path, 1)
    chain.check(read, follow._setting(read, corpus, tmp_path))


def test_bundle_classifies_from_the_recording(trained: bundle.Bundle, corpus: Corpus) -> None:
    network = registry.build(trained.architecture)
    network.load_state_dict({k: torch.from_numpy(v) for k, v in trained.weights().items()}, strict=False)
    network.eval()
    for clip in corpus.clips:
        features, gated = frontend.recording_features(decode.read(clip.path, 44100), trained.frontend)
        scores = clip_scores(arrays.probabilities(network, "softmax", features), gated)
        assert trained.labels[scores.argmax()] == clip.label


def test_training_twice_gives_the_same_bundle(trained: bundle.Bundle, corpus: Corpus, work: Path) -> None:
    again, _ = follow.train(recipes.read(work / "recipe.toml"), corpus, work / "again", work)
    assert again.files == trained.files
    assert (again.folder / "bundle.json").read_bytes() == (trained.folder / "bundle.json").read_bytes()


def test_cross_validation_counts_every_clip_once(corpus: Corpus, work: Path) -> None:
    recipe = recipes.read(work / "recipe.toml")
    result = follow.cross_validation(recipe, corpus, work)
    assert result["clips"] == 12
    assert result["confusion"] == [[3, 0], [0, 3]], "the mean of two folds of six clips, all right"
    assert result["labels"] == ["high", "low"]
    assert set(result["folds"]) == {"1", "2"}
    assert result["accuracy"] == result["accuracy_float"] == 1.0
    assert result["agreement"] == 1.0
    assert not list(work.glob("*.checkpoint"))


def test_cross_validation_of_several_labels_tells_mean_average_precision(corpus: Corpus, tmp_path: Path) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    clips = [replace(clip, labels=("high", "low")) if i in (0, 3) else clip for i, clip in enumerate(corpus.clips)]
    several = replace(corpus, clips=tuple(clips), multi_label=True)
    text = RECIPE.replace("epochs = 12", "epochs = 3")
    recipe = recipes.read(_written(tmp_path, text.replace("[frontend]", 'output = "sigmoid"\n[frontend]')))
    found = follow.cross_validation(recipe, several, tmp_path)
    assert found.keys() == {"clips", "mean_average_precision", "mean_average_precision_float", "folds"}
    assert found["clips"] == 12 and found["folds"].keys() == {"1", "2"}
    expected = {}
    for fold in several.folds:
        scores = follow.held_out(recipe, several, tmp_path, fold)
        held_out = several.without_licences(["secret"])
        truth = held_out.positives(held_out.part(fold=fold))
        assert scores["positives"] == [np.flatnonzero(row).tolist() for row in truth]
        # Rounded to five digits, as they are given, they may pass a threshold together.
        for kind, given in (("int8", "mean_average_precision"), ("float", "mean_average_precision_float")):
            precision = metrics.average_precision_score(truth, scores[f"probabilities_{kind}"], average="macro")
            assert scores[f"mean_average_precision_{kind}"] == pytest.approx(precision, abs=1e-6)
            expected.setdefault(given, []).append(precision)
    for given, precisions in expected.items():
        assert found[given] == pytest.approx(np.mean(precisions), abs=1e-6)


def test_cross_validation_needs_folds(corpus: Corpus, work: Path) -> None:
    one = corpus.select(lambda clip: clip.fold == 1)
    with pytest.raises(InputError, match="expected at least 2"):
        follow.cross_validation(recipes.read(work / "recipe.toml"), one, work)


def test_int8_predictions_follow_the_float_ones(corpus: Corpus, work: Path) -> None:
    recipe = recipes.read(work / "recipe.toml")
    maps = corpus_maps(corpus, recipe.frontend, recipe.fit.speeds, work / "features")
    architecture = recipe.architecture.with_classes(2)
    fitted = trial.train_on(corpus, maps, range(12), architecture, recipe.frontend, recipe.fit, 0)
    in_float = clip_probabilities(fitted.predict(), maps.logmels[0], fitted.frontend)
    in_int8 = clip_probabilities(trial.int8_predict(fitted.int8_graph()), maps.logmels[0], fitted.frontend)
    assert np.abs(in_float - in_int8).max() < 0.1


def test_maps_are_cached_and_follow_the_files(corpus: Corpus, tmp_path: Path) -> None:
    recipe = recipes.read(_written(tmp_path, RECIPE))
    told: list[int] = []
    maps = corpus_maps(corpus, recipe.frontend, (1.1,), tmp_path, told.append)
    assert told == [1] * 13
    again = corpus_maps(corpus, recipe.frontend, (1.1,), tmp_path, told.append)
    assert len(told) == 13, "read from the cache"
    for speed in (0, 1):
        for one, other in zip(maps.logmels[speed], again.logmels[speed], strict=True):
            np.testing.assert_array_equal(one, other)
    waveform = decode.read(corpus.clips[3].path, 44100)
    np.testing.assert_array_equal(maps.logmels[0][3], frontend.logmel(waveform, recipe.frontend))
    (stored,) = tmp_path.glob("logmel-*.npz")
    stored.write_bytes(stored.read_bytes()[:1000])
    repaired = corpus_maps(corpus, recipe.frontend, (1.1,), tmp_path)
    np.testing.assert_array_equal(repaired.logmels[1][5], maps.logmels[1][5])


def test_a_recording_that_is_too_short_is_named(corpus: Corpus, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "click.wav", np.ones(5), 44100)
    short = replace(corpus, clips=(replace(corpus.clips[0], path=tmp_path / "click.wav"),))
    with pytest.raises(InputError, match=r"click\.wav: waveform of 5 samples"):
        corpus_maps(short, frontend.PRESETS["dcase2022"])


def test_speed_moves_pitch_and_length(corpus: Corpus) -> None:
    spec = frontend.PRESETS["dcase2022"]
    tone = np.sin(2 * np.pi * 1000 * np.arange(2 * 44100) / 44100).astype(np.float32)
    faster = at_speed(tone, 1.25, spec)
    assert len(faster) == pytest.approx(2 * 44100 / 1.25, abs=2)
    peak = np.abs(np.fft.rfft(faster * np.hanning(len(faster)))).argmax() * 44100 / len(faster)
    assert peak == pytest.approx(1250, abs=2)


def test_a_recipe_asks_for_the_other_reading_of_the_derivatives(corpus: Corpus, tmp_path: Path) -> None:
    asked = 'power = 2.0\nderivatives = "power-frequency"\nfloor = 1e-3'
    recipe = recipes.read(_written(tmp_path, RECIPE.replace("floor = 1e-3", asked)))
    spec = recipe.frontend
    assert (spec.derivatives, spec.derivative_width, spec.floor) == ("power-frequency", 5, 1e-3)
    wide = recipes.read(_written(tmp_path, RECIPE.replace("floor = 1e-3", asked + "\nderivative_width = 9")))
    assert wide.frontend == replace(spec, derivative_width=9)
    # Maps of derivatives over time are those of no derivatives; of these they are not.
    maps = corpus_maps(corpus, spec, (1.1,), tmp_path)
    for other in (replace(spec, mean=(1.0,) * 4), frontend.with_derivatives(spec), wide.frontend):
        corpus_maps(corpus, other, (1.1,), tmp_path)
    assert len(list(tmp_path.glob("logmel-*.npz"))) == 3
    assert maps.logmels[0][0].shape[0] == 4 * spec.n_mels
    fit = replace(recipe.fit, epochs=1)
    fitted = trial.train_on(corpus, maps, range(12), recipe.architecture.with_classes(2), spec, fit, 0)
    assert clip_probabilities(fitted.predict(), maps.logmels[0], fitted.frontend).shape == (13, 2)


@pytest.mark.parametrize("derivatives", ["none", "time", "power-frequency"])
def test_normalisation_gives_mean_0_and_deviation_1(derivatives: str) -> None:
    spec = frontend.with_derivatives(frontend.PRESETS["edge-32k"], derivatives)
    random = np.random.default_rng(0)
    rows = spec.logmel_rows
    logmels = [random.normal(-10, 5, (rows, 200)), np.full((rows, 60), -60.0)]  # the second is gated
    mean, std = normalisation(logmels, spec)
    windows = frontend.cut(logmels[0], spec)
    normal = frontend.features(windows, replace(spec, mean=mean, std=std))
    np.testing.assert_allclose(normal.mean(axis=(0, 2, 3)), 0, atol=1e-3)
    np.testing.assert_allclose(normal.std(axis=(0, 2, 3)), 1, atol=1e-3)
    with pytest.raises(InputError, match="every window of the clips is below the gate"):
        normalisation(logmels[1:], spec)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('name = "beeps"', ""), "missing key name"),
        (('name = "beeps"', 'name = "../beeps"'), "name '../beeps'"),
        (('"qdcase22"', '"qdcase23"'), "architecture 'qdcase23'"),
        (("seed = 1", "sede = 1"), "unknown key sede: did you mean seed"),
        (("seed = 1", 'seed = "1"'), "seed = '1': expected a whole number"),
        (("seed = 1", "seed = true"), "seed = True: expected a whole number"),
        (("threads = 1", "threads = 0"), "threads 0"),
        (('["secret"]', "[1]"), "expected a list of strings"),
        (("epochs = 12", ""), r"missing key fit\.epochs"),
        (("epochs = 12", "epochs = 1.5"), r"fit\.epochs = 1\.5: expected a whole number"),
        (("epochs = 12", "epochs = -1"), "epochs = -1"),
        (("batch_size", "batchsize"), r"did you mean fit\.batch_size"),
        (("[1.1]", '["fast"]'), r"fit\.speeds"),
        (("[1.1]", "1.1"), r"fit\.speeds = 1\.1: expected a list"),
        (("floor = 1e-3", "flor = 1e-3"), r"did you mean frontend\.floor"),
        (("floor = 1e-3", "mean = [0.0]"), r"unknown key frontend\.mean"),
        (("floor = 1e-3", 'preset = "edge"'), r"frontend\.preset 'edge'"),
        (("floor = 1e-3", 'preset = "edge-32k"'), "the architecture takes"),
        (("floor = 1e-3", 'derivatives = "none"'), "the architecture takes"),
        (("floor = 1e-3", 'derivatives = "frequency"'), "derivatives is 'frequency', expected"),
        (("floor = 1e-3", "derivatives = 1"), r"frontend\.derivatives = 1: expected a string"),
        (("floor = 1e-3", 'derivatives = "power-frequency"'), r"power is '1\.0', expected 2"),
        (("[fit]", "[fit"), "not TOML"),
        (("seed = 1", f"seed = {'1' * 5000}"), "not TOML"),
        (("seed = 1", f"seed = {'[' * 5000}"), "not TOML"),
        (("seed = 1", "widths = 16"), "widths = 16: expected a list"),
        (("seed = 1", "widths = [16, 0, 32, 100]"), "expected positive integers"),
        (("[fit]", "[prun]\n[fit]"), "unknown key prun: did you mean prune"),
        (("[fit]", "[prune]\nratio = 0.5\n[fit]"), r"missing key prune\.method"),
        (
            ("[fit]", '[prune]\nmethod = "l1"\nsite = ["a"]\n[fit]'),
            r"prune\.site: did you mean prune\.sites",
        ),
        (("[fit]", '[prune]\nmethod = "l1"\nratio = "half"\n[fit]'), r"prune\.ratio = 'half': expected a number"),
        (("[fit]", '[prune]\nmethod = "l1"\nsteps = 2\n[fit]'), r"prune\.steps = 2: expected 1 to 1, the epochs of"),
        (("[fit]", "[fine_tune]\nepoch = 3\n[fit]"), r"unknown key fine_tune\.epoch: did you mean fine_tune\.epochs"),
        (("[fit]", "[fine_tune]\nepochs = 0\n[fit]"), "fine_tune: fit: epochs = 0"),
        (("[fit]", "[teacher]\nalpha = 0.5\n[fit]"), r"teacher: expected model \(a bundle\), recipe"),
        (
            ("[fit]", '[teacher]\nmodel = "a"\ntemprature = 2\n[fit]'),
            r"teacher\.temprature: did you mean teacher\.temperature",
        ),
        (("[fit]", "[teacher]\nmodel = 3\n[fit]"), r"teacher\.model = 3: expected a string or a list"),
        (("[fit]", '[teacher]\nmodel = "a"\nalpha = 1.5\n[fit]'), "alpha 1.5: expected a number from 0 to 1"),
        (("[fit]", '[teacher]\nmodel = "a"\nseeds = [1]\n[fit]'), r"teacher\.seeds: says how often teacher\.recipe"),
        (("[fit]", '[teacher]\nrecipe = "gone.toml"\n[fit]'), r"gone\.toml: cannot be read"),
        (("[fit]", '[teacher]\nrecipe = "recipe.toml"\n[fit]'), "is the recipe of its own teacher"),
        (("[fit]", '[teacher]\nrecipe = "other.toml"\n[fit]'), r"window_seconds 10\.0, the student's 1\.0; expected"),
        (("[fit]", '[teacher]\nrecipe = "other.toml"\nseeds = [1, 1]\n[fit]'), r"seeds = \[1, 1\]: expected different"),
    ],
)
def test_recipes_are_read_strictly(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    elsewhere = '"mobilenetv1"\n'  # for windows of 10 s
    _written(tmp_path, RECIPE.replace('"qdcase22"\n', elsewhere)).rename(tmp_path / "other.toml")
    path = _written(tmp_path, RECIPE.replace(*change))
    with pytest.raises(InputError, match=message) as refused:
        recipes.read(path)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


ENSEMBLE = """
[prune]
method = "similarity"
[[members]]
name = "c1"
ratios = { conv1 = 0.25 }
[[members]]
name = "c13"
ratios = { conv1 = 0.25, conv3 = 0.3125 }
"""


def test_ratios_stand_for_sites(tmp_path: Path) -> None:
    table = '[prune]\nmethod = "l1"\nratios = { conv1 = 0.25, "conv3" = 0 }\n'
    recipe = recipes.read(_written(tmp_path, RECIPE + table))
    assert recipe.prune == Pruning("l1", None, ("conv1=0.25", "conv3=0.0"))
    assert recipe.of_members() == (recipe,)


def test_members_are_recipes_that_differ_in_what_goes(tmp_path: Path) -> None:
    recipe = recipes.read(_written(tmp_path, RECIPE + ENSEMBLE))
    assert recipe.members == (
        Member("c1", ("conv1=0.25",)),
        Member("c13", ("conv1=0.25", "conv3=0.3125")),
    )
    one, other = recipe.of_members()
    assert other.prune == Pruning("similarity", None, ("conv1=0.25", "conv3=0.3125"))
    assert (one.member, other.member) == ("c1", "c13")
    assert replace(one, member="", prune=None) == replace(other, member="", prune=None)
    assert one.of_members() == (one,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('name = "c13"', 'name = "c1"'), r"members\.2\.name = 'c1': an earlier member has that name"),
        (('name = "c13"', 'name = "c/13"'), r"members\.2: name 'c/13'"),
        (('name = "c13"', "name = 13"), r"members\.2: name = 13: expected a string"),
        (('name = "c13"', ""), r"missing key members\.2\.name"),
        (('name = "c13"', 'nam = "c13"'), r"unknown key members\.2\.nam: did you mean members\.2\.name"),
        (("ratios = { conv1 = 0.25 }", "ratio = 0.25"), r"members\.1\.ratio: did you mean members\.1\.ratios"),
        (("ratios = { conv1 = 0.25 }", ""), r"missing key members\.1\.ratios"),
        (("{ conv1 = 0.25 }", "{}"), r"members\.c1\.ratios: is empty; name at least one site"),
        (("{ conv1 = 0.25 }", "0.25"), r"members\.c1\.ratios = 0\.25: expected a table"),
        (("{ conv1 = 0.25 }", '{ conv1 = "a quarter" }'), r"ratios\.conv1 = 'a quarter': expected a number"),
        (("{ conv1 = 0.25 }", "{ convs.3 = 0.25 }"), r'ratios\.convs: is a table; write .* with a dot as "convs\.3"'),
        (('[prune]\nmethod = "similarity"\n', ""), r"nothing says how they are pruned; add \[prune\] with method"),
        (('method = "similarity"', 'method = "l1"\nratio = 0.5'), r"prune\.ratio: every member has ratios of its own"),
        (('method = "similarity"', 'method = "l1"\nsites = ["conv1"]'), r"prune\.sites: every member has ratios"),
        (('method = "similarity"', 'method = "l1"\nratios = { conv1 = 0.5 }'), r"prune\.ratios: every member has"),
        (("[[members]]", "[[member]]"), "unknown key member: did you mean members"),
    ],
)
def test_members_are_read_strictly(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = _written(tmp_path, RECIPE + ENSEMBLE.replace(*change))
    with pytest.raises(InputError, match=message) as refused:
        recipes.read(path)
    assert str(refused.value).startswith(str(path)) and "\n" not in str(refused.value)


def test_an_ensemble_has_more_than_one_member(tmp_path: Path) -> None:
    alone, _, _ = ENSEMBLE.rpartition("[[members]]")
    with pytest.raises(InputError, match=r"members: found 1, expected at least 2; one network alone is \[prune\]'s"):
        recipes.read(_written(tmp_path, RECIPE + alone))
    with pytest.raises(InputError, match=r"members = \{'name': 'c1'\}: expected a list"):
        recipes.read(_written(tmp_path, RECIPE + "[members]\nname = 'c1'"))
    with pytest.raises(InputError, match=r"prune\.ratio: prune\.ratios says already what goes where"):
        recipes.read(_written(tmp_path, RECIPE + "[prune]\nmethod = 'l1'\nratio = 0.5\nratios = { conv1 = 0.5 }"))


def test_a_chain_is_read_with_the_defaults_of_its_fit(tmp_path: Path) -> None:
    tables = """
widths = [8, 8, 16, 20]
[prune]
method = "l1"
ratio = 0.5
sites = ["conv2=0.25", "conv3"]
[fine_tune]
epochs = 5
learning_rate = 1e-3
[teacher]
recipe = "teacher/recipe.toml"
seeds = [0, 1]
temperature = 4
"""
    (tmp_path / "teacher").mkdir()
    teacher = _written(tmp_path / "teacher", RECIPE.replace("epochs = 12", "epochs = 7"))
    widths, _, rest = tables.strip().partition("\n")
    recipe = recipes.read(_written(tmp_path, RECIPE.replace("seed = 1", f"seed = 1\n{widths}") + rest))
    plain = recipes.read(teacher)
    assert recipe.architecture.widths == (8, 8, 16, 20)
    assert recipe.prune == Pruning("l1", 0.5, ("conv2=0.25", "conv3"))
    assert recipe.fine_tune == replace(recipe.fit, epochs=5, learning_rate=1e-3)
    assert recipe.teacher is not None and recipe.teacher.recipe == plain
    assert (recipe.teacher.seeds, recipe.teacher.how) == ((0, 1), Distillation(0.5, 4.0))
    before = recipe.sha256
    teacher.write_text(teacher.read_text() + "weight_decay = 0.1")
    assert recipes.read(tmp_path / "recipe.toml").sha256 != before, "the teacher's recipe is a part of it"


def test_a_plain_recipe_is_known_by_its_file(tmp_path: Path) -> None:
    path = _written(tmp_path, RECIPE)
    assert recipes.read(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.toml: cannot be read"):
        recipes.read(tmp_path / "gone.toml")


@pytest.mark.parametrize("path", sorted(ROOT.glob("models/*/recipe.toml")), ids=lambda path: path.parent.name)
def test_recipes_of_the_zoo_are_valid(path: Path) -> None:
    recipe = recipes.read(path)
    assert recipe.name == path.parent.name
    assert recipe.frontend.window_seconds == 1.0
    assert "CC-Sampling+" in recipe.exclude_licences


def _written(folder: Path, content: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(content)
    return path
