"""benchmarks/table3.md: what stands there is what the measured rows beside it say, and what the paper printed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from edgeq import fresh
from edgeq.nets.count import count

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
ROWS = json.loads((BENCHMARKS / "table3.json").read_text())["rows"]


def test_the_page_is_what_the_script_writes(tmp_path: Path) -> None:
    (tmp_path / "table3.json").write_text((BENCHMARKS / "table3.json").read_text())
    command = [sys.executable, BENCHMARKS / "table3.py", "--report", "-o", tmp_path / "table3.json"]
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "table3.md").read_text() == (BENCHMARKS / "table3.md").read_text()


def test_every_row_is_of_the_network_that_it_names() -> None:
    assert len(ROWS) == 10 + 8  # quaternion networks in both forms
    for key, row in ROWS.items():
        assert row["macs"] == count(*fresh.specs(key.split()[0])).macs["network"]
