"""What is said of one model on one target, with the contract's keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Energy:
    """Millijoules of one inference, from and to. kind: simulated or estimated. source: of the energy of a cycle."""

    low: float
    high: float
    kind: str
    source: str


@dataclass(frozen=True)
class Layer:
    """One operator: its output's name, what it costs, its MACs."""

    name: str
    op: str
    instructions: int
    cycles: int
    macs: int


@dataclass(frozen=True)
class FrontEnd:
    """From sound to a model's input, for one window after another. RAM with the stack, without the model's input."""

    instructions: int
    cycles: int
    latency_ms: Mapping[str, float]
    flash_bytes: int
    ram_bytes: int


@dataclass(frozen=True)
class Report:
    """One inference of a model on a target.

    kind: how latency was found: simulated or estimated. latency_ms: low and high. cycles: of the core, with memory that
    never waits. ram_bytes: the arena and the stack. frontend: what comes on top, where the model has a front end in C.
    machine: the target, and what the figures follow from.
    """

    target: str
    runtime: str
    kind: str
    latency_ms: Mapping[str, float]
    instructions: int
    cycles: int
    macs: int
    cycles_per_mac: float | None
    energy_mj: Energy
    flash_bytes: int
    ram_bytes: int
    layers: tuple[Layer, ...]
    machine: Mapping[str, Any]
    frontend: FrontEnd | None = None

    def to_json(self) -> dict[str, Any]:
        """The contract's keys."""
        return {**asdict(self), "layers": [asdict(layer) for layer in self.layers]}
