"""Recipes are read strictly and followed to a bundle that opens, quantizes and classifies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from edgeq import bundle, corpora
from edgeq.audio import decode, frontend
from edgeq.corpora import Corpus
from edgeq.decision import clip_scores
from edgeq.errors import InputError
from edgeq.lowering.trace import lower
from edgeq.nets import arrays, registry
from edgeq.training import follow, trial
from edgeq.training import recipe as recipes
from edgeq.training.evaluate import clip_probabilities, normalisation
from edgeq.training.features import at_speed, corpus_maps

ROOT = Path(__file__).resolve().parent.parent

RECIPE = """
name = "beeps"
architecture = "qdcase22"
seed = 1
threads = 1
exclude_licences = ["secret"]
licence = "Apache-2.0"

[frontend]
floor = 1e-3
floor_rule = "add"

[fit]
epochs = 12
batch_size = 4
crop_seconds = [1.0]
learning_rate = 0.01
average_decay = 0.5
label_smoothing = 0.0
mix_probability = 0.0
speeds = [1.1]
"""


def beeps(folder: Path) -> Corpus:
    """Twelve recordings of 1.5 s in two folds: low or high tones in noise, one more under a licence to leave out."""
    random = np.random.default_rng(0)
    lines = ["file,fold,category,licence"]
    time = np.arange(66150) / 44100
    for i in range(13):
        label = ("low", "high")[i % 2]
        tone = 0.3 * np.sin(2 * np.pi * (300 if label == "low" else 5000) * (1 + 0.02 * i) * time)
        path = folder / "audio" / f"{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone + 0.001 * random.standard_normal(len(time)), 44100)
        lines.append(f"{i}.wav,{1 + i % 4 // 2},{label},{'secret' if i == 12 else 'CC0'}")
    (folder / "meta.csv").write_text("\n".join(lines))
    return corpora.open(folder)


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
    assert set(result["folds"]) == {"1", "2"}
    assert result["accuracy"] == result["accuracy_float"] == 1.0
    assert result["agreement"] == 1.0
    assert not list(work.glob("*.checkpoint"))


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
    maps = corpus_maps(corpus, recipe.frontend, (1.1,), tmp_path, lambda done, _: told.append(done))
    assert told == list(range(1, 14))
    again = corpus_maps(corpus, recipe.frontend, (1.1,), tmp_path, lambda done, _: told.append(done))
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
    ],
)
def test_recipes_are_read_strictly(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = _written(tmp_path, RECIPE.replace(*change))
    with pytest.raises(InputError, match=message) as refused:
        recipes.read(path)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


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
