"""Budgets judge the lowered parameters and the MACs, and name what is wrong with a budget file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq import budget
from edgeq.errors import InputError


def test_dcase2022_is_the_challenges_rule() -> None:
    # DCASE 2022 Challenge, Task 1: at most 128,000 parameters and 30 million MACs.
    rule = budget.find("dcase2022")
    assert rule.judge(128_000, 30_000_000) == []
    assert rule.judge(128_001, 30_000_000) == ["128,001 parameters after lowering, 1 over the limit of 128,000"]
    assert len(rule.judge(128_001, 30_000_001)) == 2


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_reason_for_each_limit_exceeded(parameters: int, macs: int) -> None:
    rule = budget.Budget("x", parameters=1000, macs=2000)
    assert len(rule.judge(parameters, macs)) == (parameters > 1000) + (macs > 2000)


def test_a_file_may_limit_one_thing(tmp_path: Path) -> None:
    file = tmp_path / "board.toml"
    file.write_text("macs = 5_000_000\n")
    assert budget.find(str(file)) == budget.Budget("board", macs=5_000_000)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "expected some of"),
        ("flash = 3", "flash"),
        ("macs = 1.5", "expected a whole number"),
        ("macs = -1", "expected a whole number"),
        ("macs = true", "expected a whole number"),
        ("macs = ", "not TOML"),
        (f"macs = {'9' * 5000}", "not TOML"),
        (f"macs = {'[' * 5000}", "not TOML"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, found: str) -> None:
    file = tmp_path / "board.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=found) as caught:
        budget.find(str(file))
    assert "board.toml" in str(caught.value)


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(InputError, match="dcase2022"):
        budget.find("dcase1999")
