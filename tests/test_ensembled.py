"""What `edgeq ensemble` makes of models: a bundle like any other, and numbers that hold when measured apart from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from bundles import FRONTEND, LABELS, exported, network

from edgeq import bundle, classify, cli, goldens, inspection, runtime, show
from edgeq.audio.windows import windows
from edgeq.bundle import Bundle
from edgeq.compress import ensembled
from edgeq.decision import clip_scores
from edgeq.errors import InputError
from edgeq.export import run as exporting
from edgeq.nets import arrays
from edgeq.nets.spec import ArchitectureSpec, EnsembleSpec


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    """Three decisive networks; in the second the filters of the last three layers differ, in the third all do."""
    folder = tmp_path_factory.mktemp("members")
    return [member(folder / name, number) for number, name in enumerate(("first", "second", "third"))]


def member(folder: Path, number: int, **changes: Any) -> Bundle:
    weights = arrays.weights(network()[0])
    random = np.random.default_rng(number)
    for name, values in weights.items():
        layer = name.split(".")[1] if name.startswith(("convs", "bns")) else "4"
        if (number == 1 and layer in "234") or number == 2:
            values *= random.uniform(0.6, 1.4, values.shape).astype(np.float32)
    return exported(folder, name=folder.name, weights=weights, exports={}, **{"licence": "CC0-1.0", **changes})


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory, members: list[Bundle]) -> Path:
    """Sounds of 1 s and of 1.5 s that the first member labels, every third of them with the label that comes next."""
    folder = tmp_path_factory.mktemp("recordings")
    ready = runtime.open(members[0], stage="torch")
    for seed in range(400, 424):
        sound = goldens.waveform(seed, FRONTEND)
        sound = np.concatenate([sound, sound[: len(sound) // 2]]) if seed % 2 else sound
        path = folder / f"{seed}.wav"
        soundfile.write(path, sound, FRONTEND.sample_rate)
        label = int(scores([ready], path).argmax())
        place = folder / LABELS[(label + (seed % 3 == 0)) % 4] / path.name
        place.parent.mkdir(exist_ok=True)
        path.rename(place)
    for label in LABELS:  # a class that nothing was heard as is one all the same
        (folder / label).mkdir(exist_ok=True)
        if not any((folder / label).iterdir()):
            soundfile.write(folder / label / "quiet.wav", np.zeros(8000), FRONTEND.sample_rate)
    other = folder / "other"
    other.mkdir()
    soundfile.write(other / "unknown.wav", goldens.waveform(1, FRONTEND), FRONTEND.sample_rate)
    return folder


def scores(ready: list[Any], path: Path) -> np.ndarray:
    """A clip's scores by the mean of several runtimes."""
    found = list(windows(path, FRONTEND))
    gated = np.concatenate([one.gated for one in found])
    features = np.concatenate([one.features for one in found])
    return clip_scores(np.mean([one.predict(features) for one in ready], axis=0), gated)


def accuracy(bundles: list[Bundle], folder: Path, stage: str = "torch", name: str | None = None) -> float:
    ready = [runtime.open(one, stage=stage, runtime=name) for one in bundles]
    paths = [path for label in LABELS for path in sorted((folder / label).iterdir())]
    return float(np.mean([scores(ready, path).argmax() == LABELS.index(path.parent.name) for path in paths]))


