"""What instructions cost, against the timings of the Cortex-M4's manual, on words assembled by the compiler."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from elftools.elf.elffile import ELFFile

from edgeq.cortexm import build
from edgeq.cortexm.cycles import Cost, cost


def assembled(*lines: str) -> bytes:
    """Thumb code of a Cortex-M4 with its floating point unit."""
    text = "\n".join((".syntax unified", ".thumb", *lines))
    flags = ("-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m4+vfp4d16sp", "-c", "-o", "a.o", "a.s")
    with TemporaryDirectory() as folder:
        Path(folder, "a.s").write_text(text + "\n")
        done = build.run_compiler(flags, Path(folder))
        assert not done.returncode, done.stderr
        with Path(folder, "a.o").open("rb") as handle:
            return ELFFile(handle).get_section_by_name(".text").data()


def told(*lines: str) -> Cost:
    return cost(assembled(*lines), 0x08000000)


SINGLE = {
    "adds r0, r0, r1": 1,
    "add.w r0, r1, r2, lsl #3": 1,
    "mul r0, r1, r2": 1,
    "mla r0, r1, r2, r3": 1,
    "smull r0, r1, r2, r3": 1,
    "smlad r0, r1, r2, r3": 1,
    "smlsdx r0, r1, r2, r3": 1,
    "sxtb16 r0, r1, ror #8": 1,
    "smmulr r0, r1, r2": 1,
    "ssat r0, #8, r1": 1,
    "usub8 r0, r1, r2": 1,
    "sel r0, r1, r2": 1,
    "sdiv r0, r1, r2": 7,
    "udiv r0, r1, r2": 7,
    "ldr r0, [r1]": 2,
    "ldrsb r0, [r1, r2]": 2,
    "ldr r0, [r1], #4": 2,
    "str r0, [r1]": 1,
    "strb r0, [r1, #1]!": 1,
    "ldrd r0, r1, [r2]": 3,
    "strd r0, r1, [r2], #8": 3,
    "ldm r0!, {r1-r4}": 5,
    "ldmdb r0, {r1, r2}": 3,
    "stm r0!, {r1, r2, r3}": 4,
    "push {r4-r7, lr}": 6,
    "pop {r4-r7, pc}": 6,
    "vldr s0, [r0]": 2,
    "vstr s0, [r0]": 2,
    "vldr d0, [r0]": 3,
    "vpush {d8, d9}": 5,
    "vldmia r0!, {s0-s7}": 9,
    "vadd.f32 s0, s1, s2": 1,
    "vmul.f32 s0, s1, s2": 1,
    "vfma.f32 s0, s1, s2": 3,
    "vmls.f32 s0, s1, s2": 3,
    "vdiv.f32 s0, s1, s2": 14,
    "vsqrt.f32 s0, s1": 14,
    "vcvt.s32.f32 s0, s1": 1,
    "bx lr": 1,
    "nop": 1,
}


@pytest.fixture(scope="module")
def each() -> dict[str, Cost]:
    """The cost of each instruction alone; assembled at once, since the compiler takes its time."""
    code = assembled(*(line for instruction in SINGLE for line in (instruction, "udf #0x55")))
    pieces = code.split(bytes((0x55, 0xDE)))
    return {instruction: cost(piece, 0x1000) for instruction, piece in zip(SINGLE, pieces, strict=False)}


@pytest.mark.parametrize("instruction", SINGLE)
def test_an_instruction_alone(each: dict[str, Cost], instruction: str) -> None:
    found = each[instruction]
    assert (found.instructions, found.cycles, found.rules) == (1, SINGLE[instruction], 0)


def test_loads_overlap_the_load_or_store_before_them() -> None:
    assert told("ldr r0, [r4]", "ldr r1, [r5]", "ldrb r2, [r6]").cycles == 2 + 1 + 1
    assert told("str r0, [r4]", "ldr r1, [r5]").cycles == 1 + 1
    assert told("ldr r0, [r4]", "adds r0, r0, r0", "ldr r1, [r5]").cycles == 2 + 1 + 2
    assert told("ldrd r0, r1, [r4]", "ldr r2, [r5]").cycles == 3 + 2


def test_a_jump_by_a_load_is_not_pipelined() -> None:
    assert told("ldr r0, [r4]", "ldr.w pc, [r5]").cycles == 2 + 2


def test_the_manuals_rules_add_to_what_never_waiting_memory_costs() -> None:
    assert told("str r0, [r4]", "ldr r1, [r5]").rules == 1, "nothing is pipelined after a store"
    assert told("ldr r0, [r4]", "ldr r1, [r5], #4").rules == 1, "a load that writes back"
    assert told("adds r4, r4, r0", "ldr r1, [r4]").rules == 1, "an address from the instruction before"
    assert told("adds r4, r4, r0", "str r1, [r5, r4]").rules == 1
    assert told("adds r4, r4, r0", "adds r0, r0, r1", "ldr r1, [r4]").rules == 0
    assert told("adds r3, r4, r0", "str r3, [r4]").rules == 0, "data of a store may come late"
    assert told("ldr r0, [r4]", "ldr r1, [r5]").rules == 0


def test_conditional_instructions_cost_what_they_cost_when_they_run() -> None:
    found = told("cmp r0, #1", "itt ge", "ldrge r1, [r2]", "addge r1, r1, r1", "smlad r0, r1, r2, r3")
    assert (found.instructions, found.cycles) == (5, 1 + 1 + 2 + 1 + 1)
    assert found.mnemonics == {"cmp": 1, "it": 1, "ldr": 1, "add": 1, "smlad": 1}


def test_bytes_that_are_no_instruction_are_refused() -> None:
    with pytest.raises(ValueError, match="no Thumb instruction at 0x8000002"):
        cost(bytes.fromhex("00bfffff"), 0x08000000)
