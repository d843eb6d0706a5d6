"""The best of what a network has been while it was fitted, by how it does on what it is not fitted to."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgeq.training import checkpoints, processes


@dataclass(frozen=True, eq=False)
class Measured:
    """How a network is measured while it is fitted, on what it is not fitted to.

    measure: of a network in evaluation mode, on the device it is fitted on, the more the better; called by all
    processes at once. fingerprint: equal where the same is measured. every: how many epochs (iterations, where the
    config counts these) lie between; the end is measured too. keep: of how many of the best networks the weights are
    kept beside the checkpoint, as `best_place` says.
    """

    measure: Callable[[nn.Module], float]
    fingerprint: str
    every: int = 1
    keep: int = 1


@dataclass(frozen=True)
class Best:
    """What was measured of the best network, and how many steps it had behind it."""

    score: float
    step: int


def best_place(checkpoint: Path, step: int) -> Path:
    """Where the weights of one of the best networks are kept."""
    return checkpoint.with_name(f"{checkpoint.name}.best-{step}")


class Competition:
    """Averages of a network's weights and statistics that compete while it is fitted.

    ranking: what was measured of the best, falling. winner: the tensors of the first of them, none before anything was
    measured.
    """

    def __init__(self, measured: Measured) -> None:
        self.measured = measured
        self.ranking: list[Best] = []
        self.winner: list[Tensor] = []

    def enter(
        self, network: nn.Module, average: Sequence[Tensor], step: int, checkpoint: Path | None, fingerprint: str
    ) -> None:
        """Measure an average of a network's `floats`, and keep it where it is one of the best.

        checkpoint, fingerprint: of the fit; the best are kept beside it.
        """
        together = processes.current()
        score = self.measured.measure(_with(network, average))
        # That of the first process counts: on another kind of processor the same sum may round otherwise.
        here = Best(float(together.from_main(lambda: score)), step)
        self.ranking = sorted([*self.ranking, here], key=lambda one: -one.score)  # of equals the earlier stays before
        if self.ranking[0] is here:
            self.winner = [one.clone() for one in average]
        gone, self.ranking = self.ranking[self.measured.keep :], self.ranking[: self.measured.keep]
        if checkpoint is None or not together.main:
            return
        if here in self.ranking:
            kept = {"fingerprint": fingerprint, "score": here.score, "average": list(average)}
            checkpoints.write(best_place(checkpoint, step), kept)
        for one in gone:
            best_place(checkpoint, one.step).unlink(missing_ok=True)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {"best": [[one.score, one.step] for one in self.ranking], "best_average": self.winner}

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on from what `state` gave."""
        self.ranking = [Best(score, step) for score, step in state["best"]]
        self.winner = [one.to(device) for one in state["best_average"]]


def floats(network: nn.Module) -> list[Tensor]:
    """Weights and statistics, as they stand in the network."""
    return [tensor for tensor in network.state_dict().values() if tensor.is_floating_point()]


def _with(network: nn.Module, values: Sequence[Tensor]) -> nn.Module:
    """A copy of a network in evaluation mode, with these weights and statistics."""
    copied = copy.deepcopy(network).eval()
    with torch.no_grad():
        for tensor, value in zip(floats(copied), values, strict=True):
            tensor.copy_(value)
    return copied
