"""What a front end costs on a target, apart from the network: its C on the simulator."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgeq.audio.frontend import FrontendSpec
from edgeq.cortexm import build
from edgeq.cortexm.frontend import FrontendSources
from edgeq.cortexm.simulate import Call, Machine
from edgeq.cortexm.targets import Target
from edgeq.errors import InputError

_PCM, _CODES = "edgeq_probe_pcm", "edgeq_probe_codes"


@dataclass(frozen=True)
class FrontendRun:
    """A recording on a simulated target.

    codes: int8 (n, mels, frames, components), gated: bool (n,), of each window. frame: what a hop of samples costs, its
    block taken in and its frame computed; window: what a window's codes cost; between two windows come `frames` frames.
    flash_bytes: code, tables, memcpy and memset, linked without a network. ram_bytes: variables, and the stack that was
    used.
    """

    codes: np.ndarray
    gated: np.ndarray
    frame: Call
    window: Call
    frames: int
    flash_bytes: int
    ram_bytes: int

    @property
    def cycles(self) -> int:
        """Cycles a window hop, where no memory waits."""
        return self.frames * self.frame.count.cycles + self.window.count.cycles


def simulate(sources: FrontendSources, spec: FrontendSpec, target: Target, pcm: np.ndarray) -> FrontendRun:
    """Give a recording to a front end's C, a hop at a time.

    sources: what `frontend.emit` made of the spec. pcm: int16 (samples,), enough for one window and a hop.
    Raises InputError where it is shorter, CheckFailed where the C does not fit the target.
    """
    assert pcm.dtype == np.int16 and pcm.ndim == 1
    hop = spec.hop_length
    if len(pcm) < spec.window_samples + hop:
        raise InputError(
            f"recording of {len(pcm)} samples: expected at least {spec.window_samples + hop}, a window and a hop"
        )
    components, mels, frames = spec.input_shape
    shape = mels, frames, components
    probe = f"#include <stdint.h>\nint16_t {_PCM}[{hop}];\nint8_t {_CODES}[{math.prod(shape)}];\n"
    push, ready, fetch, finish = (f"{sources.prefix}_frontend_{word}" for word in ("push", "ready", "window", "finish"))
    roots = (push, ready, fetch, finish, _PCM, _CODES)
    elf = build.link_files({**sources.files, "edgeq_probe.c": probe}, target, roots)
    machine = Machine(elf, target)
    windows: list[np.ndarray] = []
    gates: list[bool] = []
    calls: dict[str, Call] = {}

    def take_window() -> None:
        calls[fetch] = machine.call(fetch, machine.address(_CODES))
        windows.append(np.frombuffer(machine.read(machine.address(_CODES), math.prod(shape)), np.int8).reshape(shape))
        gates.append(bool(calls[fetch].value & 1))

    for start in range(0, len(pcm), hop):
        block = pcm[start : start + hop]
        machine.write(machine.address(_PCM), block.tobytes())
        taken = 0
        while taken < len(block):
            call = machine.call(push, machine.address(_PCM) + 2 * taken, len(block) - taken)
            if len(block) == call.value == hop:
                calls[push] = call
            taken += call.value
            if machine.call(ready).value & 1:
                take_window()
    while machine.call(finish).value & 1:
        take_window()
    stack = max(call.stack_bytes for call in calls.values())
    return FrontendRun(
        np.stack(windows),
        np.array(gates),
        calls[push],
        calls[fetch],
        spec.window_hop_frames,
        build.sizes(elf).flash,
        sources.ram_bytes + stack,
    )
