"""Runs of the tool that cross-validates recipes: on the clips that `edgeq train` uses."""

from __future__ import annotations

import json
from pathlib import Path

from beeps import damaged_beeps
from scripts import script


def test_a_damaged_clip_is_left_out_and_listed(tmp_path: Path) -> None:
    tool = script("tools/cross_validate.py")
    recipe, damaged = damaged_beeps(tmp_path)
    tool._run_one(recipe, tmp_path / "corpus", tmp_path / "work", 0, 1)
    (kept,) = (tmp_path / "work").glob("*.json")
    run = json.loads(kept.read_text())
    assert [(row["file"], row["kind"]) for row in run["left_out"]] == [(str(damaged), "unreadable")]
    assert run["corpus"]["clips"] == 11 and run["clips"] < 8
    result = json.loads(tool._write_result(recipe, tmp_path / "work", [0], (1,)).read_text())
    assert result["left_out"] == run["left_out"]
