"""The simulated Cortex-M: counts derived by hand, the caches before flash, layers, stack, and the reference's codes."""

from __future__ import annotations

import builtins
from dataclasses import replace
from typing import Any

import graphs
import numpy as np
import pytest

from edgeq.cortexm import build, simulate, targets
from edgeq.cortexm.emit import Sources, emit
from edgeq.cortexm.simulate import Count, Machine
from edgeq.cortexm.targets import Band
from edgeq.errors import CheckFailed, InputError
from edgeq.graph import ir, reference
from edgeq.graph.quantize import observe, quantize

PROGRAMS = {
    # function: its code, so that no compiler has a say in the counts
    "loop": "movs r1, #0; 1: adds r1, r1, r0; subs r0, r0, #1; bne 1b; mov r0, r1; bx lr",
    "limit": "cmp r0, #127; it gt; movgt r0, #127; bx lr",
    "pairs": "mov r3, #5; smlad r0, r0, r1, r3; bx lr",
    "half": "vmov s0, r0; vcvt.f32.s32 s0, s0; vmov.f32 s1, #2.0; vdiv.f32 s0, s0, s1; vcvt.s32.f32 s0, s0; "
    "vmov r0, s0; bx lr",
    "inner": "adds r0, r0, #1; bx lr",
    "outer": "push {r4, lr}; mov r4, r0; bl inner; adds r4, r4, r0; mov r0, r4; bl inner; adds r0, r0, r4; "
    "pop {r4, pc}",
    "first": "push {r4, lr}; bl inner; pop {r4, pc}",
    "second": "push {r4, lr}; bl inner; bl inner; pop {r4, pc}",
    "run": "push {r4, lr}; bl first; bl second; bl inner; pop {r4, pc}",
    "deep": "push {r4-r7, lr}; sub sp, #100; str r0, [sp]; add sp, #100; pop {r4-r7, pc}",
    "shallow": "bx lr",
    "gulp": "mov r1, sp; 1: sub.w r1, r1, #4; str r1, [r1]; subs r0, r0, #4; bne 1b; bx lr",
    "peek": "ldr r0, [r0]; bx lr",
    "forever": "push {r4, lr}; bl forever; pop {r4, pc}",
    "total": "movs r2, #0; 1: ldr r3, [r0]; add.w r0, r0, #4; adds r2, r2, r3; subs r1, r1, #1; bne 1b; mov r0, r2; "
    "bx lr",
    "guarded": "push {r4, lr}; cmp r1, #0; ittt eq; ldreq r2, [r0, #8]; ldreq r3, [r0, #12]; addeq r0, r2, r3; "
    "cmp r1, #1; bl inner; pop {r4, pc}",
    "straight": ".rept 64; add.w r0, r0, #1; .endr; bx lr",
    "again": "1: .rept 64; add.w r1, r1, #1; .endr; subs r0, r0, #1; bne.w 1b; bx lr",
    "long_again": "1: .rept 300; add.w r1, r1, #1; .endr; subs r0, r0, #1; bne.w 1b; bx lr",
}
WORDS = 128
L496, ZERO_WAIT = targets.find("stm32l496"), targets.find("nano33ble")


@pytest.fixture(scope="module")
def programs() -> dict[str, str]:
    parts = [
        f'__asm__(".section .text.{name}; .balign 32; .globl {name}; .type {name}, %function; .thumb_func; {name}: "\n'
        f'  "{lines}; .size {name}, . - {name}; .text");\n'
        for name, lines in PROGRAMS.items()
    ]
    numbers = ", ".join(map(str, range(WORDS)))
    tables = f"const int in_flash[{WORDS}]", f"int in_ram[{WORDS}]"
    parts += [f"{table} __attribute__((aligned(32))) = {{ {numbers} }};\n" for table in tables]
    return {"programs.c": "".join(parts)}


def machine(programs: dict[str, str], target: targets.Target, **options: Any) -> Machine:
    return Machine(build.link_files(programs, target, ("in_flash", "in_ram", *PROGRAMS)), target, **options)


@pytest.fixture(scope="module")
def zero_wait(programs: dict[str, str]) -> Machine:
    return machine(programs, ZERO_WAIT)


@pytest.fixture(scope="module")
def accelerated(programs: dict[str, str]) -> Machine:
    return machine(programs, L496)


def both(instructions: int, cycles: int) -> Count:
    return Count(instructions, cycles, cycles)


