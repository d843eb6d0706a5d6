"""Runs of the tool that cross-validates recipes: on the clips that `edgeq train` uses."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from beeps import RECIPE, beeps

TOOL = Path(__file__).resolve().parent.parent / "tools" / "cross_validate.py"


def test_a_damaged_clip_is_left_out_and_listed(tmp_path: Path) -> None:
    place = importlib.util.spec_from_file_location("cross_validate", TOOL)
    assert place is not None and place.loader is not None
    tool = importlib.util.module_from_spec(place)
    place.loader.exec_module(tool)
    damaged = beeps(tmp_path / "corpus").clips[4].path
    damaged.write_bytes(damaged.read_bytes()[:3000])
    recipe = tmp_path / "beeps" / "recipe.toml"
    recipe.parent.mkdir()
    recipe.write_text(RECIPE.replace("epochs = 12", "epochs = 1").replace("[1.1]", "[]"))
    tool._run_one(recipe, tmp_path / "corpus", tmp_path / "work", 0, 1)
    (kept,) = (tmp_path / "work").glob("*.json")
    run = json.loads(kept.read_text())
    assert [(row["file"], row["kind"]) for row in run["left_out"]] == [(str(damaged), "unreadable")]
    assert run["corpus"]["clips"] == 11 and run["clips"] < 8
    result = json.loads(tool._write_result(recipe, tmp_path / "work", [0], (1,)).read_text())
    assert result["left_out"] == run["left_out"]
