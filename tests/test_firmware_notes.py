"""The firmware notes: a page a target, and figures that are the golden counts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from edgeq.cortexm import targets

ROOT = Path(__file__).resolve().parent.parent
NOTES = ROOT / "firmware_notes"
COUNTS = json.loads((ROOT / "tests" / "goldens" / "cortexm_counts.json").read_text())


@pytest.mark.parametrize("name", targets.listed())
def test_a_target_has_a_page_with_its_figures(name: str) -> None:
    text = (NOTES / f"{name}.md").read_text()
    target = targets.find(name)
    assert f"{target.clock_mhz:g} MHz" in text and f"**{target.wait_states} wait states**" in text
    for memory in (target.flash, target.ram):
        assert f"| 0x{memory.origin:08x}".upper()[4:] in text.upper() and f"{memory.bytes:,}" in text
    rows = {cells[0]: cells for line in text.splitlines() if len(cells := line.strip("| ").split(" | ")) == 7}
    for model, found in COUNTS["models"].items():
        _, _, _, cycles, _, flash, ram = rows[model]
        keys = ("cycles", "flash_bytes", "ram_bytes")
        assert [cycles, flash, ram] == [f"{found[name][key]:,}" for key in keys]


def test_the_notes_list_every_page() -> None:
    text = (NOTES / "README.md").read_text()
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", text))
    assert {f"{name}.md" for name in targets.listed()} <= linked
    assert all((NOTES / page).is_file() for page in linked)
    for name, target in targets.listed().items():
        row = next(line for line in text.splitlines() if f"]({name}.md)" in line)
        assert target.part in row and row.rstrip(" |").endswith(target.cycles.kind)
