"""A pruned model is a bundle like any other, and says what was done to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from beeps import RECIPE, beeps
from bundles import exported, network

from edgeq import bundle, cli, goldens, inspection, runtime, show
from edgeq.bundle import Bundle
from edgeq.compress import follow, importance, pruned
from edgeq.compress.prune import prune
from edgeq.errors import InputError
from edgeq.export import run
from edgeq.nets import arrays, registry
from edgeq.training import fit as fitting

SITES = ["convs.2", "convs.4=.25"]


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A small decisive quaternion network, widths 4, 8, 8, 8, 16, with a measured accuracy."""
    folder = tmp_path_factory.mktemp("pruned") / "parent"
    metrics = {"accuracy": {"mean": 0.9, "low": 0.8, "high": 1.0, "seeds": 3}, "training_accuracy": 1.0, "stored": 1}
    return exported(folder, quaternion=True, metrics=metrics, licence="CC0-1.0", provenance={"seed": 7})


@pytest.fixture(scope="module")
def child(parent: Bundle, tmp_path_factory: pytest.TempPathFactory) -> pruned.Pruned:
    folder = tmp_path_factory.mktemp("pruned") / "child"
    return pruned.run(parent.folder, folder, method="operator-norm", ratio=0.5, sites=SITES)


def test_is_the_pruned_network(parent: Bundle, child: pruned.Pruned) -> None:
    whole, spec = network(quaternion=True)
    expected, narrow, changes = prune(whole, spec, {"convs.2": 0.5, "convs.4": 0.25}, importance.operator_norm)
    again = bundle.read(child.bundle.folder)
    assert again.architecture == narrow
    assert narrow.widths == (4, 8, 4, 8, 12)
    assert child.changes == changes
    x = np.random.default_rng(0).standard_normal((3, *spec.input_shape)).astype(np.float32)
    found = runtime.open(again.folder, stage="torch").predict(x)
    np.testing.assert_allclose(found, arrays.probabilities(expected, "softmax", x), atol=1e-6)
    assert again.labels == parent.labels and again.frontend == parent.frontend and again.decision == parent.decision


def test_says_what_was_done_and_claims_no_accuracy(parent: Bundle, child: pruned.Pruned) -> None:
    written = child.bundle
    record = written.provenance["pruned"]
    assert record["from"] == parent.name == "small"
    assert record["weights_sha256"] == parent.files[bundle.WEIGHTS].sha256
    assert (record["method"], record["ratios"]) == ("operator-norm", {"convs.2": 0.5, "convs.4": 0.25})
    kept = parent.weights()["convs.2.weight"][:, record["kept"]["convs.2"]]
    np.testing.assert_array_equal(kept, written.weights()["convs.2.weight"])
    assert written.provenance["parent"] == {"seed": 7}
    assert written.provenance["ranges"] == "synthetic sounds"
    assert written.licence == "CC0-1.0"
    assert not any("accuracy" in key for key in written.metrics)
    counted = inspection.inspect(str(written.folder))
    assert written.metrics["stored"] == counted["parameters"]["stored"] == child.after.parameters["stored"]
    assert child.before.parameters == inspection.inspect(str(parent.folder))["parameters"]


def test_exports_and_verifies_like_any_other(child: pruned.Pruned, tmp_path: Path) -> None:
    done = run.export(child.bundle.folder, tmp_path / "out", int8=True)
    assert done.report.passed
    assert set(done.bundle.exports) == {"onnx", "onnx-int8", "tflite", "tflite-int8"}


def test_goldens_gate_on_answers_where_the_parent_has_them_and_the_child_still_does(
    parent: Bundle, child: pruned.Pruned, tmp_path: Path
) -> None:
    unchanged = pruned.run(parent.folder, tmp_path / "whole", method="l1", ratio=0.0)
    assert unchanged.bundle.goldens().gate == parent.goldens().gate == "top1"
    assert unchanged.changes == () and unchanged.to_json()["layers"] == []
    assert child.bundle.goldens().gate in ("top1", "sqnr")


def test_an_architecture_is_pruned_to_the_published_one(tmp_path: Path) -> None:
    done = pruned.run("dcase22", tmp_path / "out", method="similarity", sites=["paper"])
    assert done.bundle.architecture == registry.preset("dcase22-c123")
    assert done.bundle.goldens().gate == "sqnr"
    assert done.after.parameters["with_statistics"] == 9_520


