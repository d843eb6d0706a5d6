"""The plan for AudioSet: generated as committed, its arithmetic right, and what was not measured said to be so."""

from __future__ import annotations

import copy
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripts import script

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
plan = script("benchmarks/audioset.py")


@pytest.fixture
def steps() -> dict[str, Any]:
    return json.loads((BENCHMARKS / "training_step.json").read_text())


def test_the_committed_page_is_what_the_script_writes() -> None:
    assert (BENCHMARKS / "audioset.md").read_text(encoding="utf-8") == plan.committed()


def test_hours_and_shards_of_round_numbers() -> None:
    # 32 million clips at 100 a second each: 320,000 s; on 8 an eighth.
    assert plan.hours(32_000_000, 100) == timedelta(seconds=320_000) / timedelta(hours=1)
    assert plan.hours(32_000_000, 100, 8) == 320_000 / 8 / 3600
    assert [plan.shards(size) for size in (1, 2**28, 2**28 + 1, 10 * 2**28)] == [1, 1, 2, 10]


@given(st.floats(1, 1e9), st.floats(0.1, 1000), st.integers(1, 512))
def test_the_rate_that_is_needed_takes_just_that_long(samples: float, days: float, workers: int) -> None:
    assert plan.hours(samples, plan.rate_needed(samples, days, workers), workers) == pytest.approx(24 * days)


def test_a_gpu_has_figures_only_once_one_was_measured(steps: dict[str, Any]) -> None:
    assert "not measured: run `benchmarks/gpu.sh`" in plan.page(steps, None)
    gpu = copy.deepcopy(steps)
    gpu["steps"] = [next(row for row in steps["steps"] if row["recipe"] == plan.RECIPE)]
    # On a GPU the clock counts, whatever the processor did meanwhile.
    gpu["steps"][0] |= {"device": "cuda", "batch": 32, "samples_a_second": 200.0, "samples_a_cpu_second": 1.0}
    page = plan.page(steps, None, gpu)
    assert "not measured: run `benchmarks/gpu.sh`" not in page
    row = next(line for line in page.splitlines() if "| cuda |" in line)
    assert row.endswith("| 44 | 6 |"), "32 million clips at 200 a second: 44.4 hours, on 8 of them 5.6"


def test_disk_is_bytes_of_a_clip_times_the_segments(steps: dict[str, Any]) -> None:
    steps["sample"]["flac"]["bytes_a_clip"] = 500_000.0
    steps["sample"]["flac"]["pack_cpu_seconds_a_clip"] = 0.0144
    row = next(line for line in plan.page(steps, None).splitlines() if line.startswith("| flac | 500"))
    # 2,085,544 segments: 1.043 TB, 3884.7 shards of 2**28; 30,031.8 s of processor time.
    assert row == "| flac | 500 | 1.04 | 3,885 | 0.0144 | 1.0 / 0.3 / 0.1 |"
