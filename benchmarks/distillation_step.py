"""What a step of fine-tuning costs more with a teacher: Prune_KD over Prune_FT, medians of interleaved runs.

    python benchmarks/distillation_step.py            # prints a table, writes benchmarks/distillation_step.json

The student is esc10-qtiny with half the filters of its last two convolutions, fitted by its recipe. Each round fits it
for a few epochs without a teacher and with each of them, so that a busy machine disturbs all alike; the first epoch of
a fit is left out. Noise takes the place of recordings: what they hold does not change the time.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgeq import atomic, machine, zoo
from edgeq.bundle import Bundle
from edgeq.compress.distill import members
from edgeq.compress.importance import operator_norm
from edgeq.compress.prune import prune
from edgeq.runtime.torch import network
from edgeq.training import recipe as recipes
from edgeq.training.config import FitConfig
from edgeq.training.features import CorpusMaps
from edgeq.training.fit import fit
from edgeq.training.source import InMemory
from edgeq.training.teacher import Teacher

STUDENT, SITES = "esc10-qtiny", {"convs.3": 0.5, "convs.4": 0.5}
TEACHERS = {
    "none (Prune_FT)": (),
    "esc10-qtiny, unpruned": ("esc10-qtiny",),
    "esc10-tiny": ("esc10-tiny",),
    "mean of three esc10-tiny": ("esc10-tiny",) * 3,
}
EPOCHS, STEPS = 4, 10


def main() -> None:
    parser = argparse.ArgumentParser(description="time a step of fine-tuning with and without a teacher")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    result = _result(_measure(arguments.rounds), arguments)
    atomic.write_text(arguments.output, json.dumps(result, indent=1) + "\n")
    for name, row in result["teachers"].items():
        cpu, wall = row["cpu"], row["wall"]
        print(f"{name:26} {1000 * cpu['median_step_s']:5.1f} ms CPU, ratio {cpu['ratio']:.2f}", end=" ")
        print(f"({cpu['quartiles'][0]:.2f} to {cpu['quartiles'][1]:.2f}); on the clock {wall['ratio']:.2f}")


def _measure(rounds: int) -> dict[str, list[tuple[float, float]]]:
    """For each teacher and round, the seconds of a step: of the process's CPU, and on the clock."""
    opened = zoo.find(STUDENT)
    student, _, _ = prune(network(opened), opened.architecture, SITES, operator_norm)
    config = recipes.read(opened.folder / "recipe.toml").fit
    config = FitConfig(**{**vars(config), "epochs": EPOCHS})
    random = np.random.default_rng(0)
    clips = STEPS * config.batch_size
    noise = tuple(random.normal(-10, 10, (opened.frontend.n_mels, 250)).astype(np.float32) for _ in range(clips))
    maps = CorpusMaps((1.0, *config.speeds), (noise,) * (1 + len(config.speeds)))
    teachers = {name: _teacher([zoo.find(model) for model in models], opened) for name, models in TEACHERS.items()}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in TEACHERS}
    for _ in range(rounds):
        for name, teacher in teachers.items():
            seconds[name].append(_step(copy.deepcopy(student), maps, opened, config, teacher))
    return seconds


def _teacher(bundles: list[Bundle], student: Bundle) -> Teacher | None:
    if not bundles:
        return None
    return Teacher(tuple(members(bundles, student.labels, student.architecture.output, student.frontend)))


def _step(
    student: nn.Module, maps: CorpusMaps, opened: Bundle, config: FitConfig, teacher: Teacher | None
) -> tuple[float, float]:
    """Median seconds of a step, over the epochs after the first."""
    clips, classes = len(maps.logmels[0]), opened.architecture.classes
    targets = torch.eye(classes)[torch.arange(clips) % classes]
    ends: list[tuple[float, float]] = []

    def told(epoch: float, loss: float | None) -> None:
        if epoch == round(epoch):
            ends.append((time.process_time(), time.perf_counter()))

    source = InMemory(maps, targets, opened.frontend, config)
    fit(student, source, opened.frontend, config, 0, on_progress=told, teacher=teacher)
    cpu, wall = np.median(np.diff(ends, axis=0), axis=0) / STEPS
    return float(cpu), float(wall)


def _result(seconds: dict[str, list[tuple[float, float]]], arguments: argparse.Namespace) -> dict[str, Any]:
    alone = np.array(next(iter(seconds.values())))
    config = recipes.read(zoo.find(STUDENT).folder / "recipe.toml").fit
    return {
        "kind": "measured",
        "what": "seconds of one step (batch, augmentation, forward, backward, update), CPU time of the process and "
        "time on the clock; ratio to the step without teacher in the same round: median and quartiles over the rounds",
        "student": f"{STUDENT} with half the filters of {' and '.join(SITES)}",
        "rounds": arguments.rounds,
        "steps_a_round": (EPOCHS - 1) * STEPS,
        "batch_size": config.batch_size,
        "precision": config.usable_precision,
        "threads": arguments.threads,
        "teachers": {
            name: {
                clock: {
                    "median_step_s": float(np.median(values[:, column])),
                    "ratio": float(np.median(values[:, column] / alone[:, column])),
                    "quartiles": np.quantile(values[:, column] / alone[:, column], (0.25, 0.75)).tolist(),
                }
                for column, clock in enumerate(("cpu", "wall"))
            }
            for name, values in ((name, np.array(listed)) for name, listed in seconds.items())
        },
        "torch": torch.__version__,
        "machine": machine.describe(),
        "load_average": os.getloadavg()[0],
        "date": datetime.now(UTC).date().isoformat(),
    }


if __name__ == "__main__":
    main()