def edgeq(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


def test_the_command_prints_the_change(parent: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sites = ("--sites", "convs.2, convs.4=.25")
    output = ("-o", tmp_path / "out", "--json")
    code, out, err = edgeq(capsys, "prune", parent.folder, "--method", "l1", "--ratio", ".5", *sites, *output)
    assert code == 0, err
    report = json.loads(out)
    assert set(report) == {"bundle", "name", "parameters", "macs", "before", "layers", "metrics"}
    assert report["name"] == bundle.read(report["bundle"]).name == "out"
    assert report["parameters"] == inspection.inspect(report["bundle"])["parameters"]
    assert report["macs"]["network"] < report["before"]["macs"]["network"]
    layers = {layer["name"]: layer for layer in report["layers"]}
    assert {name: layer["channels"] for name, layer in layers.items()} == {
        "convs.2": [8, 4], "convs.3": [8, 8], "convs.4": [16, 12], "classifier": [4, 4],
    }  # fmt: skip
    assert layers["convs.3"]["parameters"] == [8 * 8 * 9 // 4, 4 * 8 * 9 // 4]
    show.pruning(report)
    lines = capsys.readouterr().out.splitlines()
    assert " convs.2        8 -> 4    144 -> 72   27,648 -> 13,824 " in lines
    assert any("its accuracy is yet to be measured" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "l2", "--ratio", ".5"], "method 'l2': expected one of l1, geometric-median"),
        (["--method", "l1"], "site convs.0: no ratio for it; give a ratio for all"),
        (["--method", "l1", "--ratio", "1"], "ratio 1: expected 0 or more and less than 1"),
        (["--method", "l1", "--ratio", ".5"], "convs.0: a ratio of 0.5 leaves none of its 1 filters"),
        (["--method", "l1", "--ratio", ".5", "--sites", "conv.2"], "did you mean convs."),
        (["--method", "l1", "--ratio", "half"], "--ratio"),
        (["--method", "l1", "--ratio", ".5", "--round-to", "0"], "--round-to"),
        (["--ratio", ".5"], "--method"),
        (["--method", "l1", "--ratio", ".5", "--fine-tune"], "--fine-tune needs recordings: add --data DIR"),
        (["--method", "l1", "--ratio", ".5", "--data", "clips"], "--data is for fine-tuning: add --fine-tune"),
        (["--method", "l1", "--ratio", ".5", "--epochs", "3"], "--epochs is for fine-tuning: add --fine-tune"),
        (["--method", "l1", "--learning-rate", "1"], "--learning-rate is for fine-tuning: add --fine-tune"),
        (["--method", "l1", "--fine-tune", "--data", "nowhere"], "nowhere"),
        (["--method", "l1", "--ratio", ".5", "-o", "{parent}"], "is the model itself; choose another folder"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], message: str, parent: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [argument.format(parent=parent.folder) for argument in arguments]
    output = [] if "-o" in given else ["-o", tmp_path / "out"]
    code, out, err = edgeq(capsys, "prune", parent.folder, *given, *output)
    assert (code, out) == (2, "")
    assert err.startswith("edgeq: ") and err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_over_what_is_no_bundle(parent: Bundle, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds files and no bundle"):
        pruned.run(parent.folder, tmp_path, method="l1", ratio=0.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    beeps(folder)
    return folder


@pytest.fixture
def few_sounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """These networks decide little: do not search a thousand sounds for goldens."""
    monkeypatch.setattr(goldens, "_CANDIDATES", goldens.COUNT)


@pytest.fixture(scope="module")
def heard(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A model that was trained on the recordings."""
    folder = tmp_path_factory.mktemp("heard")
    (folder / "recipe.toml").write_text(RECIPE.replace("qdcase22", "dcase22").replace("epochs = 12", "epochs = 4"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(goldens, "_CANDIDATES", goldens.COUNT)
        return bundle.read(follow.run(folder / "recipe.toml", data, folder / "beeps")["bundle"])


def tuned(heard: Bundle, data: Path, output: Path, **changes: Any) -> Bundle:
    how = {"method": "l1", "ratio": 0.5, "sites": ["conv3"], "epochs": 3, "threads": 1, **changes}
    return pruned.run(heard.folder, output, data=data, **how).bundle


@pytest.mark.usefixtures("few_sounds")
def test_fine_tuning_goes_on_from_the_smaller_network(heard: Bundle, data: Path, tmp_path: Path) -> None:
    plain = pruned.run(heard.folder, tmp_path / "plain", method="l1", ratio=0.5, sites=["conv3"]).bundle
    hardly = tuned(heard, data, tmp_path / "hardly", learning_rate=1e-9)
    for name, before in plain.weights().items():
        if "running" not in name:  # batch norm's statistics move without a step
            np.testing.assert_allclose(hardly.weights()[name], before, atol=1e-6, err_msg=name)
    assert hardly.frontend == heard.frontend and hardly.architecture == plain.architecture
    built = tuned(heard, data, tmp_path / "tuned", learning_rate=1e-2)
    bundle.check(built)
    assert np.abs(built.weights()["conv3.weight"] - plain.weights()["conv3.weight"]).max() > 1e-4
    assert built.ranges() != plain.ranges() and built.name == "tuned" and built.licence == heard.licence
    assert not list(tmp_path.rglob("*.checkpoint"))


@pytest.mark.usefixtures("few_sounds")
def test_a_fine_tuned_bundle_says_on_what(heard: Bundle, data: Path, tmp_path: Path) -> None:
    built = tuned(heard, data, tmp_path / "tuned", seed=5)
    told = built.provenance
    assert told["fine_tuned"] == {"epochs": 3, "learning_rate": 1e-3}
    assert (told["pruned"]["from"], told["pruned"]["ratios"]) == ("beeps", {"conv3": 0.5})
    assert (told["seed"], told["clips"], told["parent"]["clips"]) == (5, 13, 12)
    assert "ranges" not in told, "they come from the recordings"
    assert 0 <= built.metrics["training_accuracy"] <= 1
    assert built.metrics["stored"] == inspection.inspect(str(built.folder))["parameters"]["stored"]


@pytest.mark.usefixtures("few_sounds")
def test_a_killed_fine_tuning_goes_on_where_it_stood(
    heard: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = tuned(heard, data, tmp_path / "straight")
    epochs: list[int] = []
    step = fitting._Run._step

    def stopping(run: Any, number: int, heard: Any) -> Any:
        if number % run.course.epoch_steps == 0:
            epochs.append(number // run.course.epoch_steps)
            if epochs == [0, 1]:
                raise KeyboardInterrupt
        return step(run, number, heard)

    monkeypatch.setattr(fitting._Run, "_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        tuned(heard, data, tmp_path / "resumed")
    assert (tmp_path / "training" / "resumed.checkpoint").is_file() and not (tmp_path / "resumed").exists()
    resumed = tuned(heard, data, tmp_path / "resumed")
    assert epochs == [0, 1, 1, 2], "the epoch that was done is not done again"
    assert resumed.files == straight.files


@pytest.mark.usefixtures("few_sounds")
def test_the_command_fine_tunes(heard: Bundle, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--method", "l1", "--ratio", ".5", "--fine-tune", "--data", data, "--epochs", "1")
    code, out, err = edgeq(capsys, "prune", heard.folder, *asked, "-o", tmp_path / "out", "--json")
    assert code == 0, err
    report = json.loads(out)
    assert report["metrics"]["training_accuracy"] == bundle.read(report["bundle"]).metrics["training_accuracy"]
    show.pruning(report)
    assert "on the recordings it was fine-tuned on" in " ".join(capsys.readouterr().out.split())


def test_recordings_of_other_labels_are_refused(
    parent: Bundle, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--method", "l1", "--ratio", ".5", "--sites", "convs.4", "--fine-tune", "--data", data)
    code, out, err = edgeq(capsys, "prune", parent.folder, *asked, "-o", tmp_path / "out")
    assert (code, out) == (2, "") and err.count("\n") == 1
    labels = f"small: 4 labels, {data.name} 2: it lacks high, low and it has bark, chirp, hum, knock besides; expected"
    assert labels in err
    assert not (tmp_path / "out").exists() and not (tmp_path / "training").exists()
