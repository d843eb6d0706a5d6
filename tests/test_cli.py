"""The command line's contract: JSON keys, exit codes, one line for every mistake, nothing heavy imported."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from edgeq import cli, doctor, machine, runtime, zoo
from edgeq.errors import InputError

EDGEQ = [sys.executable, "-c", "from edgeq.cli import main; main()"]
SMALL_FILE = zoo.find("esc10-qnano").folder / "esc10-qnano.int8.tflite"
"""What a command of its own process tells something about without torch, whose import takes seconds."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "qnano"
    with pytest.raises(SystemExit) as left:
        cli.main(["export", "qnano", "--onnx", "--tflite", "--int8", "-o", str(folder)])
    assert left.value.code == 0
    return folder


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "tone.wav"
    soundfile.write(path, 0.2 * np.sin(np.arange(44100 * 2) * 0.05), 44100)
    return path


def edgeq(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run a command in this process: exit code, stdout, stderr."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


def as_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    code, out, err = edgeq(capsys, *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def imported_by(*arguments: object) -> tuple[str, set[str]]:
    """Run a command in a process of its own: its stdout, and the packages it has loaded when it ends well."""
    script = (
        "import sys, edgeq.cli\n"
        "try: edgeq.cli.main(sys.argv[1:])\n"
        "except SystemExit as left: assert not left.code\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    printed, _, packages = done.stdout.rstrip("\n").rpartition("\n")
    return printed, set(packages.split())


def test_help_costs_nothing() -> None:
    printed, packages = imported_by("--help")
    assert "classify" in printed and "click" in packages
    assert packages.isdisjoint({"numpy", "torch", "tensorflow", "librosa", "rich", "onnxruntime"})


@pytest.mark.parametrize("arguments", [["inspect", "qnano"], ["export", "qnano"], ["train", "r.toml", "--data", "."]])
def test_a_missing_extra_is_one_line(arguments: list[str], tmp_path: Path) -> None:
    script = "import sys; sys.modules['torch'] = None; import edgeq.cli; edgeq.cli.main(sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "torch" in done.stderr and "pip install 'edgeq[" in done.stderr and done.stderr.count("\n") == 1


def test_classify_imports_neither_torch_nor_tensorflow_nor_librosa(model: Path, recording: Path) -> None:
    _, packages = imported_by("classify", model, recording)
    assert "onnxruntime" in packages
    assert packages.isdisjoint({"torch", "tensorflow", "librosa", "numba", "scipy"})


def test_export_imports_no_tensorflow(tmp_path: Path) -> None:
    printed, packages = imported_by("export", "dcase22-c123", "--int8", "-o", tmp_path / "out", "--json")
    assert json.loads(printed)["verify"]["passed"]
    assert "torch" in packages and "tensorflow" not in packages


def test_models_lists_zoo_and_architectures(capsys: pytest.CaptureFixture[str]) -> None:
    rows = as_json(capsys, "models")
    assert all({"name", "kind", "parameters", "stored", "lowered", "macs"} <= set(row) for row in rows)
    by_name = {row["name"]: row for row in rows}
    assert by_name["dcase22"]["parameters"] == 14_886
    assert by_name["qtiny"]["stored"] == 26_714
    assert edgeq(capsys, "models")[0] == 0


def test_an_architecture_that_there_is_not_is_named_with_its_bundle(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "odd"
    shutil.copytree(model, folder)
    manifest = json.loads((folder / "bundle.json").read_text())
    manifest["architecture"]["family"] = "resnet"
    (folder / "bundle.json").write_text(json.dumps(manifest))
    for command in ("verify", "export", "inspect"):
        code, _, err = edgeq(capsys, command, folder)
        assert code == 2
        assert err.startswith("edgeq: qnano: " if command == "inspect" else f"edgeq: {folder / 'bundle.json'}: ")
        assert "family 'resnet'" in err


@pytest.mark.parametrize(
    "metrics", [{"stored": "many"}, {"macs": [1]}, {"accuracy": "high"}, {"accuracy": {"mean": 0.9, "low": 0.8}}]
)
def test_metrics_that_are_no_numbers_are_named(
    metrics: dict[str, Any],
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(model, tmp_path / "odd")
    manifest = tmp_path / "odd" / "bundle.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"metrics": metrics}))
    monkeypatch.setenv("EDGEQ_MODELS", str(tmp_path))
    code, out, err = edgeq(capsys, "models")
    assert (code, out) == (2, "")
    assert f"metrics: {next(iter(metrics))}" in err
    assert str(manifest) in err


def test_inspect_counts_architectures_bundles_and_files(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = as_json(capsys, "inspect", "qnano", "--budget", "dcase2022")
    assert set(report) == {"name", "parameters", "macs", "macs_per_second", "layers", "budget"}
    assert report["budget"] == {"name": "dcase2022", "ok": True, "reasons": []}
    assert as_json(capsys, "inspect", model)["macs"] == report["macs"]
    for suffix in ("onnx", "tflite", "int8.tflite"):
        file = as_json(capsys, "inspect", model / f"qnano.{suffix}")
        assert file["macs"]["network"] == report["macs"]["network"]
        assert file["parameters"]["lowered"] == report["parameters"]["lowered"]
    assert as_json(capsys, "inspect", "tiny", "--classes", "527")["layers"][-1]["output_shape"] == [527]
    longer = as_json(capsys, "inspect", "tiny", "--clip-seconds", "10")
    assert longer["layers"][0]["output_shape"] == [16, 64, 500]
    assert edgeq(capsys, "inspect", "qnano")[0] == 0


def test_inspect_counts_pruned_architectures(capsys: pytest.CaptureFixture[str]) -> None:
    by_option = as_json(capsys, "inspect", "qcnn14", "--prune-ratio", "0.5", "--classes", "50", "--clip-seconds", "5")
    assert by_option["parameters"]["trainable"] == 6_620_111 - 2049 * (527 - 50)
    assert by_option["macs"]["network"] == 6_246_610_944 - 2048 * (527 - 50)
    by_name = as_json(capsys, "inspect", "qcnn14-p50", "--classes", "50", "--clip-seconds", "5")
    assert {**by_name, "name": "qcnn14"} == by_option
    four = as_json(capsys, "inspect", "cnn14", "--in-channels", "4")
    assert four["parameters"]["trainable"] == 80_755_343


def test_layers_are_whole_in_80_columns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = edgeq(capsys, "inspect", "qresnet38")
    lines = [line.rstrip() for line in out.splitlines()]
    assert max(map(len, lines)) <= 80 and "…" not in out
    assert " layer4.0.skip.0   QuaternionConv2d   512x4x62         32,768      32,505,856" in lines


def test_a_budget_exceeded_is_exit_code_1(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    limits = tmp_path / "limits.toml"
    limits.write_text("macs = 1000")
    code, out, err = edgeq(capsys, "inspect", "qnano", "--budget", limits, "--json")
    assert code == 1
    assert not json.loads(out)["budget"]["ok"]
    assert "over the limit of 1,000" in err


def test_verify_passes_and_a_tampered_file_is_bad_input(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = as_json(capsys, "verify", model)
    assert report["passed"]
    keys = {"name", "clips", "top1_agreement", "max_abs_error", "sqnr_db"}
    assert all(keys <= set(stage) for stage in report["stages"])

    file = model / "qnano.int8.tflite"
    whole = file.read_bytes()
    try:
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        code, out, err = edgeq(capsys, "verify", model)
        assert (code, out) == (2, "")
        assert "qnano.int8.tflite" in err
        assert err.count("\n") == 1
    finally:
        file.write_bytes(whole)


def test_classify_gives_the_best_labels_first(model: Path, recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = as_json(capsys, "classify", model, recording, recording, "--top", "4")
    assert [result["file"] for result in both] == [str(recording)] * 2
    scores = [entry["score"] for entry in both[0]["top"]]
    assert len(scores) == 4
    assert scores == sorted(scores, reverse=True)
    assert both[0]["seconds"] == pytest.approx(2.0, abs=1e-3)
    [int8] = as_json(capsys, "classify", model, recording, "--int8")
    assert abs(int8["top"][0]["score"] - scores[0]) < 0.05
    [file] = as_json(capsys, "classify", model / "qnano.onnx", recording)
    assert file["top"][0]["score"] == pytest.approx(scores[0], abs=1e-6)


def test_doctor_checks_what_is_installed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = edgeq(capsys, "doctor", "--json")
    checks = {check["check"]: check for check in json.loads(out)}
    assert all({"check", "ok", "detail", "mend"} <= set(check) for check in checks.values())
    assert checks["decode FLAC"]["ok"]
    assert checks["numpy"]["detail"] == np.__version__
    assert "--web" in checks["page for browsers"]["mend"] or checks["page for browsers"]["ok"]
    assert code == (0 if all(check["ok"] or check["optional"] for check in checks.values()) else 1)


def test_doctor_says_what_a_gpu_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpus", list)
    (lacking,) = doctor._on_gpu([])
    assert not lacking.ok and lacking.optional and "driver" in lacking.mend
    monkeypatch.setattr(machine, "gpus", lambda: ["NVIDIA X, 8 GiB"])
    found, *runs = doctor._on_gpu([zoo.find("esc10-qnano")])
    assert found.ok and found.detail == "NVIDIA X, 8 GiB"
    assert [one.name.removeprefix("run ") for one in runs] == list(runtime.GPU_RUNTIMES)
    assert all(one.ok or one.mend for one in runs)


def test_doctor_runs_a_model_and_survives_a_damaged_one(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEQ_MODELS", str(tmp_path))
    shutil.copytree(model, tmp_path / "aaa")
    checks = {check["check"]: check for check in json.loads(edgeq(capsys, "doctor", "--json")[1])}
    assert all(checks[name]["ok"] for name in ("run onnxruntime", "run litert", "run torch", "model qnano"))
    (tmp_path / "aaa" / "bundle.json").write_text("{}")
    code, out, _ = edgeq(capsys, "doctor", "--json")
    checks = {check["check"]: check for check in json.loads(out)}
    assert code == 1 and "bundle.json" in checks["zoo"]["detail"] and checks["decode FLAC"]["ok"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["classify", "{model}", "{tmp}/absent.wav"], "absent.wav"),
        (["classify", "{model}", "{tmp}"], "{tmp}"),
        (["classify", "no-such-model", "{recording}"], "no-such-model"),
        (["classify", "{model}", "{recording}", "--runtime", "magic"], "magic"),
        (["classify", "{model}", "{recording}", "--top", "0"], "top"),
        (["classify", "{model}"], "FILE"),
        (["verify", "{tmp}"], "{tmp}"),
        (["verify", "{model}", "--data", "{tmp}/absent"], "absent"),
        (["inspect", "{tmp}/absent.tflite"], "absent.tflite"),
        (["inspect", "{recording}"], "tone.wav"),
        (["inspect", "qtiny", "--classes", "1"], "at least 2"),
        (["inspect", "qtiny", "--in-channels", "3"], "multiple of 4"),
        (["inspect", "qtiny", "--clip-seconds", "0.1"], "at least 16 x 16"),
        (["inspect", "qtiny", "--clip-seconds", "nan"], "nan"),
        (["inspect", "qcnn14", "--clip-seconds", "0.2"], "32 frames are 0.31 s"),
        (["inspect", "qcnn14", "--prune-ratio", "1"], "less than 1"),
        (["inspect", "qcnn14", "--prune-ratio", "0.3"], "qcnn14: block4.conv1: "),
        (["inspect", "tiny", "--prune-ratio", "0.5"], "tiny: cnn5: no paper says"),
        (["inspect", "qcnn14-p50", "--prune-ratio", "0.5"], "pruned already"),
        (["inspect", "{model}", "--prune-ratio", "0.5"], "this model has weights"),
        (["inspect", "{model}/qnano.onnx", "--prune-ratio", "0.5"], "--prune-ratio can change an architecture"),
        (["export", "qtiny", "-o", "{recording}"], "tone.wav"),
        (["export", "qtiny", "--lowering", "fst"], "expected block, fast, auto, or the file of a table"),
        (["export", "qtiny", "--lowering", "fast", "--int8"], "--lowering fast with --int8"),
        (["train", "{tmp}/absent.toml", "--data", "{tmp}"], "absent.toml"),
        (["train", "{recording}", "--data", "{tmp}"], "tone.wav"),
        (["dance"], "dance"),
    ],
)
def test_every_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], named: str, model: Path, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"model": model, "recording": recording, "tmp": tmp_path}
    code, out, err = edgeq(capsys, *(argument.format(**places) for argument in arguments))
    assert code == 2
    assert out == ""
    assert err.startswith("edgeq: ")
    assert err.count("\n") == 1
    assert named.format(**places) in err


def test_export_says_which_layers_are_fast(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "export", "qnano", "--onnx", "--lowering", "fast", "--compact"
    code, out, err = edgeq(capsys, *arguments, "-o", tmp_path / "shown")
    assert code == 0, err
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert {"conv_1 1 x 64 x 50 x 8 block", "conv_5 1 x 4 x 3 x 48 fast"} <= set(lines)
    report = as_json(capsys, *arguments, "-o", tmp_path / "told")
    layers = report["lowering"]["onnx"]["layers"]
    assert [layer["lowering"] for layer in layers] == ["block", *["fast"] * 4]
    counts = (report["lowering"]["onnx"][key] for key in ("macs", "multiplies"))
    assert "{:,} MACs in block form, {:,} multiplications in the file".format(*counts) in lines


@pytest.mark.parametrize("arguments", [["--help"], ["inspect", SMALL_FILE], ["inspect", SMALL_FILE, "--json"]])
def test_a_closed_pipe_is_no_failed_check(arguments: list[str | Path]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*EDGEQ, *arguments], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_no_command_shows_the_help_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = edgeq(capsys)
    assert (code, out) == (2, "")
    assert "\n  classify " in err
    assert "..." not in err.partition("Commands:")[2]  # every summary is whole


def test_names_that_the_terminal_cannot_show_are_escaped(model: Path, recording: Path) -> None:
    odd = recording.with_name("tön 音.wav")
    recording.rename(odd)
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"}
    done = subprocess.run([*EDGEQ, "classify", model, odd], capture_output=True, text=True, check=True, env=ascii_only)
    assert r"t\xf6n \u97f3.wav" in done.stdout
    assert "%  #" in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_output_that_cannot_be_written_is_exit_code_2() -> None:
    with Path("/dev/full").open("w") as full:
        command = [*EDGEQ, "inspect", SMALL_FILE, "--json"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert subprocess.run([*EDGEQ, "classify", "none", "none"], stderr=full, check=False).returncode == 2


@pytest.mark.parametrize("kind", [InputError, ImportError])
def test_an_interrupt_that_a_library_swallowed_is_still_one(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def listing() -> None:
        raise kind("initialization failed") from KeyboardInterrupt()

    monkeypatch.setattr("edgeq.catalogue.listing", listing)
    code, _, err = edgeq(capsys, "models")
    assert (code, err) == (130, "edgeq: interrupted; what was finished is kept\n")


def test_an_error_raised_from_itself_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def listing() -> None:
        error = InputError("wrong")
        raise error from error

    monkeypatch.setattr("edgeq.catalogue.listing", listing)
    code, _, err = edgeq(capsys, "models")
    assert (code, err) == (2, "edgeq: wrong\n")


def test_a_package_that_does_not_load_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def listing() -> None:
        raise ImportError("libsomething.so: cannot open shared object file", name="somepackage")

    monkeypatch.setattr("edgeq.catalogue.listing", listing)
    code, _, err = edgeq(capsys, "models")
    assert code == 2
    assert err.count("\n") == 1
    assert "somepackage cannot be loaded (libsomething.so" in err


def test_names_of_models_are_whole_in_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    accuracy = {"mean": 0.928, "low": 0.901, "high": 0.955, "seeds": 3}
    counts = {"stored": 102_746, "lowered": 102_746, "macs": 9_999_999, "int8_bytes": 115_600}
    row = {"name": "esc10-qdcase22", "kind": "zoo", "accuracy": accuracy, **counts}
    large = {"name": "resnet38-4ch", "kind": "architecture", "stored": 73_772_303, "lowered": 73_772_303}
    monkeypatch.setattr("edgeq.catalogue.listing", lambda: [row, {**large, "macs": 23_501_780_992}])
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = edgeq(capsys, "models")
    assert "…" not in out
    [line] = [line for line in out.splitlines() if "esc10-qdcase22" in line]
    assert "9,999,999" in line and line.rstrip().endswith("92.8% ±2.7%")
    [line] = [line for line in out.splitlines() if "resnet38-4ch" in line]
    assert line.split() == ["resnet38-4ch", "73.8", "M", "73.8", "M", "23.50", "G"]