def test_a_loop(zero_wait: Machine) -> None:
    call = zero_wait.call("loop", 100)
    assert call.value == 5050
    assert call.count == both(1 + 3 * 100 + 2, 1 + 3 * 100 + 2 + 2 * 99)
    assert call.mnemonics == {"mov": 2, "add": 100, "sub": 100, "b": 100, "bx": 1}


def test_instructions_that_their_condition_skips_count(zero_wait: Machine) -> None:
    within, above = zero_wait.call("limit", 5), zero_wait.call("limit", 500)
    assert (within.value, above.value) == (5, 127)
    assert within.count == above.count == both(4, 4)


@pytest.mark.parametrize("name", targets.listed())
def test_dsp_instructions_and_floating_point_run_on_every_core(programs: dict[str, str], name: str) -> None:
    core = machine(programs, targets.find(name))
    call = core.call("pairs", 0x00020003, 0x00050007)
    assert call.value == 2 * 5 + 3 * 7 + 5 and call.count.instructions == call.count.cycles == 3
    call = core.call("half", 84)
    assert call.value == 42 and (call.count.instructions, call.count.cycles) == (7, 6 + 14)


def test_calls_and_their_returns_refill_the_pipeline(zero_wait: Machine) -> None:
    call = zero_wait.call("outer", 10)
    assert call.value == 4 * 10 + 3
    assert call.by_function == {
        "outer": both(8, 3 + 1 + 1 + 2 + 1 + 1 + 1 + 2 + 1 + 3),
        "inner": both(4, 2 * (1 + 1 + 2)),
    }
    assert call.count == both(12, 16 + 8)


def test_a_layer_is_charged_with_what_it_calls(programs: dict[str, str]) -> None:
    call = machine(programs, ZERO_WAIT, layers=["first", "second"], callers=["run"]).call("run", 0)
    own = call.by_function
    assert own["inner"].instructions == 4 * 2
    assert call.by_layer["first"].instructions == 3 + 2
    assert call.by_layer["second"].instructions == 4 + 2 * 2
    # What the caller has called itself is of no layer.
    assert call.count.instructions == sum(count.instructions for count in own.values()) == 5 + 5 + 8 + 2


def test_the_stack_is_measured_to_the_byte(zero_wait: Machine) -> None:
    assert zero_wait.call("deep", 1).stack_bytes == 5 * 4 + 100
    assert zero_wait.call("shallow").stack_bytes == 0
    assert zero_wait.call("run", 0).stack_bytes == 8 + 8


def test_every_run_counts_the_same(programs: dict[str, str], accelerated: Machine) -> None:
    address = accelerated.address("in_flash")
    first = accelerated.call("total", address, WORDS)
    assert first == accelerated.call("total", address, WORDS)
    assert first == machine(programs, L496).call("total", address, WORDS)


def test_code_is_fetched_once_by_eight_bytes(accelerated: Machine) -> None:
    parts = (64 * 4 + 2 + 7) // 8
    assert accelerated.call("straight", 0).count == Count(65, 65, 65 + parts * L496.wait_states)


def test_a_loop_that_fits_the_cache_waits_in_its_first_round_only(accelerated: Machine) -> None:
    parts = (64 * 4 + 2 + 4 + 2 + 7) // 8
    for rounds in (1, 7):
        count = accelerated.call("again", rounds).count
        assert count.accelerated - count.cycles == parts * L496.wait_states


def test_a_loop_larger_than_the_cache_waits_in_every_round(accelerated: Machine) -> None:
    parts = (300 * 4 + 2 + 4 + 7) // 8  # 38 lines, of which the cache holds 32
    for rounds in (1, 7):
        count = accelerated.call("long_again", rounds).count
        assert count.accelerated - count.cycles == rounds * parts * L496.wait_states


def waits(accelerated: Machine, words: int) -> int:
    """Of reading words from flash, without what the code itself waits and the rules add."""
    flash, ram = (accelerated.call("total", accelerated.address(name), words) for name in ("in_flash", "in_ram"))
    assert flash.value == ram.value == words * (words - 1) // 2
    assert flash.count.cycles == ram.count.cycles
    return flash.count.accelerated - ram.count.accelerated


