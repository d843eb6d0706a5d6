"""What is said of one model on one target, with the contract's keys: every figure with how it was come by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

MEASURED, SIMULATED, ESTIMATED, COUNTED = "measured", "simulated", "estimated", "counted"
"""How a figure was come by. Counted: exact, from a file or a graph."""


@dataclass(frozen=True)
class Figure:
    """How a figure was come by; source: from what, unless it was measured here."""

    kind: str
    source: str | None = None


@dataclass(frozen=True)
class Value:
    """One number. kind: see `MEASURED`; source: from what it follows, unless it was measured."""

    value: float
    kind: str = MEASURED
    source: str | None = None


@dataclass(frozen=True)
class Band:
    """A number that lies between low and high."""

    low: float
    high: float
    kind: str
    source: str | None = None


@dataclass(frozen=True)
class Percentiles:
    """Measured milliseconds of so many runs."""

    p50: float
    p95: float
    p99: float
    mean: float
    runs: int
    kind: str = MEASURED


@dataclass(frozen=True)
class Layer:
    """One operator: its output's name and its MACs; where it ran simulated, its instructions and cycles."""

    name: str
    op: str
    macs: int
    instructions: int | None = None
    cycles: int | None = None


@dataclass(frozen=True)
class FrontEnd:
    """From sound to a model's input, from one window to the next. RAM with the stack, without the model's input."""

    latency_ms: Percentiles | Band
    instructions: int | None = None
    cycles: int | None = None
    flash_bytes: int | None = None
    ram_bytes: int | None = None


@dataclass(frozen=True)
class Comparison:
    """How many times as long a model takes as another one on the same target: the median, and its 95 % interval.

    method: how the interval was made; pairs: of turns, one of each model close together in time. One pair where both
    ran simulated, which gives the same every time.
    """

    other: str
    ratio: float
    low: float
    high: float
    pairs: int
    method: str
    kind: str
    source: str | None = None


@dataclass(frozen=True)
class Parity:
    """How far answers in one precision are from the same stage's and runtime's in float32, on the same windows.

    top1_agreement: fraction of windows whose largest probability is the same class's. max_abs_error: of probabilities.
    """

    top1_agreement: float
    max_abs_error: float
    windows: int
    kind: str = MEASURED


@dataclass(frozen=True)
class Result:
    """One model on one target; None where a figure does not apply, and then it is not in the JSON.

    kind: how latency was found. latency_ms: of one call with a batch of windows (1 unless said otherwise), without
    the front end. timed: what of a call is in that where it is not plain: on a GPU the windows start in the computer's
    memory and the probabilities end there. precision: what weights and activations are computed in. parity: how far
    that is from float32, where it is another one of float. cuda_graphs: whether calls were replays of recorded ones.
    windows_per_second: the batch over the median call. real_time_factor: seconds from one window to the
    next over the seconds that front end and network take for one (the median, or the worse end of a band); above 1 it
    keeps up with a microphone. load_ms: from the file to ready to run, in a process that has the runtime's package
    loaded. memory_bytes: peak resident memory of that process up to the end of its first call, less what it had
    before the model was opened; a GPU's own is not among it. energy_mj, co2_g: of one window. cycles: of the core,
    with memory that never waits. ram_bytes: the arena and the stack. file_bytes: the model's file. accuracy: see
    `bench.accuracy`. machine: where it ran. warnings: what may have disturbed it. figures: how each of the numbers
    that stand alone was come by.
    """

    model: str
    target: str
    runtime: str
    stage: str
    kind: str
    latency_ms: Percentiles | Band
    macs: int | None = None
    threads: int | None = None
    batch: int = 1
    precision: str | None = None
    cuda_graphs: bool | None = None
    timed: str | None = None
    parity: Parity | None = None
    windows_per_second: float | None = None
    real_time_factor: float | None = None
    load_ms: Value | None = None
    memory_bytes: Value | None = None
    instructions: int | None = None
    cycles: int | None = None
    cycles_per_mac: float | None = None
    energy_mj: Value | Band | None = None
    co2_g: Value | Band | None = None
    flash_bytes: int | None = None
    ram_bytes: int | None = None
    file_bytes: int | None = None
    accuracy: Mapping[str, Any] | None = None
    layers: tuple[Layer, ...] | None = None
    frontend: FrontEnd | None = None
    comparison: Comparison | None = None
    machine: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    figures: Mapping[str, Figure] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The contract's keys, see schema.json."""
        plain: dict[str, Any] = _json(self)
        return plain


def _json(value: Any) -> Any:
    """Plain data: dataclasses become mappings without what is None; mappings keep all that they hold."""
    if is_dataclass(value):
        named = {one.name: getattr(value, one.name) for one in fields(value)}
        return {name: _json(inner) for name, inner in named.items() if inner is not None}
    if isinstance(value, Mapping):
        return {name: _json(inner) for name, inner in value.items()}
    return [_json(inner) for inner in value] if isinstance(value, list | tuple) else value
