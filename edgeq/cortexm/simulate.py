"""Linked C on a simulated Cortex-M: outputs, exact instruction counts, modelled cycles, stack, each time the same."""

from __future__ import annotations

import bisect
import ctypes
import math
import platform
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.cortexm import build, cache, cycles
from edgeq.cortexm.emit import Sources
from edgeq.cortexm.targets import FLASH_ACCELERATOR, Band, Target
from edgeq.errors import CheckFailed, InputError

_LEAVE = 0x1FFF0000
"""A page of its own, where a called function returns to."""
_PAGE = 4096
_PAINT = 0xA5
_SLOTS = 1 << 16
_HOOKS = build.SUPPORT / "hooks.c"


@dataclass(frozen=True)
class Count:
    """What code cost.

    instructions: exact, those that their condition skips counted. cycles: of a Cortex-M4 that never waits for memory.
    accelerated: with the pipeline's rules and the STM32L4's caches before its flash; equal to cycles where the target
    has no such flash.
    """

    instructions: int = 0
    cycles: int = 0
    accelerated: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(
            self.instructions + other.instructions,
            self.cycles + other.cycles,
            self.accelerated + other.accelerated,
        )


@dataclass(frozen=True)
class Call:
    """A function's result in r0, what it cost in all, by function, by layer, and by mnemonic, and its stack in bytes.

    by_function: what each function's own code cost. by_layer: of the functions given as layers, all that ran from
    entering one until its caller went on, functions that it called included.
    """

    value: int
    count: Count
    by_function: Mapping[str, Count]
    by_layer: Mapping[str, Count]
    mnemonics: Mapping[str, int]
    stack_bytes: int


@dataclass(frozen=True)
class Run:
    """A model's inference on a target.

    outputs: int8 (n, ...), one an input; the rest is of the first input. board_cycles: what a board takes, as a band.
    flash_bytes: code, constants and first values. ram_bytes: variables (the arena) and the stack that was used.
    """

    outputs: np.ndarray
    count: Count
    board_cycles: Band
    by_function: Mapping[str, Count]
    by_layer: Mapping[str, Count]
    stack_bytes: int
    flash_bytes: int
    ram_bytes: int


def simulate(elf: Path, target: Target, sources: Sources, inputs: np.ndarray) -> Run:
    """Run a linked model.

    elf: what `build.link` made of the sources. inputs: int8 codes (n, ...), as the model's input. The first one runs
    twice, counted and uncounted. Raises CheckFailed where these differ in a code, or the model leaves its memory;
    InputError where the simulator is not installed.
    """
    assert inputs.dtype == np.int8 and len(inputs) and inputs.shape[1:] == tuple(sources.input_shape[1:])
    layers = [layer.function for layer in sources.layers if layer.function]
    counting = Machine(elf, target, layers, callers=(f"{sources.prefix}_run",))
    plain = Machine(elf, target, counting=False)
    call, counted = _infer(counting, sources, inputs[0])
    outputs = np.stack([_infer(plain, sources, codes)[1] for codes in inputs])
    if not np.array_equal(outputs[0], counted):
        raise CheckFailed(f"{sources.prefix}: the simulator gives other outputs while it counts")
    sizes = build.sizes(elf)
    return Run(
        outputs,
        call.count,
        board_cycles(target, call, [layer.function for layer in sources.layers if layer.kind == "FULLY_CONNECTED"]),
        call.by_function,
        call.by_layer,
        call.stack_bytes,
        sizes.flash,
        sizes.ram + call.stack_bytes,
    )


def _infer(machine: Machine, sources: Sources, codes: np.ndarray) -> tuple[Call, np.ndarray]:
    machine.write(machine.call(f"{sources.prefix}_input").value, codes.tobytes())
    call = machine.call(f"{sources.prefix}_run")
    shape = sources.output_shape[1:]
    return call, np.frombuffer(machine.read(call.value, math.prod(shape)), np.int8).reshape(shape)


