"""QEMU, another simulator, gives the same codes and counts the same instructions, function by function."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import graphs
import numpy as np
import pytest
from scripts import script

from edgeq import zoo
from edgeq.cortexm import frontend
from edgeq.cortexm.emit import emit
from edgeq.graph import ir, reference
from edgeq.graph.ir import Quantization
from edgeq.graph.quantize import observe, quantize


@pytest.fixture(scope="module")
def qemu() -> ModuleType:
    return script("tools/qemu.py")


CORES = ("cortex-m4", "cortex-m7", "cortex-m33")


def seen_alike(qemu: ModuleType, job: Any, core: str, compiler: str) -> Any:
    elf = qemu.link(job, core, compiler)
    here, there = qemu.in_simulator(elf, core, job), qemu.in_qemu(elf, core)
    assert here.outputs == there.outputs
    assert here.instructions == {name: there.instructions[name] for name in here.instructions}
    assert sum(here.instructions.values()) > 1000
    return here


def skip_without(qemu: ModuleType, compiler: str) -> None:
    if absent := qemu.missing(*(["arm-none-eabi-gcc"] if compiler == "gcc" else [])):
        pytest.skip(f"not installed: {', '.join(absent)}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("core", "make", "compiler"),
    [
        ("cortex-m4", graphs.inverted_residual, "zig"),
        ("cortex-m4", graphs.inverted_residual, "gcc"),
        ("cortex-m7", graphs.quaternion, "gcc"),
        ("cortex-m33", graphs.quaternion, "gcc"),
    ],
)
def test_a_network_runs_and_counts_the_same(
    qemu: ModuleType, core: str, make: Callable[[], ir.Graph], compiler: str
) -> None:
    skip_without(qemu, compiler)
    floats = make()
    graph = quantize(floats, observe(floats, [graphs.inputs(floats, 8)]))
    sources = emit(graph, "net")
    codes = np.random.default_rng(2).integers(-128, 128, (1, *sources.input_shape[1:])).astype(np.int8)
    seen = seen_alike(qemu, qemu.network(sources, codes), core, compiler)
    assert seen.outputs == reference.run(graph, codes).tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("core", CORES)
def test_a_front_end_by_gcc_runs_and_counts_the_same(qemu: ModuleType, core: str) -> None:
    skip_without(qemu, "gcc")
    spec = zoo.find("esc10-qnano").frontend
    quantization = Quantization(np.float32([0.05]), np.int32([-7]), 0)
    seen = seen_alike(qemu, qemu.sound(frontend.emit(spec, quantization, "net"), spec), core, "gcc")
    assert len(seen.outputs) == np.prod(spec.input_shape) and len(set(seen.outputs)) > 20


@pytest.mark.slow
@pytest.mark.parametrize("core", CORES)
def test_a_model_runs_and_counts_the_same_from_sound_to_answer(qemu: ModuleType, core: str) -> None:
    skip_without(qemu, "zig")
    seen = seen_alike(qemu, qemu.of_model("esc10-qnano"), core, "zig")
    assert len(seen.outputs) == 10
    assert {"edgeq_fft_4", "edgeq_frontend_mels", "esc10_qnano_frontend_window"} <= set(seen.instructions)
