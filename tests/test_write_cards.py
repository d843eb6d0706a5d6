"""Cards and the README's table are what the tool writes of the bundles, and tell how a model came to be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from scripts import script

from edgeq import zoo

ROOT = Path(__file__).resolve().parent.parent
MODELS = sorted(path.parent for path in ROOT.glob("models/*/bundle.json"))


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return script("tools/write_cards.py")


@pytest.mark.parametrize("folder", MODELS, ids=lambda folder: folder.name)
def test_cards_are_up_to_date(folder: Path, tool: ModuleType) -> None:
    measured = json.loads((folder / "cross_validation.json").read_text())
    assert tool._card(zoo.find(folder), measured) == (folder / "README.md").read_text()


def test_the_readme_has_the_table_of_the_zoo(tool: ModuleType) -> None:
    assert tool.TABLE_BEGIN + "\n" + tool._table() + tool.TABLE_END in (ROOT / "README.md").read_text()


def test_a_stage_may_be_a_folder_of_files(tool: ModuleType) -> None:
    model = zoo.find("esc10-qnano")
    size = model.files["ranges.json"]
    folder = replace(model, exports={"c-int8": "c"}, files={**model.files, "c/a.c": size, "c/a.h": size})
    assert ("c-int8 folder, 2 files", f"{2 * size.bytes:,} bytes") == tool._size(folder, "c-int8")


PRUNED = {"method": "operator-norm", "ratio": 0.5, "sites": ["convs.3", "convs.4"], "round_to": 1, "steps": 2}
TAUGHT = {"alpha": 0.5, "temperature": 2.0, "teachers": [{"name": "one"}, {"name": "two"}, {"name": "one"}]}


@pytest.mark.parametrize(
    ("provenance", "stages", "told"),
    [
        ({}, "training", ()),
        (
            {"pruned": {**PRUNED, "widths": [16, 32, 48, 64, 96]}},
            "training, pruning",
            ("widths 16, 32, 48, 64, 96", "at convs.3, convs.4, ratio 0.5 by operator norm, in 2 steps"),
        ),
        (
            {"distilled": TAUGHT},
            "training, learning from 2 times one, two",
            ("taught by 2 times one, two (share of the labels 0.5, temperature 2)",),
        ),
    ],
)
def test_a_card_tells_of_pruning_and_teaching(
    tool: ModuleType, provenance: dict[str, Any], stages: str, told: tuple[str, ...]
) -> None:
    model = replace(zoo.find("esc10-qtiny"), provenance=provenance)
    assert tool._made_by(model) == stages
    text = " ".join(" ".join(tool._making(model)).split())
    assert bool(text) == bool(told)
    for words in told:
        assert words in text
