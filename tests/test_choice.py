"""Tables of choices: what is written is read back, and nothing else is taken for one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import graphs
import pytest
from quaternion_graphs import qresnet

from edgeq.errors import InputError
from edgeq.export.choice import BLOCK, FAST, Choice, Times, layers, lowered, read_table, table
from edgeq.lowering.fast import quaternion_layers

TIMES = Times(2.0, 1.0, 0.5)


def choices() -> dict[str, Choice]:
    graph = qresnet()
    timed = layers(graph, ["conv_3", "conv_6"], {"conv_3": TIMES, "conv_4": Times(1.0, 2.0, 2.0)})
    return {"onnx": Choice(timed, TIMES, "onnxruntime", "1.2.3"), "tflite": Choice(layers(graph, []))}


def written(folder: Path, **changes: Any) -> Path:
    place = folder / "lowering.json"
    place.write_text(json.dumps(json.loads(table(choices())) | changes))
    return place


def test_every_quaternion_layer_has_its_place_in_order() -> None:
    graph = qresnet()
    found = layers(graph, ["conv_3"], {"conv_3": TIMES})
    assert tuple(layer.name for layer in found) == quaternion_layers(graph)
    assert [layer.lowering for layer in found] == [FAST if layer.name == "conv_3" else BLOCK for layer in found]
    assert [layer.times for layer in found if layer.times] == [TIMES]
    assert (found[0].input_shape, found[0].output_shape) == ((1, 16, 12, 4), (1, 16, 12, 8))
    assert layers(graphs.residual(), []) == ()


def test_a_table_comes_back(tmp_path: Path) -> None:
    place = tmp_path / "lowering.json"
    place.write_bytes(table(choices()))
    found, content = read_table(place, qresnet(), ("onnx", "tflite"))
    assert found == choices() and content == place.read_bytes()
    assert read_table(place, qresnet(), ("tflite",))[0] == {"tflite": choices()["tflite"]}
    described = json.loads(content)
    assert described["machine"]["cores"] > 0
    assert described["files"]["onnx"]["network"] == {"block_ms": 2.0, "fast_ms": 1.0, "ratio": 0.5}


def test_a_choice_is_what_the_graph_becomes() -> None:
    graph, choice = qresnet(), choices()["onnx"]
    assert choice.fast == ("conv_3", "conv_6")
    names = {op.output for op in lowered(graph, "onnx", choice).ops}
    assert {"conv_3.r", "conv_6.r"} <= names and "conv_5.m0" not in names
    assert lowered(graph, "tflite", choices()["tflite"]) is graph
    kinds = {form: {op.kind for op in lowered(graph, form, choice).ops} for form in ("onnx", "tflite")}
    assert "SUB" not in kinds["onnx"] and "SUB" in kinds["tflite"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "expected a table of format 1"),
        ({"files": []}, "expected a table of format 1"),
        ({"files": {}}, "has no onnx, only nothing; run: --lowering auto --onnx"),
        ({"files": {"onnx": {}}}, "onnx: a field is missing"),
        ({"files": {"onnx": {"layers": [], "network": None, "runtime": None, "version": None}}}, "found no layer more"),
    ],
)
def test_what_is_no_table_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"lowering\.json: .*{message}"):
        read_table(written(tmp_path, **changes), qresnet(), ("onnx",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lowering": "quick"}, "conv_2: lowering 'quick', expected block or fast"),
        ({"name": "conv_9"}, r"is of another network: found conv_9 .*, expected conv_2"),
        ({"output_shape": [1, 8, 6, 12]}, r"found conv_2 from \(1, 8, 6, 8\) to \(1, 8, 6, 12\), expected"),
        ({"times": {"block_ms": "fast", "fast_ms": 1, "ratio": 1}}, "wrong kind"),
        ({"times": {"block_ms": 1}}, "wrong kind"),
        ({"times": {"block_ms": 1, "fast_ms": 1, "ratio": "nan"}}, "ratio 'nan', expected a positive number"),
        ({"times": {"block_ms": -1, "fast_ms": 1, "ratio": 1}}, "block_ms -1, expected a positive number"),
        ({"name": 9}, "name 9, expected text"),
        ({"name": "x" * 500}, "found x{60} from"),
        ({"output_shape": "1868"}, "shape '1868', expected at most 4 whole numbers"),
        ({"times": 3}, "wrong kind"),
        ({"colour": "red"}, "wrong kind"),
    ],
)
def test_a_layer_that_does_not_fit_is_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    files = json.loads(table(choices()))["files"]
    files["onnx"]["layers"][1] |= change
    with pytest.raises(InputError, match=message):
        read_table(written(tmp_path, files=files), qresnet(), ("onnx",))


@pytest.mark.parametrize("field", ["runtime", "version"])
def test_what_was_timed_is_said_in_words(field: str, tmp_path: Path) -> None:
    files = json.loads(table(choices()))["files"]
    files["onnx"][field] = [3]
    with pytest.raises(InputError, match=r"onnx: .*\[3\], expected text or null"):
        read_table(written(tmp_path, files=files), qresnet(), ("onnx",))


def test_a_longer_network_is_another_one(tmp_path: Path) -> None:
    files = json.loads(table(choices()))["files"]
    files["onnx"]["layers"].append(files["onnx"]["layers"][-1] | {"name": "conv_10"})
    with pytest.raises(InputError, match=r"found conv_10 .*, expected no layer more"):
        read_table(written(tmp_path, files=files), qresnet(), ("onnx",))


def test_files_that_are_no_json_or_not_there_are_refused(tmp_path: Path) -> None:
    place = tmp_path / "lowering.json"
    place.write_text("block")
    with pytest.raises(InputError, match=r"not JSON .*; expected a table that --lowering auto wrote"):
        read_table(place, qresnet(), ("onnx",))
    place.write_text('{"format": 1, "files": {"onnx": {"network": {"ratio": 1e999}}}}')
    with pytest.raises(InputError, match="the number 1e999"):
        read_table(place, qresnet(), ("onnx",))
    place.write_bytes(b"[" * ((1 << 20) + 1))
    with pytest.raises(InputError, match="over 1 MiB"):
        read_table(place, qresnet(), ("onnx",))
    with pytest.raises(InputError, match="expected block, fast, auto, or a table that auto wrote"):
        read_table(tmp_path, qresnet(), ("onnx",))