@pytest.mark.parametrize("words", [1, 2, 3, 64, WORDS])
def test_constants_are_read_from_flash_by_eight_bytes(accelerated: Machine, words: int) -> None:
    assert waits(accelerated, words) == -(-words // 2) * L496.wait_states


@pytest.mark.parametrize("name", ["in_flash", "in_ram"])
def test_a_load_that_is_conditional_leaves_what_follows_alone(accelerated: Machine, name: str) -> None:
    """unicorn's hook on reads spoils the IT bits: what comes after the next jump was skipped."""
    call = accelerated.call("guarded", accelerated.address(name), 0)
    assert call.value == 2 + 3 + 1
    assert call.count.instructions == 9 + 2


def test_targets_without_the_accelerator_have_no_such_estimate(zero_wait: Machine) -> None:
    count = zero_wait.call("long_again", 7).count
    assert count.accelerated == count.cycles == 7 * 302 + 1 + 6 * 2


def test_memory_that_the_target_has_not_is_told(zero_wait: Machine) -> None:
    with pytest.raises(CheckFailed, match=r"peek: stops in peek on nano33ble: .*UC_ERR_READ_UNMAPPED"):
        zero_wait.call("peek", 0x40000000)
    with pytest.raises(CheckFailed, match=r"forever: stops in forever on nano33ble"):
        zero_wait.call("forever")


def int8(graph: ir.Graph) -> ir.Graph:
    return quantize(graph, observe(graph, [graphs.inputs(graph, 8)]))


@pytest.fixture(scope="module")
def model() -> tuple[ir.Graph, Sources, np.ndarray]:
    graph = int8(graphs.chain())
    sources = emit(graph, "net")
    codes = np.random.default_rng(3).integers(-128, 128, (3, *sources.input_shape[1:])).astype(np.int8)
    return graph, sources, codes


@pytest.mark.parametrize("name", targets.listed())
def test_a_model_gives_the_codes_of_the_reference(model: tuple[ir.Graph, Sources, np.ndarray], name: str) -> None:
    graph, sources, codes = model
    target = targets.find(name)
    elf = build.link(sources, target)
    run = simulate.simulate(elf, target, sources, codes)
    assert np.array_equal(run.outputs, reference.run(graph, codes))
    layers = [layer.function for layer in sources.layers if layer.function]
    assert list(run.by_layer) == layers
    of_layers = sum(count.instructions for count in run.by_layer.values())
    assert 0 < run.count.instructions - of_layers < 50, "the rest only calls the layers"
    sizes = build.sizes(elf)
    assert run.flash_bytes == sizes.flash
    assert run.ram_bytes == sizes.ram + run.stack_bytes and sizes.ram == sources.arena_bytes
    again = simulate.simulate(elf, target, sources, codes)
    assert replace(run, outputs=codes) == replace(again, outputs=codes)


def test_board_cycles_follow_the_targets_rule() -> None:
    call = simulate.Call(0, Count(50, 100, 120), {}, {"conv": Count(0, 60, 70), "dense": Count(0, 40, 50)}, {}, 0)
    assert simulate.board_cycles(L496, call, ["dense"]) == Band(120, pytest.approx(1.15 * 120))
    assert simulate.board_cycles(ZERO_WAIT, call) == Band(100, 140)
    u575 = simulate.board_cycles(targets.find("stm32u575"), call, ["dense", "not run"])
    assert u575 == Band(100, pytest.approx(1.1 * 60 + 1.25 * 40))
    h7a3 = simulate.board_cycles(targets.find("stm32h7a3"), call)
    assert h7a3 == Band(pytest.approx(100 * 0.89 / 1.6), pytest.approx(100 * 1.49 / 1.6))


def test_a_stack_that_meets_the_variables_is_told(zero_wait: Machine) -> None:
    free = zero_wait.address("stack_top") - zero_wait.address("bss_ends")
    assert zero_wait.call("gulp", free - 4).stack_bytes == free - 4
    with pytest.raises(CheckFailed, match=r"gulp: its stack takes all of nano33ble's RAM"):
        zero_wait.call("gulp", free)


def test_without_the_simulator_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, model: tuple[ir.Graph, Sources, np.ndarray]
) -> None:
    _, sources, _ = model
    elf = build.link(sources, L496)
    imported = builtins.__import__

    def refuse(name: str, *given: Any) -> Any:
        if name.startswith("unicorn"):
            raise ImportError(name)
        return imported(name, *given)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(InputError, match=r"run: pip install 'edgeq\[cortexm\]'"):
        Machine(elf, L496)
