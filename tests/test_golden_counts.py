"""What the zoo costs on microcontrollers, to the instruction: no change goes by unseen. Mend: tools/count_zoo.py."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest

from edgeq.bench import run
from edgeq.cortexm import targets

COUNTS = json.loads((Path(__file__).parent / "goldens" / "cortexm_counts.json").read_text())
QUICK = [("esc10-qdcase22", "stm32l496"), ("esc10-qnano", "stm32h7a3"), ("esc10-dcase22", "stm32u575")]
CORES = {target.core: name for name, target in reversed(targets.listed().items())}  # one target a core
ALL = [(model, target) for model in COUNTS["models"] for target in CORES.values()]


def assert_counts(model: str, target: str) -> None:
    if COUNTS["compiler"] != (found := f"ziglang {metadata.version('ziglang')}"):
        pytest.skip(f"counted with {COUNTS['compiler']}, found {found}")
    (report,) = run.bench(model, target).results
    expected = COUNTS["models"][model][target]
    assert {key: getattr(report, key) for key in expected} == expected


@pytest.mark.parametrize(("model", "target"), QUICK)
def test_some_counts(model: str, target: str) -> None:
    assert_counts(model, target)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "target"), sorted(set(ALL) - set(QUICK)))
def test_every_count(model: str, target: str) -> None:
    assert_counts(model, target)
