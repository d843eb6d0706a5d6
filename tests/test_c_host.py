"""The C of a model as a runtime: LiteRT's reference kernels bit for bit, and never C that edgeq did not make."""

from __future__ import annotations

import json
from hashlib import sha256

import bundles
import numpy as np
import pytest

from edgeq import bundle, runtime, verify
from edgeq.cortexm import host
from edgeq.errors import InputError
from edgeq.runtime.c_host import CRuntime


@pytest.fixture(scope="module", params=[False, True], ids=["real", "quaternion"])
def model(request, tmp_path_factory):
    graph, quantized, _ = bundles.graphs(request.param)
    exports = {**bundles.files(graph, quantized), "c-int8": lambda: bundles.c_files(quantized, request.param)}
    folder = tmp_path_factory.mktemp("bundle") / "small"
    return bundles.exported(folder, quaternion=request.param, exports=exports)


def sounds(opened):
    return bundles.sounds(opened.architecture.input_shape[0] == 4)[:60]


def test_it_gives_what_litert_gives(model):
    expected = runtime.open(model, "tflite-int8", "litert-reference").predict(sounds(model))
    for ready in (
        runtime.open(model, "c-int8"),
        runtime.open(model, "tflite-int8", "c"),
        runtime.open(model.folder / model.exports["tflite-int8"], runtime="c"),
    ):
        assert (ready.name, ready.int8, ready.input_shape) == ("c", True, model.architecture.input_shape)
        np.testing.assert_array_equal(ready.predict(sounds(model)), expected)


def test_two_of_one_library_do_not_disturb_each_other(model):
    """They share its arena."""
    first, second = runtime.open(model, "c-int8"), runtime.open(model, "c-int8")
    one, other = sounds(model)[:1], sounds(model)[1:2]
    expected = first.predict(one)
    second.predict(other)
    np.testing.assert_array_equal(first.predict(one), expected)


def test_a_float_file_is_refused(model):
    with pytest.raises(InputError, match="expected an INT8 model"):
        runtime.open(model.folder / model.exports["tflite"], runtime="c")


@pytest.mark.parametrize("how", ["changed", "added", "lost"])
def test_other_c_than_edgeq_makes_is_not_run(tmp_path, how):
    """Even where the manifest vouches for it."""
    graph, quantized, _ = bundles.graphs()
    files = bundles.c_files(quantized)
    if how == "changed":
        files["small.c"] += b"\n/* harmless */\n"
    elif how == "added":
        files["more.c"] = b"int more;\n"
    else:
        del files["small_decision.c"]
    exports = {**bundles.files(graph, quantized), "c-int8": lambda: files}
    opened = bundles.exported(tmp_path / "small", exports=exports)
    with pytest.raises(InputError, match=r"c/.*: not what this edgeq makes of small\.int8\.tflite; run: edgeq export"):
        runtime.open(opened, "c-int8")


def test_the_c_of_a_bundle_is_listed_file_by_file_and_replaced_as_a_whole(model, tmp_path):
    listed = {name for name in model.files if name.startswith("c/")}
    assert {"c/small.c", "c/small.h", "c/edgeq.h", "c/small_frontend.c", "c/small_decision.c"} <= listed
    assert set(model.exported_files("c-int8")) == listed
    for name in listed:
        assert sha256((model.folder / name).read_bytes()).hexdigest() == model.files[name].sha256
    assert json.loads((model.folder / "bundle.json").read_text())["exports"]["c-int8"] == "c"

    place = tmp_path / "again"
    bundle.copy(model, place, exports={"c-int8": lambda: {"old.c": b"", "small.c": b"int x;\n"}})
    (place / "c" / "notes.txt").write_text("mine")
    again = bundle.copy(model, place, exports={"c-int8": lambda: {"small.c": b"int y;\n"}})
    assert again.exported_files("c-int8") == ["c/small.c"]
    assert sorted(path.name for path in (place / "c").iterdir()) == ["notes.txt", "small.c"]


def test_verify_runs_it_and_holds_it_to_litert_bit_for_bit(model, monkeypatch):
    (stage,) = [stage for stage in verify.verify(model).stages if stage.name == "c-int8"]
    assert (stage.runtime, stage.failures) == ("c", ())
    predict = CRuntime.predict
    monkeypatch.setattr(CRuntime, "predict", lambda self, features: predict(self, features) + np.float32(1 / 256))
    (stage,) = [stage for stage in verify.verify(model).stages if stage.name == "c-int8"]
    assert stage.failures == ("the C and LiteRT's reference kernels differ on 64 of 64 goldens",)


def test_verify_says_what_it_cannot_run(model, monkeypatch):
    monkeypatch.setattr(host, "compiler", lambda: None)
    report = verify.verify(model)
    assert "c-int8" not in [stage.name for stage in report.stages]
    assert any("edgeq[cortexm]" in note and "c-int8 was not run" in note for note in report.notes)


def test_an_undecided_network_is_judged_by_its_logits(tmp_path):
    graph, quantized, _ = bundles.graphs(decisive=False)
    exports = {**bundles.files(graph, quantized), "c-int8": lambda: bundles.c_files(quantized)}
    report = verify.verify(bundles.exported(tmp_path / "small", decisive=False, exports=exports))
    found = {stage.name: stage.sqnr_db for stage in report.stages}
    assert report.passed and found["c-int8"] == found["tflite-int8"]
