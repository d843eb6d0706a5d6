import csv
import importlib.util
import json
import os
from dataclasses import replace

import bundles
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeq import goldens, runtime, verify
from edgeq.audio.frontend import recording_features
from edgeq.decision import clip_scores
from edgeq.errors import InputError
from edgeq.export.onnx import to_onnx
from edgeq.export.tflite import to_tflite
from edgeq.goldens import Goldens
from edgeq.graph import cost, fidelity, quantize, reference
from edgeq.graph.ir import Conv2D, FullyConnected, Quantization
from edgeq.lowering.trace import lower
from edgeq.nets import registry
from edgeq.runtime.logits import onnx_logits, tflite_logits

FLOAT, INT8, RANGES = bundles.graphs()
GOOD = bundles.files(FLOAT, INT8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return bundles.exported(tmp_path_factory.mktemp("bundle") / "small")


def verified(tmp_path, **exports):
    """The report on a bundle some of whose files were put in wrong before it was written: every sha256 fits."""
    changed = {stage.replace("_", "-"): content for stage, content in exports.items()}
    return verify.verify(bundles.exported(tmp_path / "small", exports={**GOOD, **changed}))


def failed(report, stage, inputs="goldens"):
    """The failures of a stage, and that no other stage has any."""
    assert not report.passed
    assert {(one.name, one.inputs) for one in report.stages if one.failures} == {(stage, inputs)}
    return "; ".join(next(one.failures for one in report.stages if one.failures))


def with_tensor(graph, name, **changes):
    return replace(graph, tensors={**graph.tensors, name: replace(graph.tensors[name], **changes)})


@pytest.mark.parametrize("quaternion", [False, True], ids=["real", "quaternion"])
@pytest.mark.parametrize("decisive", [True, False], ids=["trained", "random"])
def test_good_exports_pass(tmp_path, quaternion, decisive):
    report = verify.verify(bundles.exported(tmp_path / "small", quaternion=quaternion, decisive=decisive))
    assert report.passed and report.failure == ""
    assert [one.name for one in report.stages] == ["torch", "onnx", "onnx-int8", "tflite", "tflite-int8"]
    for one in report.stages:
        assert one.clips == 64 and one.inputs == "goldens"
        if not one.name.endswith("int8"):
            assert one.top1_agreement == 1 and one.max_abs_error < 1e-5 and one.sqnr_db > 100
        elif decisive:
            assert one.top1_agreement >= 0.98 and 15 < one.sqnr_db < 60
        else:
            assert one.sqnr_db >= 25


def test_layers_are_listed_worst_first(model):
    report = verify.verify(model)
    ratios = [layer.sqnr_db for layer in report.layers]
    assert ratios == sorted(ratios) and min(ratios) > 10
    assert sorted(layer.name for layer in report.layers) == sorted(op.output for op in INT8.ops)


def test_json_has_the_contract_s_keys(model):
    values = json.loads(json.dumps(verify.verify(model).to_json(), allow_nan=False))
    assert {"stages", "passed", "layers"} <= set(values) and values["passed"] is True
    for stage in values["stages"]:
        assert {"name", "clips", "top1_agreement", "max_abs_error", "sqnr_db", "inputs"} <= set(stage)
        assert "accuracy" not in stage
    assert set(values["layers"][0]) == {"name", "kind", "sqnr_db"}


def test_a_file_of_another_network_is_named(tmp_path):
    with pytest.raises(InputError, match=r"small \(onnx\): features of shape .*: expected \(n, 4, 16, 50\)"):
        verified(tmp_path, onnx=to_onnx(bundles.graphs(quaternion=True)[0]))
    _, spec = bundles.network()
    with torch.random.fork_rng():
        wider = lower(registry.build(spec.with_classes(6)).eval(), spec.with_classes(6))
    content = to_tflite(replace(wider, metadata=FLOAT.metadata))
    with pytest.raises(InputError, match=r"small \(tflite\): 6 outputs, expected 4: of another network"):
        verified(tmp_path, tflite=content)


@pytest.mark.parametrize("stage", list(GOOD))
def test_an_altered_file_is_caught_by_its_sha256_before_anything_runs(tmp_path, stage, monkeypatch):
    opened = bundles.exported(tmp_path / "small")
    place = opened.folder / opened.exports[stage]
    content = bytearray(place.read_bytes())
    content[len(content) // 2] ^= 1
    place.write_bytes(content)
    monkeypatch.setattr("edgeq.runtime.open", lambda *_, **__: pytest.fail("ran"))
    with pytest.raises(InputError, match=f"{place.name}: altered"):
        verify.verify(opened)


def test_one_flipped_byte_in_a_float_weight_fails(tmp_path):
    for stage in ("tflite", "onnx"):
        value = reference.constant(FLOAT.tensors["dense_1.weight"])
        content = bytearray(GOOD[stage])
        at = GOOD[stage].find(value.ravel()[:3].tobytes())
        assert at > 0
        content[at + 3] ^= 0x01  # the exponent
        report = verified(tmp_path / stage, **{stage: bytes(content)})
        assert not report.passed and f"{stage} (goldens): probabilities differ by" in report.failure


def weights(graph):
    return [op.inputs[1] for op in graph.ops if isinstance(op, (Conv2D, FullyConnected))]


def test_graphs_that_are_no_twins_are_told_apart():
    (fault,) = fidelity.weight_faults(replace(FLOAT, ops=FLOAT.ops[:-1]), INT8)
    assert "other operators" in fault
    codes = INT8.tensors["conv_1.weight"].data[:, :2]
    faults = list(fidelity.weight_faults(FLOAT, with_tensor(INT8, "conv_1.weight", data=codes)))
    assert len(faults) == 1 and "conv_1.weight has shape (4, 2, 3, 1)" in faults[0]
    assert not list(fidelity.range_faults(INT8, {**RANGES, "elsewhere": (-100.0, 100.0)}))


def test_many_labels_a_clip_are_gated_too(tmp_path):
    """A sigmoid head: the logits come back from each probability alone."""
    import torch

    built, spec = bundles.network(decisive=False)
    spec = replace(spec, output="sigmoid")
    graph = replace(lower(built, spec), metadata=FLOAT.metadata)
    exports = bundles.files(graph, quantize.quantize(graph, bundles.graphs(decisive=False)[2]))
    with torch.inference_mode():
        outputs = built(torch.from_numpy(bundles.sounds()[:64])).sigmoid().numpy()
    answers = Goldens(np.arange(64), outputs, goldens.SQNR)
    changes = {"architecture": spec, "goldens": answers, "exports": exports}
    report = verify.verify(bundles.exported(tmp_path / "b", decisive=False, **changes))
    assert report.passed, report.failure
    assert all(one.sqnr_db >= 25 for one in report.stages)


@given(st.data())
def test_one_flipped_bit_in_any_int8_weight_or_bias_fails(data):
    name = data.draw(st.sampled_from([*weights(INT8), *(name.replace("weight", "bias") for name in weights(INT8))]))
    codes = INT8.tensors[name].data.copy()
    flat = codes.reshape(-1)
    at = data.draw(st.integers(0, flat.size - 1))
    flat[at] ^= flat.dtype.type(1 << data.draw(st.integers(0, 6)))
    (fault,) = fidelity.weight_faults(FLOAT, with_tensor(INT8, name, data=codes))
    assert fault.startswith(f"{name}: 1 codes are off")
    assert not list(fidelity.weight_faults(FLOAT, INT8))


def test_one_flipped_byte_in_an_int8_weight_fails_the_file(tmp_path):
    codes = INT8.tensors["conv_3.weight"].data
    content = bytearray(GOOD["tflite-int8"])
    content[GOOD["tflite-int8"].find(codes.tobytes()) + 5] ^= 0x04
    report = verified(tmp_path, tflite_int8=bytes(content))
    assert "conv_3.weight: 1 codes are off" in failed(report, "tflite-int8")


@pytest.mark.parametrize("name", ["input", "conv_1", "dense_1"])
def test_a_wrong_zero_point_or_scale_fails(tmp_path, name):
    good = INT8.tensors[name].quantization
    room = 3 if good.zero_point[0] < 100 else -3
    for change, wrong in (
        ("zero point", replace(good, zero_point=good.zero_point + np.int32(room))),
        ("scale", replace(good, scale=good.scale * np.float32(0.8))),
    ):
        report = verified(tmp_path / change, tflite_int8=to_tflite(with_tensor(INT8, name, quantization=wrong)))
        assert f"{name} holds" in failed(report, "tflite-int8")


def test_a_wrong_weight_scale_fails(tmp_path):
    good = INT8.tensors["conv_2.weight"].quantization
    scale = good.scale.copy()
    scale[1] *= np.float32(1.5)
    wrong = with_tensor(INT8, "conv_2.weight", quantization=Quantization(scale, good.zero_point, good.axis))
    assert "conv_2.weight" in failed(verified(tmp_path, tflite_int8=to_tflite(wrong)), "tflite-int8")


@pytest.mark.parametrize("stage", ["onnx-int8", "tflite-int8"])
def test_a_badly_quantized_network_fails(tmp_path, stage):
    """Ranges a hundred times too wide: no code is wrong, the network is."""
    wide = {name: (100 * low, 100 * high) for name, (low, high) in RANGES.items()}
    content = (to_onnx if stage.startswith("onnx") else to_tflite)(quantize.quantize(FLOAT, wide))
    report = verified(tmp_path, **{stage: content})
    assert "top-1 agreement" in failed(report, stage)


@pytest.mark.parametrize("stage", ["onnx-int8", "tflite-int8"])
def test_a_badly_quantized_network_with_random_weights_fails_by_its_logits(tmp_path, stage):
    graph, quantized, ranges = bundles.graphs(decisive=False)
    wide = {name: (20 * low, 20 * high) for name, (low, high) in ranges.items()}
    content = (to_onnx if stage.startswith("onnx") else to_tflite)(quantize.quantize(graph, wide))
    exports = {**bundles.files(graph, quantized), stage: content}
    report = verify.verify(bundles.exported(tmp_path / "small", decisive=False, exports=exports))
    assert "logit SQNR" in failed(report, stage)


@pytest.mark.parametrize("read", [onnx_logits, tflite_logits])
def test_logits_of_int8_files_are_those_of_the_graph(read, tmp_path):
    _, quantized, _ = bundles.graphs(decisive=False)
    inputs = bundles.sounds()[:20]
    values = reference.run(quantized, reference.quantize_input(quantized, np.moveaxis(inputs, 1, -1)), keep=True)
    before = quantized.producer(quantized.output).inputs[0]
    expected = reference.dequantize(quantized.tensors[before].quantization, values[before])
    path = tmp_path / "model"
    path.write_bytes(to_onnx(quantized) if read is onnx_logits else to_tflite(quantized))
    found = read(path, inputs)
    assert found.shape == expected.shape and np.abs(found - expected).max() < 0.1 * np.abs(expected).max()


def test_logits_of_a_tflite_file_are_what_it_makes_its_probabilities_of(tmp_path):
    """The same kernels as the stage runs in: its own logistic of them is what it answers, to the code."""
    built, spec = bundles.network(decisive=False)
    graph = lower(built, replace(spec, output="sigmoid"))
    quantized = quantize.quantize(graph, quantize.observe(graph, [np.moveaxis(bundles.sounds(), 1, -1)]))
    path = tmp_path / "model.tflite"
    path.write_bytes(to_tflite(quantized))
    inputs = bundles.sounds()[:20]
    logits = tflite_logits(path, inputs).astype(np.float64)
    answers = runtime.open(path).predict(inputs)
    assert np.abs(1 / (1 + np.exp(-logits)) - answers).max() <= 0.5 / 256 + 1e-6


def test_a_file_without_logits_is_refused(tmp_path):
    path = tmp_path / "float.tflite"
    path.write_bytes(GOOD["tflite"])
    with pytest.raises(InputError, match=r"float\.tflite: expected an int8 model that ends in"):
        tflite_logits(path, bundles.sounds()[:1])


def test_layers_of_a_costly_network_are_measured_on_fewer_goldens_and_the_report_says_so(model, monkeypatch):
    macs = sum(layer.macs for layer in cost.layers(FLOAT))
    whole = verify.verify(model)
    assert not whole.notes
    monkeypatch.setattr(verify, "LAYER_MACS", 20 * macs)
    report = verify.verify(model)
    assert report.notes == ("layers: SQNR over 20 of 64 goldens, since each takes 0.0 GMAC",)
    assert [layer.name for layer in report.layers] != [] and report.layers != whole.layers
    monkeypatch.setattr(verify, "LAYER_MACS", 1)
    assert "over 4 of 64" in verify.verify(model).notes[0]


def test_goldens_are_run_a_batch_at_a_time_one_stage_after_the_other(model, monkeypatch):
    started, sizes = [], []

    class Counted:
        def __init__(self, ready):
            self.ready, self.name, self.int8, self.metadata = ready, ready.name, ready.int8, ready.metadata

        def predict(self, features):
            sizes.append(len(features))
            return self.ready.predict(features)

    def opened(source, stage):
        started.append(len(sizes))
        return Counted(runtime_open(source, stage=stage))

    runtime_open = runtime.open
    monkeypatch.setattr("edgeq.runtime.open", opened)
    monkeypatch.setattr("edgeq.batches.MOST", 30)
    report = verify.verify(model)
    assert sizes == [30, 30, 4] * 5 and started == [0, 3, 6, 9, 12]
    monkeypatch.undo()
    for one, other in zip(report.stages, verify.verify(model).stages, strict=True):
        assert one.top1_agreement == other.top1_agreement
        assert one.max_abs_error == pytest.approx(other.max_abs_error, abs=1e-6)


@pytest.mark.parametrize("stage", list(GOOD))
def test_another_order_of_labels_in_a_file_fails(tmp_path, stage):
    metadata = {**FLOAT.metadata, "labels": json.dumps(bundles.LABELS[::-1])}
    files = bundles.files(replace(FLOAT, metadata=metadata), replace(INT8, metadata=metadata))
    assert "says other labels" in failed(verified(tmp_path, **{stage: files[stage]}), stage)


@pytest.mark.parametrize("stage", list(GOOD))
def test_another_front_end_in_a_file_fails(tmp_path, stage):
    other = replace(bundles.FRONTEND, mean=(-21.0,))
    metadata = {**FLOAT.metadata, "frontend": json.dumps(other.to_json())}
    files = bundles.files(replace(FLOAT, metadata=metadata), replace(INT8, metadata=metadata))
    assert "says another front end" in failed(verified(tmp_path, **{stage: files[stage]}), stage)


def test_outputs_in_another_order_than_the_labels_fail(tmp_path):
    weight, bias = (FLOAT.tensors[f"dense_1.{part}"].data for part in ("weight", "bias"))
    turned = with_tensor(with_tensor(FLOAT, "dense_1.weight", data=weight[::-1].copy()), "dense_1.bias",
                         data=bias[::-1].copy())  # fmt: skip
    assert "top-1 agreement" in failed(verified(tmp_path, onnx=to_onnx(turned)), "onnx")


@pytest.mark.parametrize(
    ("put", "instead_of", "failure"),
    [
        ("tflite-int8", "tflite", "is INT8, expected float"),
        ("tflite", "tflite-int8", "is float, expected INT8"),
        ("onnx-int8", "onnx", "is INT8, expected float"),
        ("onnx", "onnx-int8", "is float, expected INT8"),
    ],
)
def test_files_that_changed_places_fail(tmp_path, put, instead_of, failure):
    report = verified(tmp_path, **{instead_of: GOOD[put]})
    assert not report.passed and failure in report.failure


def test_a_file_of_another_network_fails(tmp_path):
    other, other_int8, _ = bundles.graphs(decisive=False)
    for stage, content in bundles.files(other, other_int8).items():
        report = verified(tmp_path / stage, **{stage: content})
        assert stage in [one.name for one in report.stages if one.failures]


def test_weights_that_are_not_those_of_the_goldens_fail_in_torch(tmp_path):
    weights = bundles.exported(tmp_path / "good").weights()
    name = next(name for name in weights if weights[name].ndim == 4)
    weights[name] = weights[name] + 0.05
    report = verify.verify(bundles.exported(tmp_path / "small", weights=weights))
    assert "differ by" in failed(report, "torch")


def test_too_few_goldens_are_no_gate(tmp_path):
    good = bundles.exported(tmp_path / "good").goldens()
    few = Goldens(good.seeds[:10], good.outputs[:10])
    report = verify.verify(bundles.exported(tmp_path / "small", goldens=few))
    assert not report.passed and "only 10 goldens" in report.failure


def test_without_torch_the_files_are_still_judged(model, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else found(name))
    report = verify.verify(model)
    assert report.passed and [one.name for one in report.stages] == list(GOOD)
    assert report.notes == ("torch is not installed: the stage torch was not run",)


def test_without_a_float_twin_the_report_says_what_was_not_compared(tmp_path):
    report = verify.verify(bundles.exported(tmp_path / "b", exports={"tflite-int8": GOOD["tflite-int8"]}))
    assert report.passed and report.layers == () and "no float .tflite" in report.notes[0]


def test_nothing_to_compare_is_bad_input(tmp_path, monkeypatch):
    opened = bundles.exported(tmp_path / "b", exports={})
    assert [one.name for one in verify.verify(opened).stages] == ["torch"]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="nothing to verify"):
        verify.verify(opened)
    with pytest.raises(InputError, match="has no goldens"):
        verify.verify(bundles.exported(tmp_path / "c", goldens=None))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Synthetic sounds in the layout of ESC-50, labelled by the float network itself, two of twelve wrongly."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "audio").mkdir()
    rows: list[dict[str, object]] = []
    for seed in range(1000, 1100):
        spec = replace(bundles.FRONTEND, window_seconds=2.0, window_hop_seconds=2.0)
        samples = goldens.waveform(seed, spec)
        features, gated = recording_features(samples, bundles.FRONTEND)
        scores = clip_scores(reference.run(FLOAT, np.moveaxis(features, 1, -1)), gated)
        if len(rows) == 12 or np.diff(np.sort(scores)[-2:])[0] < 0.4:
            continue
        soundfile.write(folder / "audio" / f"{seed}.wav", samples, 8000, subtype="FLOAT")
        answer = int(scores.argmin() if len(rows) < 2 else scores.argmax())
        rows.append({"file": f"{seed}.wav", "fold": 1, "category": bundles.LABELS[answer]})
    assert len(rows) == 12
    with (folder / "meta.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, ["file", "fold", "category"])
        writer.writeheader()
        writer.writerows(rows)
    return folder


def test_real_clips_are_compared_clip_by_clip_with_accuracy(model, corpus):
    report = verify.verify(model, data=corpus)
    on_data = [one for one in report.stages if one.inputs == "data"]
    assert [one.name for one in on_data] == ["torch", *GOOD] and report.passed
    for one in on_data:
        assert one.clips == 12
        if not one.name.endswith("int8"):
            assert one.top1_agreement == 1 and one.accuracy == pytest.approx(10 / 12)
    values = report.to_json()["stages"]
    assert all(("accuracy" in stage) == (stage["inputs"] == "data") for stage in values)
    assert any("trained on or not" in note for note in report.notes)


def test_a_file_that_is_only_wrong_on_real_clips_fails_there(tmp_path, corpus, monkeypatch):
    opened = bundles.exported(tmp_path / "small")
    predict = verify.runtimes.open(opened, stage="onnx").predict
    windows = sum(len(recording_features(soundfile.read(path, dtype="float32")[0], bundles.FRONTEND)[0])
                  for path in (corpus / "audio").iterdir())  # fmt: skip
    assert windows > 12
    monkeypatch.setattr(
        "edgeq.runtime.onnx_runtime.OnnxRuntime.predict",
        lambda self, features: predict(features) if len(features) == 64 else predict(features)[:, ::-1],
    )
    report = verify.verify(opened, data=corpus)
    stages = {(one.name, one.inputs): one.failures for one in report.stages}
    assert not stages["onnx", "goldens"] and stages["onnx", "data"]


def test_on_real_clips_random_weights_are_not_held_to_agreement(tmp_path, corpus):
    opened = bundles.exported(tmp_path / "small", decisive=False)
    report = verify.verify(opened, data=corpus)
    assert report.passed and any("undecided" in note for note in report.notes)


def test_a_folder_of_recordings_needs_no_labels(model, corpus, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in (corpus / "audio").iterdir():
        os.link(path, flat / path.name)
    report = verify.verify(model, data=flat)
    assert report.passed and all(one.accuracy is None for one in report.stages)


def test_one_folder_a_class_gives_labels(model, corpus, tmp_path):
    for index, path in enumerate(sorted((corpus / "audio").iterdir())[:3]):
        place = tmp_path / "classes" / ("hum" if index else "unheard of")
        place.mkdir(parents=True, exist_ok=True)
        os.link(path, place / path.name)
    report = verify.verify(model, data=tmp_path / "classes")
    assert all(one.accuracy in (0, 0.5, 1) for one in report.stages if one.inputs == "data")
    assert any("2 clips with a known label" in note for note in report.notes)


def test_data_that_is_not_there_is_named(model, corpus, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder, match in ((tmp_path / "none", "none: not a folder"), (tmp_path / "empty", "no recordings"),
                          (corpus / "meta.csv", "meta.csv: not a folder")):  # fmt: skip
        with pytest.raises(InputError, match=match):
            verify.verify(model, data=folder)


def test_outputs_that_are_no_numbers_fail_and_stay_json(model, monkeypatch):
    monkeypatch.setattr(
        "edgeq.runtime.onnx_runtime.OnnxRuntime.predict",
        lambda self, features: np.full((len(features), 4), np.nan, np.float32),
    )
    report = verify.verify(model)
    assert "NaN" in report.failure
    json.dumps(report.to_json(), allow_nan=False)
