"""Scores on labelled recordings against scikit-learn, and against what `edgeq classify` says of each alone."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import sklearn.metrics
import soundfile

import edgeq
from edgeq import classify, corpora, goldens, runtime, zoo
from edgeq.bench import accuracy, report, run
from edgeq.bench.computer import Settings
from edgeq.errors import InputError
from edgeq.runtime import Runtime
from edgeq.show.benchmarks import benchmarks

MODEL = zoo.find("esc10-qtiny")
STAGES = ("tflite", "tflite-int8")
CLIPS = {"dog": range(4), "rain": range(4, 9), "rooster": range(9, 11)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic sounds, in folders named after what they are said to be."""
    folder = tmp_path_factory.mktemp("data") / "sounds"
    for label, seeds in CLIPS.items():
        (folder / label).mkdir(parents=True)
        for seed in seeds:
            samples = goldens.waveform(seed, MODEL.frontend)
            soundfile.write(folder / label / f"{seed}.wav", samples, MODEL.frontend.sample_rate, subtype="FLOAT")
    return folder


@pytest.fixture(scope="module")
def ready() -> dict[str, Runtime]:
    return {stage: runtime.open(MODEL, stage=stage) for stage in STAGES}


def told(data: Path, int8: bool) -> tuple[np.ndarray, np.ndarray]:
    """Scores by the command, and targets, in the model's order of labels."""
    clips = corpora.open(data).clips
    found = classify.classify(MODEL, [clip.path for clip in clips], top=10, runtime="litert", int8=int8)
    rows = [{score.label: score.score for score in one.top} for one in found]
    scores = np.array([[row[label] for label in MODEL.labels] for row in rows])
    return scores, np.array([MODEL.labels.index(clip.label) for clip in clips])


def test_every_stage_is_scored_as_scikit_learn_scores_it(data: Path, ready: dict[str, Runtime]) -> None:
    found = accuracy.measure(MODEL, ready, data)
    assert tuple(found) == STAGES
    for stage, scores in found.items():
        probabilities, targets = told(data, stage == "tflite-int8")
        labels, answers = np.arange(10), probabilities.argmax(axis=1)
        assert scores.accuracy.mean == pytest.approx(sklearn.metrics.accuracy_score(targets, answers))
        assert scores.accuracy.low < scores.accuracy.mean < scores.accuracy.high and scores.clips == 11
        np.testing.assert_array_equal(
            scores.confusion, sklearn.metrics.confusion_matrix(targets, answers, labels=labels)
        )
        floored = np.clip(probabilities, 1e-7, 1)[np.arange(11), targets]
        assert scores.log_loss == pytest.approx(-np.log(floored).mean(), rel=1e-4)
        gaps = [
            abs(np.sum((answers == targets)[inside] - probabilities.max(axis=1)[inside]))
            for m in range(15)
            if (inside := np.ceil(probabilities.max(axis=1) * 15) == m + 1).any()
        ]
        assert scores.expected_calibration_error == pytest.approx(sum(gaps) / 11, abs=1e-4)
        assert scores.skipped == 0 and scores.mean_average_precision is None
        assert len(scores.warnings) == 1 and "which the model knows and the folder lacks" in scores.warnings[0]


def test_json_is_plain_and_says_its_kind(data: Path, ready: dict[str, Runtime]) -> None:
    scores = accuracy.measure(MODEL, ready, data)["tflite-int8"]
    values = json.loads(json.dumps(scores.to_json(), allow_nan=False))
    assert set(values) == {
        "accuracy", "log_loss", "expected_calibration_error", "calibration_bins", "confusion", "labels", "skipped",
        "kind",
    }  # fmt: skip
    assert set(values["accuracy"]) == {"mean", "low", "high", "method", "clips"}
    assert values["kind"] == "measured" and values["calibration_bins"] == 15
    assert np.sum(values["confusion"]) == 11 and len(values["labels"]) == 10


def test_classes_that_do_not_exclude_each_other_are_judged_by_precision(data: Path, ready: dict[str, Runtime]) -> None:
    several = replace(MODEL, architecture=replace(MODEL.architecture, output="sigmoid"))
    found = accuracy.measure(several, ready, data)["tflite"]
    probabilities, targets = told(data, False)
    used = sorted(set(targets))
    expected = sklearn.metrics.average_precision_score(
        targets[:, None] == np.array(used), probabilities[:, used], average="macro"
    )
    assert found.mean_average_precision == pytest.approx(expected)
    assert found.log_loss is None and found.expected_calibration_error is None
    assert "log_loss" not in found.to_json() and "calibration_bins" not in found.to_json()


