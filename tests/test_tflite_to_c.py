"""C of an INT8 .tflite file given alone: verified, listed, and nothing is written where anything is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import bundles
import numpy as np
import pytest
from click.testing import CliRunner

from edgeq import cli
from edgeq.cortexm import targets
from edgeq.cortexm.targets import Memory
from edgeq.errors import CheckFailed, InputError
from edgeq.export import tflite_to_c
from edgeq.runtime import c_host, litert


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    written = bundles.exported(tmp_path_factory.mktemp("source") / "small")
    place = tmp_path_factory.mktemp("alone") / "other.tflite"
    place.write_bytes(written.export("tflite-int8"))
    return place


def test_the_files_are_those_of_the_folder_and_the_c_gives_litert_s_answers(file, tmp_path):
    result = tflite_to_c.export(file, tmp_path / "c").to_json()
    assert {Path(one["path"]).name for one in result["files"]} == {one.name for one in (tmp_path / "c").iterdir()}
    assert result["verify"]["passed"] and result["verify"]["stages"][0]["name"] == "c-int8"
    assert (tmp_path / "c" / "other.c").is_file()
    sounds = bundles.sounds()[:8]
    expected = litert.litert(file, "reference", 1, reference=True).predict(sounds)
    np.testing.assert_array_equal(c_host.CRuntime(file, "c").predict(sounds), expected)


def test_what_is_written_again_takes_the_place_of_what_was(file, tmp_path):
    first, second = (tflite_to_c.export(file, tmp_path / "c") for _ in range(2))
    assert first.files == second.files


def test_a_folder_of_other_files_is_left_alone(file, tmp_path):
    (tmp_path / "main.c").touch()
    with pytest.raises(InputError, match=r"holds other files \(main\.c\)"):
        tflite_to_c.export(file, tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["main.c"]


def test_c_that_gives_other_codes_is_not_written(file, tmp_path, monkeypatch):
    monkeypatch.setattr(
        tflite_to_c.host.Program, "run", lambda self, codes: np.full((len(codes), *self._output[1:]), 7, np.int8)
    )
    with pytest.raises(CheckFailed, match="gives other codes than the reference on 16 of 16 inputs"):
        tflite_to_c.export(file, tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_a_board_that_is_too_small_is_told(file, tmp_path, monkeypatch):
    small = replace(targets.find("nano33ble"), ram=Memory(0x20000000, 4096))
    monkeypatch.setattr(tflite_to_c.targets, "find", lambda name: small)
    with pytest.raises(CheckFailed, match="does not fit nano33ble"):
        tflite_to_c.export(file, tmp_path / "c", "nano33ble")
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("options", "mend"),
    [(["--int8"], "add --c"), (["--c", "--onnx", "--compact"], "leave out --onnx, --compact")],
)
def test_what_a_single_file_cannot_become_is_told(file, tmp_path, options, mend):
    done = CliRunner().invoke(cli.commands, ["export", str(file), *options, "-o", str(tmp_path / "c")])
    assert isinstance(done.exception, InputError) and mend in str(done.exception)


def test_the_command_prints_the_contract_s_keys(file, tmp_path):
    done = CliRunner().invoke(cli.commands, ["export", str(file), "--int8", "--c", "--json", "-o", str(tmp_path / "c")])
    assert done.exit_code == 0
    assert {"files", "input", "output", "ops", "verify"} <= set(json.loads(done.stdout))
