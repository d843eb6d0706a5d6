import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from bundles import LABELS, manifest_of, plain
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeq import bundle, zoo
from edgeq.errors import InputError
from edgeq.goldens import Goldens


@pytest.fixture
def small(tmp_path):
    return plain(tmp_path / "small")


def rewrite(opened, **changes):
    """Put other fields into bundle.json, unchecked."""
    manifest = {**manifest_of(opened), **changes}
    (opened.folder / "bundle.json").write_text(json.dumps(manifest))
    return opened.folder


def refused(folder, match):
    """The one line with which `read` refuses."""
    with pytest.raises(InputError, match=match) as caught:
        bundle.read(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_what_was_written_comes_back(small):
    back = bundle.read(small.folder)
    assert (back.name, back.labels, back.licence) == ("small", LABELS, "CC0-1.0")
    assert back.architecture == small.architecture and back.frontend == small.frontend
    assert back.provenance == {"recipe": "none", "seed": 3}
    np.testing.assert_array_equal(back.weights()["a.weight"], [[0, 1, 2], [3, 4, 5]])
    assert back.ranges() == {"input": (-1.0, 2.0), "conv_1": (0.0, 3.5)}
    assert back.export("onnx") == b"not really onnx"
    assert list(back.exports) == ["onnx", "tflite-int8"]
    bundle.check(back)


def test_goldens_come_back(tmp_path):
    outputs = np.full((3, len(LABELS)), 0.25, np.float32)
    opened = plain(tmp_path / "b", goldens=Goldens(np.array([4, 7, 9]), outputs, "sqnr"))
    goldens = opened.goldens()
    assert goldens.seeds.tolist() == [4, 7, 9] and goldens.gate == "sqnr"
    np.testing.assert_array_equal(goldens.outputs, outputs)


def test_goldens_of_another_network_are_refused(tmp_path):
    opened = plain(tmp_path / "b", goldens=Goldens(np.arange(3), np.full((3, 2), 0.5, np.float32)))
    with pytest.raises(InputError, match="2 classes, expected 4"):
        opened.goldens()


def test_two_writes_give_the_same_bytes(tmp_path):
    goldens = Goldens(np.arange(3), np.full((3, len(LABELS)), 0.25, np.float32))
    first, second = (plain(tmp_path / name, goldens=goldens) for name in ("one", "two"))
    names = sorted(path.name for path in first.folder.iterdir())
    assert names == sorted(path.name for path in second.folder.iterdir())
    for name in names:
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes()


def test_writing_again_keeps_recipe_and_card_and_drops_old_exports(small):
    (small.folder / "recipe.toml").write_text("seed = 1\n")
    (small.folder / "notes").mkdir()
    (small.folder / "notes" / "card.md").write_text("# card\n")
    again = bundle.copy(small, small.folder, exports={"tflite": b"new"})
    assert (again.folder / "recipe.toml").read_text() == "seed = 1\n"
    assert (again.folder / "notes" / "card.md").is_file()
    assert not (again.folder / "small.onnx").exists()
    assert again.export("tflite") == b"new" and again.ranges() == small.ranges()


def test_a_failed_gate_leaves_the_old_bundle(small):
    before = {path.name: path.read_bytes() for path in small.folder.iterdir()}

    def fail(written):
        assert written.export("tflite") == b"new"
        raise RuntimeError("gate")

    with pytest.raises(RuntimeError, match="gate"):
        bundle.copy(small, small.folder, exports={"tflite": b"new"}, gate=fail)
    assert {path.name: path.read_bytes() for path in small.folder.iterdir()} == before
    assert [path.name for path in small.folder.parent.iterdir()] == ["small"]


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        plain(tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_things_is_not_overwritten(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="holds files and no bundle"):
        plain(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"labels": LABELS[:3]}, "3 labels for 4 classes"),
        ({"labels": ("a", "b", "a", "c")}, "'a' comes twice"),
        ({"labels": ("a", "b", "\x1b[2J", "c")}, "can be printed"),
        ({"weights": {"n": np.array(3)}}, "int64, expected float32"),
        ({"weights": {"n": np.array([np.nan], np.float32)}}, "NaN"),
        ({"weights": {}}, "no tensor"),
        ({"ranges": {"input": (2.0, 1.0)}}, "expected \\[least, largest\\]"),
        ({"ranges": {"input": (0.0, float("inf"))}}, "expected \\[least, largest\\]"),
        ({"exports": {"onxx": b""}}, "stage 'onxx'"),
        ({"name": "../up"}, "name '../up'"),
        ({"metrics": {"accuracy": float("nan")}}, "plain JSON values"),
        ({"provenance": {"when": object()}}, "plain JSON values"),
    ],
)
def test_an_invalid_part_is_not_written(tmp_path, changes, match):
    with pytest.raises(InputError, match=match):
        plain(tmp_path / "b", **changes)
    assert not (tmp_path / "b").exists()


