"""The zoo is built as a user trains: clips that cannot be used are left out and listed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from beeps import RECIPE, beeps

from edgeq import bundle

ROOT = Path(__file__).resolve().parent.parent


def test_a_damaged_clip_is_left_out_and_listed(tmp_path: Path) -> None:
    place = importlib.util.spec_from_file_location("build_zoo", ROOT / "tools" / "build_zoo.py")
    assert place is not None and place.loader is not None
    tool = importlib.util.module_from_spec(place)
    place.loader.exec_module(tool)
    damaged = beeps(tmp_path / "corpus").clips[4].path
    damaged.write_bytes(damaged.read_bytes()[:3000])
    recipe = tmp_path / "beeps" / "recipe.toml"
    recipe.parent.mkdir()
    recipe.write_text(RECIPE.replace("epochs = 12", "epochs = 1").replace("[1.1]", "[]"))
    told = tool.build(recipe, tmp_path / "corpus", tmp_path / "work")
    assert [(row["file"], row["kind"]) for row in told["left_out"]] == [(str(damaged), "unreadable")]
    provenance = bundle.read(told["bundle"]).provenance
    assert provenance["clips"] == 11 and len(provenance["left_out_sha256"]) == 1
