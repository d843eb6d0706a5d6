"""benchmarks/table3.md: what stands there is what the measured rows beside it say, and what the paper printed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgeq import fresh, machine
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


def on_a_gpu(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The script's exit code."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import table3

    monkeypatch.setattr(sys, "argv", ["table3.py", "--target", "gpu", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        table3.main()
    return int(left.value.code or 0)


def test_a_page_of_a_gpu_has_each_way_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made-up rows: none were measured yet."""
    row = dict(ROWS["qcnn14 fast"])
    ways = {"qcnn14 fast onnxruntime-cuda float16 64": (12.34, 0.56), "cnn14 block torch-cuda float32 1": (3.21, 1.0)}
    rows = {
        key: {**row, "latency_ms": {**row["latency_ms"], "p50": ms}, "ratio": {**row["ratio"], "ratio": ratio}}
        for key, (ms, ratio) in ways.items()
    }
    (tmp_path / "gpu.json").write_text(json.dumps({"rows": rows}))
    assert on_a_gpu(monkeypatch, "--report", "-o", tmp_path / "gpu.json") == 0
    sections = (tmp_path / "gpu.md").read_text().split("## ")
    half, full = (next(one for one in sections if one.startswith(name)) for name in
                  ("onnxruntime-cuda, float16", "torch-cuda, float32"))  # fmt: skip
    assert "| QCNN14 |  |  |  | 12.3 (0.56) | 29.87 (1.42) |" in half and "3.21" not in half
    assert "| CNN14 | 3.21 (1.00) |  |  |  | 21.10 (1.00) |" in full and "12.3" not in full


@pytest.mark.skipif(bool(machine.gpus()), reason="this machine has an NVIDIA GPU")
def test_a_missing_gpu_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert on_a_gpu(monkeypatch, "-o", tmp_path / "gpu.json") == 2
    assert "finds no NVIDIA GPU here" in capsys.readouterr().err and not list(tmp_path.iterdir())