def test_a_missing_folder_a_file_and_an_empty_folder_are_refused(tmp_path):
    refused(tmp_path / "none", "found nothing, expected a bundle")
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file", "found a file, expected a bundle")
    refused(tmp_path, "found no bundle.json")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"format": 2}, "format 2"),
        ({"format": True}, "format True"),
        ({"labels": list(LABELS[:2])}, "2 labels for 4 classes"),
        ({"labels": ["a", "b", "c", 4]}, "label 4"),
        ({"labels": ["a", "b", "c", "\ud800"]}, "can be printed"),
        ({"labels": "abcd"}, "labels is str, expected list"),
        ({"architecture": {"family": "cnn5"}}, "missing fields"),
        ({"frontend": {}}, "missing fields"),
        ({"extra": 1}, "unknown fields \\['extra'\\]"),
        ({"exports": {"onnx": "small.tflite"}}, "a listed file"),
        ({"exports": {"onnx": ["small.onnx"]}}, "a listed file"),
        ({"exports": {"coreml": "small.onnx"}}, "export 'coreml'"),
        ({"files": {}}, "lists no weights.safetensors"),
        ({"decision": {"kind": "oracle"}}, "oracle"),
        ({"name": "a/b"}, "name 'a/b'"),
        ({"licence": None}, "licence is NoneType"),
    ],
)
def test_a_wrong_manifest_is_refused(small, changes, match):
    refused(rewrite(small, **changes), match)


@pytest.mark.parametrize("kind", ["architecture", "frontend"])
@pytest.mark.parametrize("value", [None, -1, 1e300, "x", [], {}, [1, 2, 3], True])
def test_any_spec_field_of_the_wrong_kind_is_refused(small, kind, value):
    fields = manifest_of(small)[kind]
    for key, right in fields.items():
        if type(value) is type(right) or (isinstance(right, float) and value == -1) or (key, value) == ("gate", None):
            continue
        if (isinstance(right, float) and type(value) in (int, float)) or right is None:
            continue
        refused(rewrite(small, **{kind: {**fields, key: value}}), "bundle.json")


def test_a_front_end_that_does_not_fit_the_network_is_refused(small):
    fields = manifest_of(small)["frontend"]
    refused(rewrite(small, frontend={**fields, "n_mels": 20}), "the network takes")


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../other/w",
        "a/../../b",
        "./a",
        "a//b",
        "a\\b",
        "C:w",
        "a\0b",
        "",
        "..",
        "a/",
        "\x1b[2J",
        "w" * 256,
    ],
)
def test_a_hostile_path_is_refused(small, path):
    record = {"sha256": "0" * 64, "bytes": 1}
    refused(rewrite(small, files={**manifest_of(small)["files"], path: record}), "plain relative path")


@pytest.mark.parametrize(
    "record", [{}, None, {"sha256": "0" * 64, "bytes": -1}, {"sha256": "0" * 64, "bytes": 1 << 40},
               {"sha256": "0" * 64, "bytes": 1.5}, {"sha256": "0" * 63, "bytes": 1}, {"sha256": 5, "bytes": 1}],
)  # fmt: skip
def test_a_wrong_file_record_is_refused(small, record):
    refused(rewrite(small, files={**manifest_of(small)["files"], "x": record}), "file 'x'")