def test_clips_of_several_labels_are_judged_by_precision_alone(
    data: Path, ready: dict[str, Runtime], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    several = tmp_path / "several"
    shutil.copytree(data, several / "audio")
    clips = [clip.path.relative_to(data) for clip in corpora.open(data).clips]
    labels = [("dog", "rain") if number % 3 == 0 else (path.parts[0],) for number, path in enumerate(clips)]
    lines = [f"audio/{path},{';'.join(names)}" for path, names in zip(clips, labels, strict=True)]
    (several / "clips.csv").write_text("\n".join(["path,labels", *lines]) + "\n")
    assert corpora.open(several).multi_label
    probabilities, _ = told(data, False)
    positives = np.array([[label in names for label in MODEL.labels] for names in labels])
    used = positives.any(axis=0)
    expected = sklearn.metrics.average_precision_score(positives[:, used], probabilities[:, used], average="macro")
    found = accuracy.measure(MODEL, ready, several)["tflite"]
    assert found.mean_average_precision == pytest.approx(expected)
    said = found.to_json()
    assert said["clips"] == 11 and not {"accuracy", "confusion", "log_loss"} & set(said)

    settings = Settings(stages=("tflite",), seconds=0.1, runs=3, meter=None)
    (one,) = run.bench("esc10-qtiny", "cpu", settings, data=several).results
    value = one.to_json()
    jsonschema.validate(value, json.loads((Path(edgeq.__file__).parent / "bench" / "schema.json").read_text()))
    report.write([value], tmp_path / "out.md")
    assert f"{100 * expected:.1f} % ●" in (tmp_path / "out.md").read_text()
    benchmarks(value)
    assert f"{expected:.3f}" in capsys.readouterr().out


def test_one_damaged_recording_of_many_is_left_out_and_named(
    data: Path, ready: dict[str, Runtime], tmp_path: Path
) -> None:
    damaged = shutil.copytree(data, tmp_path / "damaged")
    (damaged / "dog" / "0.wav").write_bytes(b"RIFF, but not for long")
    found = accuracy.measure(MODEL, ready, damaged)
    (damaged / "dog" / "0.wav").unlink()
    expected = accuracy.measure(MODEL, ready, damaged)
    for stage in STAGES:
        assert found[stage].skipped == 1 and found[stage].clips == 10
        assert any(
            "0.wav" in line and "without 1 recording that cannot be scored" in line for line in found[stage].warnings
        )
        assert found[stage].accuracy == expected[stage].accuracy
        np.testing.assert_array_equal(found[stage].confusion, expected[stage].confusion)
    for name in ("1.wav", "2.wav"):
        (damaged / "dog" / name).write_bytes(b"")
    with pytest.raises(InputError, match=r"damaged: 2 of 10 clips cannot be used.*1\.wav"):
        accuracy.measure(MODEL, ready, damaged)


def test_a_runtime_that_fails_is_not_taken_for_a_damaged_recording(data: Path, ready: dict[str, Runtime]) -> None:
    class Fails:
        name, input_shape, classes, int8 = "litert", MODEL.frontend.input_shape, 10, False
        metadata: dict[str, str] = {}  # noqa: RUF012

        def predict(self, features: np.ndarray) -> np.ndarray:
            raise InputError("model.tflite: cannot run it")

    with pytest.raises(InputError, match=r"^model\.tflite"):
        accuracy.measure(MODEL, {"tflite": Fails()}, data)

    class Empty(Fails):
        def predict(self, features: np.ndarray) -> np.ndarray:
            return np.full((len(features), 10), np.nan, np.float32)

    with pytest.raises(InputError, match="scores of tflite hold NaN"):
        accuracy.measure(MODEL, {"tflite": Empty()}, data)

    class Other(Fails):
        classes = 4

    with pytest.raises(InputError, match="of another network"):
        accuracy.measure(MODEL, {"tflite": Other()}, data)


def test_labels_the_model_lacks_and_no_clips_are_one_line(
    data: Path, ready: dict[str, Runtime], tmp_path: Path
) -> None:
    other = shutil.copytree(data, tmp_path / "other")
    (other / "rain").rename(other / "thunder")
    with pytest.raises(InputError, match=r"other: label thunder not among those of esc10-qtiny \(chainsaw, .*rename"):
        accuracy.measure(MODEL, ready, other)
    (tmp_path / "none").mkdir()
    for folder in (tmp_path / "none", tmp_path / "missing"):
        with pytest.raises(InputError, match=folder.name):
            accuracy.measure(MODEL, ready, folder)


def test_recordings_that_the_model_was_trained_on_are_told(
    data: Path, ready: dict[str, Runtime], tmp_path: Path
) -> None:
    corpus = corpora.open(data)
    says = {"corpus": corpus.name, "corpus_sha256": corpus.hash, "clips": 11, "folds": [], "exclude_licences": []}
    trained = accuracy.measure(replace(MODEL, provenance=says), {"tflite": ready["tflite"]}, data)["tflite"]
    assert any("trained on 11 of the 11 recordings" in line for line in trained.warnings)
    others = accuracy.measure(
        replace(MODEL, provenance={**says, "corpus_sha256": "0" * 64}), {"tflite": ready["tflite"]}, data
    )["tflite"]
    assert not any("trained on" in line for line in others.warnings)


def test_real_recordings_that_it_was_trained_on_are_known(
    esc10: Path, ready: dict[str, Runtime], tmp_path: Path
) -> None:
    (tmp_path / "audio").symlink_to(esc10 / "audio")
    header, *lines = (esc10 / "meta.csv").read_text().splitlines()
    (tmp_path / "meta.csv").write_text("\n".join([header, *lines[::16]]))
    for scores in accuracy.measure(MODEL, ready, tmp_path).values():
        assert scores.clips == 20 and scores.accuracy.mean >= 0.9
