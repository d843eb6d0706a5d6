"""QEMU, another simulator, gives the same codes and counts the same instructions, function by function."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import graphs
import numpy as np
import pytest

from edgeq.cortexm.emit import emit
from edgeq.graph import ir, reference
from edgeq.graph.quantize import observe, quantize

TOOL = Path(__file__).resolve().parent.parent / "tools" / "qemu.py"


@pytest.fixture(scope="module")
def qemu() -> ModuleType:
    place = importlib.util.spec_from_file_location("qemu", TOOL)
    assert place is not None and place.loader is not None
    module = importlib.util.module_from_spec(place)
    sys.modules[place.name] = module  # where its dataclasses look for what they name
    place.loader.exec_module(module)
    return module


@pytest.mark.parametrize("make", [graphs.inverted_residual, graphs.quaternion], ids=lambda make: make.__name__)
@pytest.mark.parametrize("compiler", ["zig", "gcc"])
def test_the_same_file_runs_and_counts_the_same(qemu: ModuleType, make: Callable[[], ir.Graph], compiler: str) -> None:
    if absent := qemu.missing(*(["arm-none-eabi-gcc"] if compiler == "gcc" else [])):
        pytest.skip(f"not installed: {', '.join(absent)}")
    floats = make()
    graph = quantize(floats, observe(floats, [graphs.inputs(floats, 8)]))
    sources = emit(graph, "net")
    codes = np.random.default_rng(2).integers(-128, 128, (1, *sources.input_shape[1:])).astype(np.int8)
    elf = qemu.link(sources, codes, compiler)
    here, there = qemu.in_simulator(elf, sources, codes), qemu.in_qemu(elf)
    assert here.outputs == there.outputs == reference.run(graph, codes).tobytes()
    assert here.instructions == {name: there.instructions[name] for name in here.instructions}
    assert sum(here.instructions.values()) > 1000
