"""The table of targets: what it holds, bands, and what is said of rows that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.cortexm import targets
from edgeq.cortexm.targets import Band, CycleRule
from edgeq.errors import InputError

ROW = """
[board]
part = "Part"
core = "cortex-m4"
clock_mhz = 100
wait_states = 3
flash = { origin = 0, bytes = 4096 }
ram = { origin = 0x20000000, bytes = 8192 }

[board.cycles]
from = "zero-wait"
low = 1.0
high = 1.5
kind = "estimated"

[board.energy]
low = 0.1
high = 0.2

[board.sources]
memory = "a"
wait_states = "b"
cycles = "c"
energy = "d"
"""
POSITIVE = st.floats(1e-3, 1e6)


def read(tmp_path: Path, text: str) -> targets.Target:
    (tmp_path / "t.toml").write_text(text)
    return targets.read(tmp_path / "t.toml")["board"]


def test_the_targets_that_the_command_line_promises() -> None:
    found = targets.listed()
    assert [(name, target.core, target.clock_mhz) for name, target in found.items()] == [
        ("stm32l496", "cortex-m4", 80),
        ("stm32l4r5", "cortex-m4", 120),
        ("nano33ble", "cortex-m4", 64),
        ("stm32h7a3", "cortex-m7", 280),
        ("stm32u575", "cortex-m33", 160),
    ]
    kib = {name: (target.flash.bytes // 1024, target.ram.bytes // 1024) for name, target in found.items()}
    assert kib == {
        "stm32l496": (1024, 320), "stm32l4r5": (2048, 640), "nano33ble": (1024, 256), "stm32h7a3": (2048, 1024),
        "stm32u575": (2048, 768),
    }  # fmt: skip
    assert all(set(target.sources) == {"memory", "wait_states", "cycles", "energy"} for target in found.values())


def test_what_is_simulated_is_told_from_what_is_estimated() -> None:
    kinds = {name: target.cycles.kind for name, target in targets.listed().items()}
    assert [name for name, kind in kinds.items() if kind == "simulated"] == ["stm32l496", "stm32l4r5"]


def test_an_unknown_target_is_told_which_there_are() -> None:
    with pytest.raises(InputError, match=r"target 'stm32f4': expected one of stm32l496, .*stm32u575"):
        targets.find("stm32f4")


def test_a_row_is_read(tmp_path: Path) -> None:
    board = read(tmp_path, ROW)
    assert board.cycles == CycleRule("zero-wait", Band(1.0, 1.5), Band(1.0, 1.5), 1.0, "estimated")
    assert board.energy == Band(0.1, 0.2) and board.ram == targets.Memory(0x20000000, 8192)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('part = "Part"\n', "", "t.toml: board: part is missing"),
        ('part = "Part"', "part = 5", "board: part is 5, expected text"),
        ('"cortex-m4"', '"cortex-m0"', "board: core is 'cortex-m0', expected one of cortex-m4, cortex-m7, cortex-m33"),
        ("clock_mhz = 100", "clock_mhz = 0", "board: clock_mhz is 0, expected a number above 0"),
        ("clock_mhz = 100", "clock_mhz = inf", "clock_mhz is inf"),
        ("clock_mhz = 100", "clock_mhz = true", "clock_mhz is True"),
        ("wait_states = 3", "wait_states = 1.5", "wait_states is 1.5, expected a whole number"),
        ("bytes = 8192", "bytes = 5000", "board.ram: expected whole pages"),
        ("bytes = 8192", "bytes = 0", "board.ram: expected whole pages"),
        ("bytes = 8192", "size = 8192", "board.ram: bytes is missing"),
        ("high = 1.5", "high = 0.5", "board.cycles: low is 1.0, above high, 0.5"),
        ('"zero-wait"', '"guess"', "board.cycles: from is 'guess', expected one of zero-wait, flash-accelerator"),
        ('kind = "estimated"', 'kind = "measured"', "board.cycles: kind is 'measured'"),
        ("low = 0.1", "low = -0.1", "board.energy: low is -0.1"),
        ('energy = "d"', 'energy = " "', "board.sources: energy is ' ', expected text"),
        ('energy = "d"', "", "board.sources: energy is missing"),
        ("wait_states = 3", "wait_states = 3\ncolour = 1", "board: colour: no such key is known"),
        (ROW, "board = 5", "t.toml: board: found 5, expected a table"),
        (ROW, "[", "not TOML"),
    ],
)
def test_a_wrong_row_names_itself_and_the_key(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in ROW
    with pytest.raises(InputError) as caught:
        read(tmp_path, ROW.replace(old, new, 1))
    assert told in str(caught.value)


def test_a_table_that_is_gone_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        targets.read(tmp_path / "t.toml")


def test_latency_and_energy_of_a_million_cycles(tmp_path: Path) -> None:
    board = read(tmp_path, ROW)
    cycles = board.cycles.cycles(1_000_000)
    assert cycles == Band(1_000_000, 1_500_000)
    assert board.latency_ms(cycles) == Band(pytest.approx(10), pytest.approx(15))
    assert board.energy_mj(cycles) == Band(pytest.approx(0.1), pytest.approx(0.3))


@given(POSITIVE, POSITIVE, POSITIVE, POSITIVE, POSITIVE, POSITIVE)
def test_bands_stay_in_order(low: float, more: float, other: float, less: float, rest: float, dense: float) -> None:
    one, two = Band(low, low + more), Band(other, other + less)
    product = one.by(two)
    assert product.low <= product.high and product == Band(one.low * two.low, one.high * two.high)
    cycles = CycleRule("zero-wait", one, Band(low, low + 2 * more), 2.0, "estimated").cycles(rest, dense)
    assert cycles.low == pytest.approx(low * (rest + dense) / 2)
    assert cycles.high == pytest.approx(((low + more) * rest + (low + 2 * more) * dense) / 2)
