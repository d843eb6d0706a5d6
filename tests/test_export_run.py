"""The main job: what it writes, that it is the same every time, and that a failed gate leaves nothing behind."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeq import bundle, goldens, runtime, verify
from edgeq.bundle import Bundle
from edgeq.errors import CheckFailed, InputError
from edgeq.export import run, select
from edgeq.export.choice import Choice, Times, layers
from edgeq.graph import cost, from_tflite, ir, quantize


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> run.Exported:
    return run.export("qnano", tmp_path_factory.mktemp("export") / "qnano", int8=True)


def content(opened: Bundle) -> dict[str, bytes]:
    return {stage: opened.export(stage) for stage in opened.exports}


def test_writes_every_form_and_verifies_it(exported: run.Exported) -> None:
    assert list(exported.bundle.exports) == ["onnx", "onnx-int8", "tflite", "tflite-int8"]
    report = exported.to_json()
    assert report["verify"]["passed"]
    assert {stage["name"] for stage in report["verify"]["stages"]} == {"torch", *exported.bundle.exports}
    for file in report["files"]:
        data = Path(file["path"]).read_bytes()
        assert (file["bytes"], file["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert report["input"] | {"shape": [1, 64, 50, 4], "dtype": "int8"} == report["input"]
    assert report["output"] == {"shape": [1, 10], "dtype": "int8", "scale": 1 / 256, "zero_point": -128}
    assert report["ops"]["CONV_2D"] == 5
    json.dumps(report, allow_nan=False)


def test_the_int8_file_holds_no_float_and_no_conversions(exported: run.Exported) -> None:
    graph = from_tflite.read(exported.bundle.export("tflite-int8"))
    assert {tensor.dtype for tensor in graph.tensors.values()} <= {"int8", "int32"}
    kinds = {op.kind for op in graph.ops}
    assert kinds == {"CONV_2D", "AVERAGE_POOL_2D", "MEAN", "REDUCE_MAX", "ADD", "FULLY_CONNECTED", "SOFTMAX"}
    assert all(f"Add{name}();" in exported.firmware for name in ("Conv2D", "Softmax", "ReduceMax"))


def test_two_exports_are_byte_identical(exported: run.Exported, tmp_path: Path) -> None:
    again = run.export("qnano", tmp_path / "again", int8=True)
    assert content(again.bundle) == content(exported.bundle)


def test_quaternion_rows_are_sign_permutations(exported: run.Exported) -> None:
    graph = from_tflite.read(exported.bundle.export("tflite-int8"))
    for op in (op for op in graph.ops if isinstance(op, ir.Conv2D)):
        codes = graph.tensors[op.inputs[1]].data
        quarter_out, quarter_in = codes.shape[0] // 4, codes.shape[3] // 4
        # (component out, filter, kh, kw, component in, input): |codes| of output component a at input component b are
        # those of the trained component a ^ b, the xor of the Hamilton product's table.
        blocks = np.abs(codes.astype(int)).reshape(4, quarter_out, *codes.shape[1:3], 4, quarter_in)
        for out in range(4):
            for into in range(4):
                np.testing.assert_array_equal(blocks[out, :, :, :, into], blocks[0, :, :, :, out ^ into])


def test_one_format_in_float(tmp_path: Path) -> None:
    result = run.export("dcase22", tmp_path / "x", formats=("onnx",), classes=3)
    assert list(result.bundle.exports) == ["onnx"]
    assert result.firmware is None
    assert result.bundle.architecture.classes == 3
    probabilities = runtime.open(tmp_path / "x").predict(np.zeros((2, 1, 40, 51), np.float32))
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)


def test_a_failed_gate_leaves_what_was_there(
    exported: run.Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target"
    run.export(exported.bundle.folder, target, formats=("onnx",))
    before = sorted(path.name for path in target.iterdir())

    def wrong(graph: ir.Graph, ranges: Mapping[str, tuple[float, float]]) -> ir.Graph:
        # A calibration that saw a hundredth of every range: every activation saturates.
        return quantize.quantize(graph, {name: (low / 100, high / 100) for name, (low, high) in ranges.items()})

    monkeypatch.setattr(run, "quantize", type("quantize", (), {"quantize": staticmethod(wrong)}))
    with pytest.raises(CheckFailed, match="tflite-int8"):
        run.export(exported.bundle.folder, target, int8=True)
    assert sorted(path.name for path in target.iterdir()) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["target"]


def test_calibration_on_recordings_replaces_the_ranges(exported: run.Exported, tmp_path: Path) -> None:
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    spec = exported.bundle.frontend
    for seed in range(1000, 1040):
        soundfile.write(recordings / f"{seed}.wav", goldens.waveform(seed, spec), spec.sample_rate, subtype="FLOAT")
    result = run.export(exported.bundle.folder, tmp_path / "out", int8=True, calibration=recordings)
    assert result.bundle.ranges() != exported.bundle.ranges()
    assert content(result.bundle)["onnx"] == content(exported.bundle)["onnx"]
    assert content(result.bundle)["tflite-int8"] != content(exported.bundle)["tflite-int8"]


def test_calibration_names_a_recording_that_is_too_short(exported: run.Exported, tmp_path: Path) -> None:
    (tmp_path / "recordings").mkdir()
    soundfile.write(tmp_path / "recordings" / "click.wav", np.ones(5), exported.bundle.frontend.sample_rate)
    with pytest.raises(InputError, match=r"click\.wav: waveform of 5 samples"):
        run.export(exported.bundle.folder, tmp_path / "out", int8=True, calibration=tmp_path / "recordings")


def test_a_budget_that_is_exceeded_writes_nothing(tmp_path: Path) -> None:
    limits = tmp_path / "small.toml"
    limits.write_text("parameters = 20_000\n")
    with pytest.raises(CheckFailed, match="6,250 over the limit of 20,000"):
        run.export("qnano", tmp_path / "out", budget=str(limits))
    assert not (tmp_path / "out").exists()


def choose_conv_3(graph: ir.Graph, form: str) -> Choice:
    """Stands for timing: conv_3 is the faster in fast form."""
    timed = layers(graph, ["conv_3"], {"conv_3": Times(2.0, 1.0, 0.5)})
    return Choice(timed, Times(9.0, 8.0, 0.9), "made up", "0")


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> run.Exported:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(select, "choose", choose_conv_3)
        return run.export("qnano", tmp_path_factory.mktemp("chosen") / "qnano", int8=True, lowering="auto")


def test_auto_writes_what_was_chosen_and_says_so(chosen: run.Exported, exported: run.Exported) -> None:
    files, as_block = content(chosen.bundle), content(exported.bundle)
    streams = {op.output for op in from_tflite.read(files["tflite"]).ops}
    assert {"conv_3.r", "conv_3.k"} <= streams and "conv_4" in streams
    assert files["onnx"] != as_block["onnx"]
    assert all(files[stage] == as_block[stage] for stage in ("onnx-int8", "tflite-int8"))
    report = chosen.to_json()
    assert report["notes"] == [run.INT8_NOTE]
    assert list(report["lowering"]) == ["onnx", "tflite"]
    said = report["lowering"]["onnx"]
    assert [layer["lowering"] for layer in said["layers"]] == ["block", "block", "fast", "block", "block"]
    assert said["layers"][2]["times"] == {"block_ms": 2.0, "fast_ms": 1.0, "ratio": 0.5}
    layer = next(layer for layer in cost.layers(run.describe(exported.bundle)) if layer.name == "conv_3")
    saved = said["macs"] - said["multiplies"]
    assert layer.macs / 4 < saved < layer.macs / 2
    json.dumps(report, allow_nan=False)


def test_a_stored_table_repeats_an_export_byte_for_byte(
    chosen: run.Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(select, "choose", lambda graph, form: pytest.fail("timed again"))
    table = chosen.bundle.folder / bundle.LOWERING
    again = run.export("qnano", tmp_path / "again", int8=True, lowering=table)
    assert again.bundle.files == chosen.bundle.files
    assert (tmp_path / "again" / bundle.LOWERING).read_bytes() == table.read_bytes()
    assert again.to_json()["lowering"] == chosen.to_json()["lowering"]
    # Exported as block into the same folder, no table tells of another form.
    run.export("qnano", tmp_path / "again", formats=("onnx",))
    assert not (tmp_path / "again" / bundle.LOWERING).exists()


def test_int8_codes_beside_fast_layers_are_held_to_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def astray(graph: ir.Graph, ranges: Mapping[str, tuple[float, float]]) -> ir.Graph:
        quantized = quantize.quantize(graph, ranges)
        quantized.tensors["conv_3.weight"].data[0, 0, 0, 0] ^= 4
        return quantized

    monkeypatch.setattr(select, "choose", choose_conv_3)
    monkeypatch.setattr(run, "quantize", type("quantize", (), {"quantize": staticmethod(astray)}))
    with pytest.raises(CheckFailed, match=r"tflite-int8 .*conv_3\.weight: 1 codes are off"):
        run.export("qnano", tmp_path / "out", int8=True, lowering="auto")


def test_without_torch_such_codes_are_not_compared_and_verify_says_so(
    chosen: run.Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else found(name))
    report = verify.verify(chosen.bundle)
    assert report.passed and report.layers == ()
    assert (
        "the float .tflite has fast layers and torch is not installed: layers and codes were not compared"
        in report.notes
    )


def test_fast_and_compact_files_pass_the_gate(tmp_path: Path, exported: run.Exported) -> None:
    result = run.export("qnano", tmp_path / "out", lowering="fast", compact=True)
    files, as_block = content(result.bundle), content(exported.bundle)
    assert len(files["onnx"]) < 0.6 * len(as_block["onnx"]) and len(files["tflite"]) < 0.8 * len(as_block["tflite"])
    assert [layer["lowering"] for layer in result.lowering["onnx"]["layers"]] == ["block", *["fast"] * 4]
    assert all(layer["times"] is None for layer in result.lowering["onnx"]["layers"])
    assert bundle.LOWERING not in result.bundle.files


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"lowering": "fst"}, "--lowering fst: expected block, fast, auto, or the file of a table"),
        ({"lowering": "fast", "int8": True}, "INT8 stays block"),
        ({"compact": True, "formats": ("tflite",)}, "add --onnx"),
        ({"model": "dcase22-c123", "lowering": "fast"}, "no quaternion convolutions"),
        ({"model": "dcase22-c123", "compact": True}, "no quaternion layers"),
        ({"model": "nothing-of-that-name"}, "nothing-of-that-name"),
        ({"formats": ("pickle",)}, "pickle"),
        ({"formats": ()}, "expected some of"),
        ({"calibration": "somewhere"}, "--int8"),
        ({"int8": True, "calibration": "no-such-folder"}, "no-such-folder"),
        ({"classes": 1}, "expected at least 2"),
        ({"budget": "dcase1999"}, "dcase1999"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, found: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=found):
        run.export(**{"model": "qnano", "output": tmp_path / "out", **arguments})
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_files_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="holds files and no bundle"):
        run.export("qnano", tmp_path, formats=("onnx",))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_classes_of_a_trained_model_are_fixed(exported: run.Exported, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="trained for 10 classes"):
        run.export(exported.bundle.folder, tmp_path / "out", classes=3)
    assert bundle.read(exported.bundle.folder).architecture.classes == 10


def test_a_place_that_cannot_be_written_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes.txt").write_text("")
    monkeypatch.setattr(run, "describe", lambda _: pytest.fail("lowered the network"))
    with pytest.raises(InputError, match="holds files and no bundle"):
        run.export("qnano", tmp_path)


def test_random_weights_are_called_so(exported: run.Exported) -> None:
    assert any("random weights" in note for note in exported.report.notes)
