"""schema.json: what edgeq bench prints keeps to it, and it refuses figures that do not say how they were come by."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import edgeq
from edgeq.bench import result as results
from edgeq.bench.result import Band, Comparison, Figure, FrontEnd, Layer, Parity, Percentiles, Result, Value

SCHEMA = json.loads((Path(edgeq.__file__).parent / "bench" / "schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

COUNTED = Figure("counted", "the file")
MEASURED = Result(
    "net", "cpu", "onnxruntime", "onnx", "measured", Percentiles(1.0, 2.0, 3.0, 1.2, 100), macs=10, threads=1,
    batch=8, precision="float16", cuda_graphs=True, timed="there and back", parity=Parity(1.0, 1e-4, 8),
    windows_per_second=8000.0,
    real_time_factor=7.0, load_ms=Value(3.0), memory_bytes=Value(1e6), energy_mj=Value(2.0, "estimated", "5 W stated"),
    co2_g=Value(1e-4, "estimated", "a table"), file_bytes=100, layers=(Layer("conv_1", "CONV_2D", 10),),
    accuracy={
        "accuracy": {"mean": 0.9, "low": 0.8, "high": 0.95, "method": "Wilson", "clips": 20}, "log_loss": 0.3,
        "expected_calibration_error": 0.1, "calibration_bins": 15, "confusion": [[9, 1], [1, 9]], "labels": ["a", "b"],
        "skipped": 0, "stage": "onnx", "runtime": "onnxruntime", "kind": "measured",
    },
    frontend=FrontEnd(Percentiles(0.1, 0.1, 0.1, 0.1, 5)),
    comparison=Comparison("other", 0.5, 0.4, 0.6, 30, "order statistics", "measured"),
    machine={"processor": "one"}, warnings=("20 runs",),
    figures={"macs": COUNTED, "layers": COUNTED, "file_bytes": COUNTED, "real_time_factor": Figure("measured"),
             "windows_per_second": Figure("measured")},
)  # fmt: skip
SIMULATED = Result(
    "net", "board", "c", "c-int8", "simulated", Band(1.0, 2.0, "simulated", "a table"), precision="int8",
    instructions=9, cycles=10,
    energy_mj=Band(0.1, 0.2, "estimated", "a table"), flash_bytes=1, ram_bytes=2,
    machine={"part": "chip"},
    figures={name: Figure("simulated", "a core") for name in ("instructions", "cycles", "flash_bytes", "ram_bytes")},
)  # fmt: skip


def test_the_schema_is_one_and_takes_results_alone_and_listed() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    values = [MEASURED.to_json(), SIMULATED.to_json()]
    for value in (*values, values):
        VALIDATOR.validate(json.loads(json.dumps(value)))


def test_it_knows_every_field_and_every_kind() -> None:
    known = SCHEMA["$defs"]["result"]["properties"]
    assert set(known) == set(Result.__dataclass_fields__)
    kinds = results.MEASURED, results.SIMULATED, results.ESTIMATED, results.COUNTED
    assert SCHEMA["$defs"]["kind"]["enum"] == list(kinds)


def nested(value: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    *above, last = path.split(".")
    for key in above:
        value = value[key]
    return value, last


@pytest.mark.parametrize(
    "path",
    [
        "kind", "latency_ms.kind", "load_ms.kind", "memory_bytes.kind", "energy_mj.kind", "energy_mj.source",
        "co2_g.source", "comparison.kind", "frontend.latency_ms.kind", "accuracy.kind", "figures.macs",
        "figures.macs.source", "figures.layers", "figures.file_bytes", "figures.real_time_factor", "machine", "figures",
        "precision", "parity.kind", "parity.max_abs_error", "figures.windows_per_second",
    ],
)  # fmt: skip
def test_a_figure_without_its_kind_or_source_is_refused(path: str) -> None:
    value = copy.deepcopy(MEASURED.to_json())
    place, key = nested(value, path)
    del place[key]
    assert not VALIDATOR.is_valid(value)


@pytest.mark.parametrize(
    ("path", "other"),
    [
        ("kind", "guessed"), ("latency_ms.kind", "estimated"), ("load_ms.value", "3"), ("energy_mj.source", ""),
        ("macs", -1), ("threads", 0), ("accuracy.accuracy.mean", 90), ("extra", 1),
        ("precision", "float8"), ("cuda_graphs", False), ("parity.top1_agreement", 2), ("windows_per_second", 0),
    ],
)  # fmt: skip
def test_other_values_are_refused(path: str, other: object) -> None:
    value = copy.deepcopy(MEASURED.to_json())
    place, key = nested(value, path)
    place[key] = other
    assert not VALIDATOR.is_valid(value)


@pytest.mark.parametrize("name", ["instructions", "cycles", "flash_bytes", "ram_bytes"])
def test_a_simulated_figure_without_its_source_is_refused(name: str) -> None:
    value = copy.deepcopy(SIMULATED.to_json())
    del value["figures"][name]
    assert not VALIDATOR.is_valid(value)
    value["figures"][name] = {"kind": "simulated"}
    assert not VALIDATOR.is_valid(value)