def board_cycles(target: Target, call: Call, dense: Sequence[str] = ()) -> Band:
    """Cycles that target takes for a call, as its rule has it; dense: the layers that are fully connected."""

    def figure(count: Count) -> int:
        return count.accelerated if target.cycles.start == FLASH_ACCELERATOR else count.cycles

    of_dense = sum(figure(call.by_layer[name]) for name in dense if name in call.by_layer)
    return target.cycles.cycles(figure(call.count) - of_dense, of_dense)


class Machine:
    """A linked file in memory, whose functions can be called."""

    def __init__(
        self,
        elf: Path,
        target: Target,
        layers: Sequence[str] = (),
        callers: Sequence[str] = (),
        counting: bool = True,
    ) -> None:
        """layers: functions to count as layers; callers: those that call them, and belong to none.

        counting: without it, calls are faster and cost nothing. Raises InputError where the simulator is not installed.
        """
        unicorn = _unicorn()
        self._target, self._layers = target, list(layers)
        self._symbols = {symbol.name: symbol for symbol in build.symbols(elf)}
        self._engine = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        model = target.core.upper().replace("-", "_")
        self._engine.ctl_set_cpu_model(getattr(unicorn.arm_const, f"UC_CPU_ARM_{model}"))
        for origin, size in (
            (target.flash.origin, target.flash.bytes), (target.ram.origin, target.ram.bytes), (_LEAVE, _PAGE)
        ):  # fmt: skip
            self._engine.mem_map(origin, size)
        code = self._load(elf)
        self._functions = sorted(
            (symbol.address, symbol.name)
            for symbol in self._symbols.values()
            if symbol.function and code.start <= symbol.address < code.stop
        )
        self._tally = _Tally(code, self._owners(code, callers), target)
        if counting:
            self._tally.attach(self._engine)
        self._costs: dict[tuple[int, int], cycles.Cost] = {}

    def call(self, function: str, *arguments: int) -> Call:
        """Call a function with up to four words, and let it run to its end.

        Raises CheckFailed where it reaches for memory that the target has not, its stack's end included.
        """
        unicorn = _unicorn()
        registers, engine = unicorn.arm_const, self._engine
        assert len(arguments) <= 4, "arguments on the stack are not supported"
        for number, argument in enumerate(arguments):
            engine.reg_write(registers.UC_ARM_REG_R0 + number, argument & 0xFFFFFFFF)
        top, bottom = self._symbols["stack_top"].address, self._symbols["bss_ends"].address
        engine.mem_write(bottom, bytes([_PAINT]) * (top - bottom))
        engine.reg_write(registers.UC_ARM_REG_SP, top)
        engine.reg_write(registers.UC_ARM_REG_LR, _LEAVE | 1)
        self._tally.clear(self._symbols[function].address)
        try:
            engine.emu_start(self._symbols[function].address | 1, _LEAVE)
        except unicorn.UcError as error:
            place = self._function(engine.reg_read(registers.UC_ARM_REG_PC))
            raise CheckFailed(f"{function}: stops in {place} on {self._target.name}: {error}") from error
        painted = np.frombuffer(engine.mem_read(bottom, top - bottom), np.uint8) != _PAINT
        stack = len(painted) - int(painted.argmax()) if painted.any() else 0
        if stack == len(painted):
            raise CheckFailed(f"{function}: its stack takes all of {self._target.name}'s RAM and reaches the variables")
        return self._counted(engine.reg_read(registers.UC_ARM_REG_R0), stack)

    def read(self, address: int, size: int) -> bytes:
        """Bytes of memory."""
        return bytes(self._engine.mem_read(address, size))

    def write(self, address: int, data: bytes) -> None:
        """Set bytes of memory."""
        self._engine.mem_write(address, data)

    def address(self, name: str) -> int:
        """Where a function or variable lies."""
        return self._symbols[name].address

    def _load(self, elf: Path) -> range:
        """Flash as the file has it, variables as the start-up code leaves them. Returns the addresses of the code."""
        from elftools.elf.elffile import ELFFile

        with elf.open("rb") as handle:
            file = ELFFile(handle)
            for segment in file.iter_segments():
                if segment["p_type"] == "PT_LOAD" and segment["p_filesz"]:
                    self.write(segment["p_paddr"], segment.data())
                    self.write(segment["p_vaddr"], segment.data())
            text = file.get_section_by_name(".text")
            assert text is not None
            return range(text["sh_addr"], text["sh_addr"] + text["sh_size"])

    def _owners(self, code: range, callers: Sequence[str]) -> np.ndarray:
        """By halfword of the code: 0 says that the layer stays, else one more than the layer's number; 0 is none."""
        owners = np.zeros(len(code) // 2 + 1, np.uint16)
        for number, names in enumerate((callers, *([name] for name in self._layers))):
            for symbol in (self._symbols[name] for name in names if name in self._symbols):
                begin = (symbol.address - code.start) // 2
                owners[begin : begin + -(-symbol.bytes // 2)] = number + 1
        return owners

    def _function(self, address: int) -> str:
        place = bisect.bisect_right(self._functions, (address, "\uffff")) - 1
        return self._functions[place][1] if place >= 0 else hex(address)

    def _counted(self, value: int, stack: int) -> Call:
        total = Count()
        by_function: dict[str, Count] = {}
        by_layer: dict[str, Count] = {}
        mnemonics: Counter[str] = Counter()
        for block in self._tally.blocks():
            cost = self._cost(int(block["address"]), int(block["bytes"]))
            runs, jumps = int(block["runs"]), int(block["jumps"])
            zero_wait = runs * cost.cycles + jumps * cycles.TAKEN_BRANCH
            waits = runs * cost.rules + int(block["stalls"]) if self._tally.follows_flash else 0
            count = Count(runs * cost.instructions, zero_wait, zero_wait + waits)
            total += count
            name = self._function(int(block["address"]))
            by_function[name] = by_function.get(name, Count()) + count
            if block["layer"]:
                layer = self._layers[int(block["layer"]) - 1]
                by_layer[layer] = by_layer.get(layer, Count()) + count
            for mnemonic, times in cost.mnemonics.items():
                mnemonics[mnemonic] += runs * times
        ordered = {name: by_layer[name] for name in self._layers if name in by_layer}
        return Call(value, total, by_function, ordered, mnemonics, stack)

    def _cost(self, address: int, size: int) -> cycles.Cost:
        if (address, size) not in self._costs:
            self._costs[address, size] = cycles.cost(self.read(address, size), address)
        return self._costs[address, size]


class _Cache(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_uint32) for name in ("lines", "used", "line_bytes", "part_bytes")),
        ("tags", ctypes.c_uint32 * 32),
        ("parts", ctypes.c_uint32 * 32),
    )  # fmt: skip


class _State(ctypes.Structure):
    """`tally` of support/hooks.c."""

    _fields_ = (
        ("blocks", ctypes.c_void_p),
        ("layer_at", ctypes.c_void_p),
        *(
            (name, ctypes.c_uint32)
            for name in (
                "mask", "used", "full", "code_begin", "code_end", "layer", "last", "last_end", "wait_states", "fetched"
            )
        ),
        ("instructions", _Cache),
        ("data", _Cache),
        ("read_register", ctypes.c_void_p),
        ("write_register", ctypes.c_void_p),
        ("status", ctypes.c_int),
    )  # fmt: skip


_BLOCK = np.dtype(
    [
        *((name, np.uint32) for name in ("address", "bytes", "layer", "padding")),
        *((name, np.uint64) for name in ("runs", "jumps", "stalls")),
    ]
)
"""`block` of support/hooks.c."""


class _Tally:
    """What the hooks write, in the layout that they know."""

    # Caches of the STM32L4's flash accelerator: 32 lines of 32 bytes for instructions, 8 for data, filled by 8 bytes.
    _LINES, _DATA_LINES, _LINE_BYTES, _PART_BYTES = 32, 8, 32, 8

    def __init__(self, code: range, owners: np.ndarray, target: Target) -> None:
        self.follows_flash = target.cycles.start == FLASH_ACCELERATOR
        self._blocks = np.zeros(_SLOTS, _BLOCK)
        self._owners, self._flash = owners, target.flash
        # The hooks are compiled into the code that runs, with the address of this very state.
        self._state = _State(
            blocks=self._blocks.ctypes.data,
            layer_at=owners.ctypes.data,
            mask=_SLOTS - 1,
            code_begin=code.start,
            code_end=code.stop,
            wait_states=target.wait_states if self.follows_flash else 0,
            instructions=_Cache(lines=self._LINES, line_bytes=self._LINE_BYTES, part_bytes=self._PART_BYTES),
            data=_Cache(lines=self._DATA_LINES, line_bytes=self._LINE_BYTES, part_bytes=self._PART_BYTES),
            read_register=ctypes.cast(_unicorn_library().uc_reg_read, ctypes.c_void_p),
            write_register=ctypes.cast(_unicorn_library().uc_reg_write, ctypes.c_void_p),
            status=_unicorn().arm_const.UC_ARM_REG_CPSR,
        )
        self._hooks = _hooks()

    def clear(self, entry: int) -> None:
        """As before a call of the function at entry: nothing counted, the caches empty."""
        self._blocks.view(np.uint64)[:] = 0  # field by field takes 25 times as long
        state = self._state
        state.used = state.full = state.layer = state.last = state.instructions.used = state.data.used = 0
        state.last_end, state.fetched = entry, 0xFFFFFFFF

    def attach(self, engine: Any) -> None:
        """Let the engine call the hooks from now on."""
        unicorn = _unicorn()
        self._attach(engine, unicorn.UC_HOOK_BLOCK, self._hooks.edgeq_on_block, 1, 0)  # from 1 to 0: everywhere
        if self.follows_flash:
            begin, end = self._flash.origin, self._flash.origin + self._flash.bytes - 1
            self._attach(engine, unicorn.UC_HOOK_MEM_READ, self._hooks.edgeq_on_read, begin, end)

    def blocks(self) -> np.ndarray:
        """Those that ran."""
        assert not self._state.full, f"more than {_SLOTS} different blocks"
        return self._blocks[self._blocks["runs"] > 0]

    def _attach(self, engine: Any, kind: int, function: Any, begin: int, end: int) -> None:
        handle = ctypes.c_size_t()
        status = _unicorn_library().uc_hook_add(  # the one of Python takes functions of Python alone
            engine._uch,
            ctypes.byref(handle),
            kind,
            ctypes.cast(function, ctypes.c_void_p),
            ctypes.cast(ctypes.byref(self._state), ctypes.c_void_p),
            ctypes.c_uint64(begin),
            ctypes.c_uint64(end),
        )
        assert status == 0, f"unicorn takes no hook: {status}"


@lru_cache(maxsize=1)
def _hooks() -> ctypes.CDLL:
    """The hooks of support/hooks.c, compiled for this machine."""
    source = _HOOKS.read_text(encoding="utf-8")
    flags = ["-O2", "-mcpu=baseline", "-shared", "-fPIC", "-nostdlib", "-ffreestanding", "-Wall", "-Wextra", "-Werror"]

    def make(library: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="edgeq-") as folder:
            Path(folder, _HOOKS.name).write_text(source, encoding="utf-8")
            done = build.run_compiler([*flags, "-o", str(library.resolve()), _HOOKS.name], Path(folder))
        if done.returncode:
            raise InputError(f"the simulator's hooks do not compile here: {done.stderr.strip()[-200:]}")

    made_of = metadata.version("ziglang"), platform.machine(), platform.system(), flags, source
    return ctypes.CDLL(str(cache.keep("hooks.so", made_of, make)))


def _unicorn() -> Any:
    try:
        import capstone  # noqa: F401  cycles.py wants it later
        import unicorn
        import unicorn.arm_const
    except ImportError as error:
        raise InputError("no simulator of Cortex-M: run: pip install 'edgeq[cortexm]'") from error
    return unicorn


def _unicorn_library() -> Any:
    """unicorn's functions in C."""
    from unicorn.unicorn_py3.unicorn import uclib

    return uclib
