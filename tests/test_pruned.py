"""A pruned model is a bundle like any other, and says what was done to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import exported, network

from edgeq import bundle, cli, inspection, runtime, show
from edgeq.bundle import Bundle
from edgeq.compress import importance, pruned
from edgeq.compress.prune import prune
from edgeq.errors import InputError
from edgeq.export import run
from edgeq.nets import arrays, registry

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
    assert set(done.bundle.exports) == set(bundle.EXPORTS)


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