def test_links_out_of_the_folder_are_refused(small, tmp_path):
    outside = tmp_path / "secret"
    outside.write_bytes((small.folder / "weights.safetensors").read_bytes())
    (small.folder / "weights.safetensors").unlink()
    (small.folder / "weights.safetensors").symlink_to(outside)
    refused(small.folder, "leads out of the bundle")


def test_a_link_in_a_circle_is_refused(small):
    (small.folder / "weights.safetensors").unlink()
    (small.folder / "weights.safetensors").symlink_to("weights.safetensors")
    refused(small.folder, "not there")


def test_a_named_pipe_is_refused_and_does_not_hang(small):
    (small.folder / "weights.safetensors").unlink()
    os.mkfifo(small.folder / "weights.safetensors")
    refused(small.folder, "not a plain file")


def test_a_missing_file_is_refused(small):
    (small.folder / "small.onnx").unlink()
    refused(small.folder, "small.onnx: listed in bundle.json but not there")


def test_an_oversized_and_a_truncated_file_are_refused_by_their_size(small):
    place = small.folder / "small.onnx"
    os.truncate(place, 1 << 40)  # sparse: reading it would fill the memory
    refused(small.folder, "1099511627776 bytes, expected 15")
    os.truncate(place, 3)
    refused(small.folder, "3 bytes, expected 15")


def test_an_altered_file_opens_but_is_never_given_out(small):
    place = small.folder / "weights.safetensors"
    content = bytearray(place.read_bytes())
    content[-1] ^= 1
    place.write_bytes(content)
    opened = bundle.read(small.folder)
    path = "weights.safetensors"
    for attempt in (
        opened.weights,
        lambda: bundle.check(opened),
        lambda: opened.file(path),
        lambda: opened.checked(path),
    ):
        with pytest.raises(InputError, match=r"weights\.safetensors: altered"):
            attempt()


def test_exports_may_be_made_as_they_are_written_one_at_a_time(tmp_path):
    made = []

    def content(data):
        made.append((data, sorted(path.name for path in tmp_path.glob(".b.*/small*"))))
        return data

    exports = {"onnx": lambda: content(b"first"), "tflite": lambda: content(b"second")}
    opened = plain(tmp_path / "b", exports=exports)
    assert made == [(b"first", []), (b"second", ["small.onnx"])]
    assert (opened.export("onnx"), opened.export("tflite")) == (b"first", b"second")
    bundle.check(opened)


def test_an_export_that_cannot_be_made_leaves_what_was_there(tmp_path):
    before = plain(tmp_path / "b")

    def fail():
        raise InputError("no such operator")

    with pytest.raises(InputError, match="no such operator"):
        plain(tmp_path / "b", exports={"onnx": fail})
    bundle.check(before)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_asking_for_what_is_not_there_names_the_mend(tmp_path):
    opened = plain(tmp_path / "b", ranges=None, exports={})
    for attempt, match in (
        (opened.ranges, "--calib"),
        (opened.goldens, "with goldens"),
        (lambda: opened.export("tflite"), "edgeq export"),
        (lambda: opened.checked("elsewhere.onnx"), "holds no"),
        (lambda: opened.file("x"), "holds no x"),
    ):
        with pytest.raises(InputError, match=match):
            attempt()


def test_a_giant_manifest_is_refused_unread(small):
    os.truncate(small.folder / "bundle.json", 1 << 40)
    refused(small.folder, "over 4 MiB")


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"null", b"[]", b"3", b"[" * 100_000, b"9" * 10_000, b'{"format": NaN}', b'{"format": 1'],
    ids=range(9),
)  # fmt: skip
def test_what_is_not_a_manifest_is_refused(small, content):
    (small.folder / "bundle.json").write_bytes(content)
    refused(small.folder, "bundle.json")


