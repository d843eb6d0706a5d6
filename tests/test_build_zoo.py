"""The zoo is built as a user trains: clips that cannot be used are left out and listed."""

from __future__ import annotations

from pathlib import Path

from beeps import damaged_beeps
from scripts import script

from edgeq import bundle


def test_a_damaged_clip_is_left_out_and_listed(tmp_path: Path) -> None:
    tool = script("tools/build_zoo.py")
    recipe, damaged = damaged_beeps(tmp_path)
    told = tool.build(recipe, tmp_path / "corpus", tmp_path / "work")
    assert [(row["file"], row["kind"]) for row in told["left_out"]] == [(str(damaged), "unreadable")]
    provenance = bundle.read(told["bundle"]).provenance
    assert provenance["clips"] == 11 and len(provenance["left_out_sha256"]) == 1
