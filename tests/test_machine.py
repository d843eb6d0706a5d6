"""The description of the machine agrees with what the system itself says."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgeq import machine


def test_describes_this_machine() -> None:
    described = machine.describe()
    assert json.loads(json.dumps(described)) == described
    assert described["cores"] == os.cpu_count()
    kernel = subprocess.run(["uname", "-r"], capture_output=True, text=True, check=True).stdout.strip()
    assert kernel in str(described["system"])
    assert described["processor"]


def test_a_board_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    processor = machine.describe()["processor"]
    (tmp_path / "model").write_bytes(b"Raspberry Pi 4 Model B Rev 1.4\0")
    monkeypatch.setattr(machine, "_BOARD", tmp_path / "model")
    assert machine.describe()["processor"] == f"Raspberry Pi 4 Model B Rev 1.4, {processor}"


def moment(**changes: Any) -> dict[str, Any]:
    calm = {"seconds": 100.0, "own_seconds": 50.0, "busy_seconds": 1000.0, "stolen_seconds": 0.0}
    return {**calm, "load_average": 0.1, "governors": ["performance"], "throttled": 0, "throttling": None, **changes}


def test_conditions_follow_what_this_process_does() -> None:
    before, begin = machine.conditions(), time.process_time()
    while time.process_time() < begin + 0.3:
        pass
    subprocess.run([sys.executable, "-c", "while __import__('time').process_time() < 0.3: pass"], check=True)
    after = machine.conditions()
    assert json.loads(json.dumps(after)) == after
    spent = after["own_seconds"] - before["own_seconds"]
    assert 0.6 <= spent + 0.01 < 2 and after["seconds"] - before["seconds"] >= 0.9 * spent
    assert after["busy_seconds"] - before["busy_seconds"] >= 0.9 * spent - 0.05, "all processes, this one among them"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"busy_seconds": 1010.5, "own_seconds": 60.0}, None),
        ({"busy_seconds": 1018.0, "own_seconds": 60.0}, "other work took 40% of the processors"),
        ({"busy_seconds": None, "stolen_seconds": None}, None),
        ({"stolen_seconds": 5.0}, "kept 25% of its processors"),
        ({"governors": ["performance", "powersave"]}, "governor powersave"),
        ({"governors": None, "throttled": None}, None),
        ({"throttled": 2}, "slowed for heat"),
        ({"throttling": True}, "slowed for heat"),
    ],
)
def test_disturbances_are_told_each_with_its_mend(changes: dict[str, Any], told: str | None) -> None:
    found = machine.disturbances(moment(), moment(seconds=110.0, **changes), cores=2)
    assert found == [] if told is None else len(found) == 1 and told in found[0]