def test_a_number_that_becomes_infinite_is_refused(small):
    place = small.folder / "bundle.json"
    fields = json.loads(place.read_bytes())
    fields["metrics"] = {"accuracy": "most"}
    place.write_text(json.dumps(fields).replace('"most"', "-1e999"))
    refused(small.folder, "bundle.json: not JSON .*-1e999.*; restore the bundle")


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_anywhere_is_found_or_harmless(small, data):
    """Any file with bytes cut or changed: an InputError or the same bundle, never another exception or content."""
    whole = {name: small.file(name) for name in small.files}
    name = data.draw(st.sampled_from([*whole, "bundle.json"]))
    place = small.folder / name
    good = place.read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    value = data.draw(st.binary(max_size=3))
    place.write_bytes(good[:at] + value + good[at + data.draw(st.integers(0, 3)) :])
    try:
        opened = bundle.read(small.folder)
        assert {name: opened.file(name) for name in opened.files}.items() <= whole.items()
        opened.weights()
        opened.ranges()
    except InputError as error:
        assert "\n" not in str(error)
    finally:
        place.write_bytes(good)


def test_find_takes_folders_and_names(small, monkeypatch):
    monkeypatch.setenv("EDGEQ_MODELS", str(small.folder.parent))
    assert zoo.find(small.folder).name == "small"
    assert zoo.find(str(small.folder)).name == "small"
    assert zoo.find("small").folder == small.folder
    assert "small" in [opened.name for opened in zoo.models()]


def test_an_unknown_name_lists_what_there_is(small, monkeypatch):
    monkeypatch.setenv("EDGEQ_MODELS", str(small.folder.parent))
    with pytest.raises(InputError, match=r"'smal': did you mean small\? The zoo has: .*small"):
        zoo.find("smal")
    for name in ("x" * 5000, "a\0b", "", " "):
        with pytest.raises(InputError):
            zoo.find(name)
    with pytest.raises(InputError, match="'qtny': did you mean qtiny"):
        zoo.find("qtny")
    for path in ("some/where", "gone.onnx"):
        with pytest.raises(InputError, match=f"{path}: nothing there"):
            zoo.find(path)


def test_an_architecture_is_no_bundle_unless_one_has_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert zoo.is_architecture("qtiny")
    with pytest.raises(InputError, match=r"model qtiny: an architecture.* edgeq export qtiny"):
        zoo.find("qtiny")
    plain(tmp_path / "qtiny")
    assert not zoo.is_architecture("qtiny")
    monkeypatch.setenv("EDGEQ_MODELS", str(tmp_path))
    with pytest.raises(InputError, match="did you mean qtiny or tiny"):  # once, though it is both
        zoo.find("qtny")
    monkeypatch.chdir("/")
    assert not zoo.is_architecture("qtiny")


def test_what_a_killed_export_left_is_no_model(small, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEQ_MODELS", str(tmp_path))
    shutil.copytree(small.folder, tmp_path / ".small.abc123")
    assert [opened.folder.name for opened in zoo.models() if opened.folder.parent == tmp_path] == ["small"]


def test_the_folder_one_works_in_is_not_replaced(small, monkeypatch):
    inside = small.folder / "inside"
    inside.mkdir()
    for place in (small.folder, inside):
        monkeypatch.chdir(place)
        with pytest.raises(InputError, match="is the folder you work in"):
            bundle.check_place(small.folder)
    monkeypatch.chdir("/")
    bundle.check_place(small.folder)


def test_a_damaged_bundle_is_not_replaced_unasked(small):
    (small.folder / "bundle.json").write_text("{")
    with pytest.raises(InputError, match=r"small: holds a damaged bundle .*; remove it"):
        bundle.check_place(small.folder)


def test_a_folder_of_models_that_is_not_there_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEQ_MODELS", str(tmp_path / "gone"))
    with pytest.raises(InputError, match="EDGEQ_MODELS"):
        zoo.models()
