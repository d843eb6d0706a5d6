"""What a block of Thumb instructions costs on a Cortex-M4, told from the instructions alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

TAKEN_BRANCH = 2
"""Cycles that refilling the pipeline takes where code does not go on with the next instruction."""

_LOADS = {"ldr", "ldrb", "ldrh", "ldrsb", "ldrsh", "ldrt", "ldrbt", "ldrht", "ldrsbt", "ldrsht"}
_STORES = {"str", "strb", "strh", "strt", "strbt", "strht"}
_PAIRS = {"ldrd", "strd"}
_STACK = {"push", "pop", "vpush", "vpop"}
_LISTS = _STACK | {"ldm", "ldmdb", "ldmib", "stm", "stmdb", "vldmia", "vldmdb", "vstmia", "vstmdb"}
_FIXED = {
    **dict.fromkeys(_PAIRS, 3),
    **dict.fromkeys(("sdiv", "udiv"), 7),
    **dict.fromkeys(("vdiv", "vsqrt"), 14),
    **dict.fromkeys(("vfma", "vfms", "vfnma", "vfnms", "vmla", "vmls", "vnmla", "vnmls"), 3),
    **dict.fromkeys(("tbb", "tbh"), 2),
}


@dataclass(frozen=True)
class Cost:
    """Of one run of a block, the taken branch to it apart.

    cycles: with memory that never waits. rules: what the pipeline's rules add to that. mnemonics: how many of each.
    """

    instructions: int
    cycles: int
    rules: int
    mnemonics: Counter[str]


def cost(code: bytes, address: int) -> Cost:
    """Count and cycles of consecutive Thumb instructions.

    Cycles: a load 2, directly after another single load or store 1; a store 1; of a list of n words 1 + n; of a pair 3;
    a division 7 (silicon: 2 to 12), in floating point 14, multiply and add there 3; everything else 1, SIMD too, and
    instructions whose condition fails like those whose does not.
    Rules: 1 more for a load after a store, for one of the pipelined that writes its address back, and where an address
    comes from the data processing instruction directly before.
    Source: ARM DDI 0439, Cortex-M4 Technical Reference Manual, 3.3; the write-back rule is an assumption.
    Raises ValueError where the bytes are no instructions.
    """
    instructions = cycles = rules = 0
    mnemonics: Counter[str] = Counter()
    before, end = _NOTHING, address
    for decoded in _decoder().disasm(code, address):
        now = _Instruction.of(decoded)
        follows = now.load and (before.load or before.store)
        cycles += 1 if follows else now.cycles
        rules += follows and (before.store or now.writes_back)
        rules += before.computes and bool(now.addresses & before.writes)
        instructions += 1
        mnemonics[now.name] += 1
        before, end = now, decoded.address + decoded.size
    if end != address + len(code):
        raise ValueError(f"no Thumb instruction at {end:#x}: {code[end - address :][:4].hex()}")
    return Cost(instructions, cycles, rules, mnemonics)


@dataclass(frozen=True)
class _Instruction:
    """What the pipeline sees of an instruction: registers it writes, and those that make its address.

    load, store: it is a single one, which overlaps its neighbours. cycles: if it does not.
    """

    name: str
    cycles: int
    load: bool = False
    store: bool = False
    writes_back: bool = False
    writes: frozenset[int] = frozenset()
    addresses: frozenset[int] = frozenset()

    @property
    def computes(self) -> bool:
        """It is a data processing instruction, whose result comes too late for the next one's address."""
        return bool(self.name) and not (self.load or self.store or self.name in _LISTS or self.name in _PAIRS)

    @classmethod
    def of(cls, decoded: Any) -> _Instruction:
        from capstone import arm

        name = decoded.insn_name()
        _, writes = decoded.regs_access()
        memory = [operand.mem for operand in decoded.operands if operand.type == arm.ARM_OP_MEM]
        return cls(
            name,
            _cycles(decoded, name),
            name in _LOADS and arm.ARM_REG_PC not in writes,
            name in _STORES,
            decoded.writeback,
            frozenset(writes),
            frozenset(register for place in memory for register in (place.base, place.index) if register),
        )


_NOTHING = _Instruction("", 0)


def _cycles(decoded: Any, name: str) -> int:
    if name in _LISTS:
        registers = [operand.reg for operand in decoded.operands]
        if name not in _STACK:
            registers = registers[1:]  # the first one has the address
        return 1 + sum(_words(decoded, register) for register in registers)
    if name in ("vldr", "vstr"):
        return 1 + _words(decoded, decoded.operands[0].reg)
    return 2 if name in _LOADS else _FIXED.get(name, 1)


def _words(decoded: Any, register: int) -> int:
    return 2 if decoded.reg_name(register).startswith("d") else 1


@lru_cache(maxsize=1)
def _decoder() -> Any:
    import capstone

    decoder = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS | capstone.CS_MODE_V8)
    decoder.detail = True
    return decoder
