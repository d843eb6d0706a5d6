"""An export writes C beside the INT8 file that it is made of, verified with the rest, and says whether it fits."""

from __future__ import annotations

from dataclasses import replace

import bundles
import numpy as np
import pytest

import edgeq
from edgeq.cortexm import build, project, targets
from edgeq.cortexm.targets import Memory
from edgeq.errors import CheckFailed, InputError
from edgeq.export import run
from edgeq.graph import from_tflite


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return bundles.exported(tmp_path_factory.mktemp("source") / "small")


@pytest.fixture(scope="module")
def written(source, tmp_path_factory):
    place = tmp_path_factory.mktemp("written") / "small"
    return run.export(source.folder, place, formats=("tflite",), int8=True, c=True, board="nano33ble")


def test_the_c_is_listed_verified_and_runs(written):
    result = written.to_json()
    listed = [file["path"] for file in result["files"] if file["format"] == "c-int8"]
    assert f"{written.bundle.folder}/c/small.c" in listed and f"{written.bundle.folder}/c/small_frontend.h" in listed
    (stage,) = [stage for stage in result["verify"]["stages"] if stage["name"] == "c-int8"]
    assert stage["passed"] and stage["runtime"] == "c"
    sounds = bundles.sounds()[:8]
    found, expected = (
        edgeq.load(written.bundle.folder, runtime=name, int8=True).predict(sounds) for name in ("c", "litert-reference")
    )
    np.testing.assert_array_equal(found, expected)


def test_it_says_what_it_takes_of_a_board(written):
    assert any("bytes of constants in flash" in note for note in written.notes)
    assert any(note.startswith("nano33ble: network and front end take") for note in written.notes)


def test_a_board_that_is_too_small_stops_the_export(source, tmp_path, monkeypatch):
    small = replace(targets.find("nano33ble"), ram=Memory(0x20000000, 4096))
    monkeypatch.setattr(run.targets, "find", lambda name: small)
    with pytest.raises(CheckFailed, match="does not fit nano33ble"):
        run.export(source.folder, tmp_path / "out", formats=("tflite",), int8=True, c=True, board="nano33ble")
    assert not (tmp_path / "out").exists()


def test_the_front_end_counts_where_the_network_alone_would_fit(source, written, tmp_path, monkeypatch):
    made = project.project(
        from_tflite.read(written.bundle.export("tflite-int8")), "small", (), source.frontend, source.decision
    )
    alone = build.sizes(build.link(made.network, targets.find("nano33ble"))).ram + build.STACK_BYTES
    small = replace(targets.find("nano33ble"), ram=Memory(0x20000000, alone))
    build.link(made.network, small)
    monkeypatch.setattr(run.targets, "find", lambda name: small)
    with pytest.raises(CheckFailed, match=r"small with its front end does not fit nano33ble: .* bytes of RAM too many"):
        run.export(source.folder, tmp_path / "out", formats=("tflite",), int8=True, c=True, board="nano33ble")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"c": True}, "add --int8"),
        ({"c": True, "int8": True, "formats": ("onnx",)}, "--tflite"),
        ({"int8": True, "board": "nano33ble"}, "add --c"),
        ({"int8": True, "c": True, "board": "abacus"}, "target 'abacus'"),
    ],
)
def test_options_that_do_not_go_together_are_refused(source, tmp_path, options, match):
    with pytest.raises(InputError, match=match):
        run.export(source.folder, tmp_path / "out", **options)
