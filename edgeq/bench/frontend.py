"""A front end's C on a simulated microcontroller."""

from __future__ import annotations

import math

import numpy as np

from edgeq.audio.frontend import FrontendSpec
from edgeq.bench.result import Band, FrontEnd
from edgeq.cortexm import build, frontend
from edgeq.cortexm.simulate import Call, Count, Machine, board_cycles
from edgeq.cortexm.targets import Target
from edgeq.graph.ir import Quantization

_BLOCK = 512
"""Samples a block, as a microphone's interrupt might hand them on."""

_LOUDNESS = 4000


def measure(spec: FrontendSpec, quantization: Quantization, name: str, target: Target) -> FrontEnd:
    """What a front end costs from one window to the next: taking the samples between, and giving the window's codes.

    quantization: of the model's input. The sound is noise, the same every time.
    Raises InputError where the front end has no C, or the extra is not installed; CheckFailed where it does not fit.
    """
    sources = frontend.emit(spec, quantization, name)
    codes = math.prod(spec.input_shape)
    buffers = f"#include <stdint.h>\nint8_t bench_codes[{codes}];\nint16_t bench_samples[{_BLOCK}];\n"
    begin = f"{sources.prefix}_frontend"
    functions = tuple(f"{begin}_{word}" for word in ("start", "push", "ready", "window"))
    elf = build.link_files(
        {**sources.files, "bench_buffers.c": buffers}, target, ("bench_codes", "bench_samples", *functions)
    )
    machine = Machine(elf, target)
    noise = np.random.default_rng(0).normal(0, _LOUDNESS, _BLOCK).astype("<i2")
    machine.write(machine.address("bench_samples"), noise.tobytes())
    machine.call(f"{begin}_start")
    _window(machine, begin)  # the first one, for which there is more to take
    count, stack = _window(machine, begin)
    cycles = board_cycles(target, Call(0, count, {}, {}, {}, stack))
    latency, sizes = target.latency_ms(cycles), build.sizes(elf)
    return FrontEnd(
        latency_ms=Band(latency.low, latency.high, target.cycles.kind, target.sources["cycles"]),
        instructions=count.instructions,
        cycles=round(count.cycles / target.cycles.per_m4),
        flash_bytes=sizes.flash,
        ram_bytes=sizes.ram - codes - 2 * _BLOCK + stack,
    )


def _window(machine: Machine, begin: str) -> tuple[Count, int]:
    """Push samples until a window is complete, and have it written: what it costs, and its stack."""
    calls: list[Call] = []
    while not calls or not machine.call(f"{begin}_ready").value:
        calls.append(machine.call(f"{begin}_push", machine.address("bench_samples"), _BLOCK))
    calls.append(machine.call(f"{begin}_window", machine.address("bench_codes")))
    return sum((call.count for call in calls), Count()), max(call.stack_bytes for call in calls)
