"""benchmarks/compression.md: what stands there is what the results beside the recipes say."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from scripts import script

_ROOT = Path(__file__).resolve().parent.parent
compression = script("benchmarks/compression.py")


def test_the_page_is_what_the_script_writes() -> None:
    assert compression.PAGE.read_text(encoding="utf-8") == compression.page()


def test_the_pruned_network_costs_what_its_layers_add_up_to() -> None:
    pruned = compression.row("models/esc10-qtiny-p50", "")
    # 3 x 3 quaternion kernels of real widths 4-16-32-48-32-48, a quarter of the block form; biases; ten classes.
    widths = (4, 16, 32, 48, 32, 48)
    kernels = sum(9 * before * after // 4 for before, after in pairwise(widths))
    assert pruned.stored == kernels + sum(widths[1:]) + 48 * 10 + 10


def test_a_result_of_another_recipe_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(_ROOT / "benchmarks" / "compression" / "a-random", tmp_path / "a-random")
    result = tmp_path / "a-random" / "cross_validation.json"
    result.write_text(json.dumps(json.loads(result.read_text()) | {"recipe_sha256": "0" * 64}))
    monkeypatch.setattr(compression, "HERE", tmp_path)
    with pytest.raises(ValueError, match="another recipe"):
        compression.row("a-random", "")