@pytest.fixture(scope="module")
def made(members: list[Bundle], recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("made") / "all"
    models = [one.folder for one in members]
    return ensembled.run(models, folder, data=recordings, leave_one_out=True, budget="dcase2022")


def test_accuracies_are_those_of_the_members_and_their_means(
    made: dict[str, Any], members: list[Bundle], recordings: Path
) -> None:
    assert [one["name"] for one in made["members"]] == ["first", "second", "third"]
    for one, told in zip(members, made["members"], strict=True):
        assert told["accuracy_float"] == accuracy([one], recordings)
        assert told["weights_sha256"] == one.files[bundle.WEIGHTS].sha256
    assert made["accuracy_float"] == accuracy(members, recordings)
    for number, told in enumerate(made["leave_one_out"]):
        rest = [one for other, one in enumerate(members) if other != number]
        assert (told["without"], told["accuracy_float"]) == (members[number].name, accuracy(rest, recordings))
        assert told["gain"] == made["accuracy"] - told["accuracy"]
        costs = [one for other, one in enumerate(made["members"]) if other != number]
        assert told["parameters"] == sum(one["parameters"] for one in costs)
        assert told["macs"] == sum(one["macs"] for one in costs)
    assert 0.3 < made["members"][0]["accuracy_float"] < 0.9
    assert made["clips"] == sum(1 for label in LABELS for _ in (recordings / label).iterdir())
    assert made["budget"] == {"name": "dcase2022", "ok": True, "reasons": []}


def test_it_exports_verifies_classifies_and_is_inspected_like_any_other(
    made: dict[str, Any], members: list[Bundle], recordings: Path, tmp_path: Path
) -> None:
    done = exporting.export(made["bundle"], tmp_path / "files", int8=True)
    assert done.report.passed
    assert done.to_json()["ops"]["SOFTMAX"] == 3
    found = accuracy([done.bundle], recordings, "tflite-int8", "litert-reference")
    assert found == made["accuracy"]  # in LiteRT as in the interpreter
    path = sorted((recordings / LABELS[0]).iterdir())[0]
    (heard,) = classify.classify(tmp_path / "files", [path], top=4)
    expected = scores([runtime.open(one, stage="torch") for one in members], path)
    assert {entry.label: pytest.approx(entry.score, abs=1e-5) for entry in heard.top} == dict(
        zip(LABELS, expected, strict=True)
    )
    told = inspection.inspect(made["bundle"], budget="dcase2022")
    assert (told["parameters"], told["macs"]) == (made["parameters"], made["macs"])
    assert [layer["name"] for layer in told["layers"]][-1] == "mean"
    file = inspection.inspect(str(tmp_path / "files" / done.bundle.exports["tflite-int8"]))
    assert file["macs"]["network"] == made["macs"]["network"]
    reopened = bundle.read(made["bundle"])
    assert isinstance(reopened.architecture, EnsembleSpec)
    assert reopened.provenance["ranges"] == recordings.name
    assert [one["name"] for one in reopened.provenance["members"]] == ["first", "second", "third"]
    assert reopened.licence == "CC0-1.0"


@pytest.fixture(scope="module")
def pair(members: list[Bundle], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Two of them, merged without recordings."""
    folder = tmp_path_factory.mktemp("pair") / "pair"
    told = ensembled.run([one.folder for one in members[:2]], folder)
    assert "accuracy" not in told and "clips" not in told
    return bundle.read(told["bundle"])


def test_without_recordings_the_ranges_are_the_members_own(members: list[Bundle], pair: Bundle, tmp_path: Path) -> None:
    """Each member then rounds as its own INT8 file does."""
    assert pair.provenance["ranges"] == "those of the members"
    ranges, own = pair.ranges(), [one.ranges() for one in members[:2]]
    assert ranges["conv_1"] == own[0]["conv_1"] and ranges["conv_6"] == own[1]["conv_1"]
    assert ranges["softmax_2"] == own[1]["softmax"]
    assert exporting.export(pair.folder, tmp_path / "files", formats=("tflite",), int8=True).report.passed


def test_shared_maps_are_told_and_save_what_they_cost(
    members: list[Bundle], recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    models = [one.folder for one in members]
    made = ensembled.run(models, tmp_path / "shared", share_tolerance=1e-5, data=recordings, leave_one_out=True)
    told = made["shared"]
    firsts = [("convs.0", 4), ("convs.1", 8)]
    assert [(one["layer"], one["maps"]) for one in told["layers"] if one["member"] == "second"] == firsts
    assert told["maps"] == 12 and told["compared_on"] == recordings.name
    weights = 4 * 9 + 4 * 8 * 9 + 4 * (4 + 8)
    assert told["parameters_saved"] == weights
    assert told["macs_saved"] == 16 * 50 * 4 * 9 + 8 * 25 * 4 * 8 * 9
    before = told["before"]
    assert before["parameters"]["with_statistics"] - weights == made["parameters"]["with_statistics"]
    assert (before["accuracy_float"], made["accuracy_float"]) == (accuracy(members, recordings),) * 2
    written = bundle.read(made["bundle"])
    assert accuracy([written], recordings) == made["accuracy_float"]
    assert not any(name.startswith(("members.1.convs.0", "members.1.convs.1")) for name in written.weights())
    done = exporting.export(written.folder, tmp_path / "files", formats=("tflite",), int8=True)
    assert done.report.passed
    assert accuracy([done.bundle], recordings, "tflite-int8", "litert-reference") == made["accuracy"]
    monkeypatch.setenv("COLUMNS", "80")
    show.ensemble(made)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80 or str(tmp_path) in out
    for text in ("second", "together", "maps shared", f"saves {weights} parameters", "what it adds"):
        assert text in out


def edgeq(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        cli.main(["ensemble", *map(str, arguments)])
    out, err = capsys.readouterr()
    return int(str(stop.value.code)), out, err


def test_the_command_compares_maps_on_synthetic_sounds_and_prints_one_json_value(
    members: list[Bundle], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models, options = [one.folder for one in members[:2]], ("--share-tolerance", 1e-5, "--json")
    code, out, err = edgeq(capsys, *models, "-o", tmp_path / "shared", *options)
    assert code == 0, err
    told = json.loads(out)
    assert {"bundle", "members", "parameters", "macs", "budget"} <= set(told)
    assert told["budget"] is None and told["bundle"] == str(tmp_path / "shared")
    assert (told["shared"]["compared_on"], told["shared"]["maps"]) == ("synthetic sounds", 12)
    assert bundle.read(told["bundle"]).provenance["ranges"] == "synthetic sounds"


def test_over_the_budget_nothing_is_written(
    members: list[Bundle], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = tmp_path / "tight.toml"
    limits.write_text("parameters = 100\nmacs = 1000")
    code, out, err = edgeq(capsys, *(one.folder for one in members), "--budget", limits, "-o", tmp_path / "over")
    assert (code, out) == (1, "")
    assert "over the limit of 100; " in err and "nothing was written" in err
    assert not (tmp_path / "over").exists()


@pytest.fixture(scope="module")
def others(members: list[Bundle], pair: Bundle, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("others")
    places = {one.name: one.folder for one in members}
    places["twin"] = member(folder / "twin", 0).folder
    places["renamed"] = member(folder / "renamed", 1, labels=(*LABELS[:3], "squeak")).folder
    places["pair"] = pair.folder
    (folder / "data" / "elsewhere").mkdir(parents=True)
    (folder / "data" / "somewhere").mkdir()
    for place in ("elsewhere", "somewhere"):
        soundfile.write(folder / "data" / place / "a.wav", goldens.waveform(1, FRONTEND), FRONTEND.sample_rate)
    places["data"] = folder / "data"
    return places


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{first}"], "an ensemble of 1 model: expected at least 2"),
        ([], "Missing argument"),
        (["{first}", "{first}"], "named twice"),
        (["{first}", "{twin}"], "has the weights of"),
        (["{first}", "{renamed}"], "4 labels (bark, chirp, hum, knock) and 4 labels (bark, chirp, hum, squeak)"),
        (["{first}", "dcase22"], "first and dcase22: 4 labels"),
        (["{first}", "{pair}"], "is an ensemble itself: name its members instead"),
        (["{first}", "{second}", "-o", "{second}"], "is the member second itself"),
        (["{first}", "{second}", "--leave-one-out"], "add --data DIR"),
        (["{first}", "{second}", "--share-tolerance", "-1"], "expected a number from 0 up"),
        (["{first}", "{second}", "--budget", "none"], "budget none: neither a file nor one of"),
        (
            ["{first}", "{second}", "--data", "{data}"],
            "the models know bark, chirp, hum, knock: expected some in common",
        ),
        (["{first}", "{second}", "--data", "{data}/none"], "found nothing, expected the folder of a corpus"),
        (["{first}", "nothing"], "model 'nothing'"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    arguments: list[str], message: str, others: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = [argument.format(**others) for argument in arguments]
    code, out, err = edgeq(capsys, *chosen, *([] if "-o" in chosen else ["-o", tmp_path / "out"]))
    assert (code, out) == (2, "")
    told = err.splitlines()[-1]  # a slow machine shows before how far it is
    assert message in told and told.startswith("edgeq: ") and "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_an_ensemble_is_not_pruned_but_its_members(others: dict[str, Path]) -> None:
    from edgeq.compress import pruned

    with pytest.raises(InputError, match="an ensemble; prune its members"):
        pruned.run(others["pair"], method="l1", ratio=0.5)


def test_a_stored_ensemble_whose_weights_are_others_is_refused(others: dict[str, Path], tmp_path: Path) -> None:
    opened = bundle.read(others["pair"])
    wrong = bundle.write(
        tmp_path / "wrong",
        name="wrong",
        architecture=EnsembleSpec((ArchitectureSpec("cnn5", (4, 8, 8, 8, 20), 4, FRONTEND.input_shape),) * 2),
        frontend=FRONTEND,
        labels=LABELS,
        weights=opened.weights(),
    )
    with pytest.raises(InputError, match="the weights are not those of the architecture"):
        runtime.open(wrong, stage="torch")
