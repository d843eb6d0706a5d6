"""Models timed in the process that they run in: warm-up, turns, energy, and what another precision does to answers."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib import metadata
from typing import Any

import numpy as np

from edgeq import machine
from edgeq import runtime as runtimes
from edgeq.bench import energy, inputs
from edgeq.bench.energy import Meter
from edgeq.bench.opening import open_model, opening
from edgeq.bench.worker import PACKAGES, Job, Tell
from edgeq.errors import InputError

_TURN_NANOSECONDS = 5_000_000
"""A turn lasts about so long, or one call: what one model leaves in the caches troubles the other's first calls."""

_MOST_PER_TURN = 20
_LEAST_TURNS = 3
_SETTLED = 5
_MOST_WARM_UP = 100
_STABLE = 0.05
_IDLE_SECONDS = 3.0
_WARM_UP_SHARE = 0.3
_FRONTEND_SHARE = 0.1


def measure(job: Job, tell: Tell) -> dict[str, Any]:
    """The result of a job, see `bench.worker`.

    Raises InputError where a model cannot be opened or run, or a processor is not there.
    """
    if job["affinity"] is not None:
        _bind(job["affinity"])
    openings = [opening(asked, job) for asked in job["models"]]
    models = [Model(asked, job) for asked in job["models"]]
    gpu = any(model.on_gpu for model in models)
    meter = _meter(job["energy"], gpu)
    for model in models:
        model.warm_up(_WARM_UP_SHARE * job["seconds"])
    turns = [per_turn(model.usual) if len(models) > 1 else 1 for model in models]
    frontends = [model.frontend_nanoseconds(_FRONTEND_SHARE * job["seconds"]) for model in models]
    before = machine.conditions()
    take_turns(models, turns, job, tell)
    after = machine.conditions()
    return {
        "models": [
            {
                **model.describe(),
                **opened,
                "nanoseconds": model.nanoseconds,
                "per_turn": calls,
                "warm_up": model.warmed,
                "frontend_nanoseconds": frontend,
                "energy": model.energy(meter),
                "parity": model.parity(),
            }
            for model, opened, calls, frontend in zip(models, openings, turns, frontends, strict=True)
        ],
        "machine": {**machine.describe(), **({"gpus": machine.gpus()} if gpu else {})},
        "conditions": {"before": before, "after": after},
    }


class Model:
    """A model ready to be timed, its inputs, and the times of its calls.

    A call takes an array and gives one: what a runtime does in the background, or on a GPU, is done when it returns.
    """

    def __init__(self, asked: Mapping[str, Any], job: Job) -> None:
        self._asked, self._job = asked, job
        self._stage, self._ready = open_model(asked, job)
        self._spec = inputs.frontend(asked["path"], self._ready)
        self._windows = inputs.windows(asked["inputs"], self._ready, self._spec, job["seed"])
        self._batches = inputs.batches(self._windows, job)
        self._calls = 0
        self.nanoseconds: list[int] = []
        self.warmed = 0
        self.usual = 0.0
        self.on_gpu = self._ready.name in runtimes.GPU_RUNTIMES

    def call(self) -> int:
        """Nanoseconds of one call, on the next of the inputs."""
        features, predict = self._batches[self._calls % len(self._batches)], self._ready.predict
        self._calls += 1
        begin = time.perf_counter_ns()
        predict(features)
        return time.perf_counter_ns() - begin

    def warm_up(self, seconds: float) -> None:
        """Call until the times stay (the median of five calls is that of the five before) or so much time has gone."""
        end = time.monotonic() + seconds
        times = [self.call()]
        while len(times) < _MOST_WARM_UP and time.monotonic() < end:
            times.append(self.call())
            last, before = times[-_SETTLED:], times[-2 * _SETTLED : -_SETTLED]
            if len(times) % _SETTLED == 0 and before and abs(np.median(last) / np.median(before) - 1) < _STABLE:
                break
        self.warmed, self.usual = len(times), float(np.median(times[-_SETTLED:]))

    def describe(self) -> dict[str, Any]:
        ready = self._ready
        return {
            "runtime": ready.name,
            "stage": self._stage,
            "version": _version(ready.name),
            "input_shape": list(ready.input_shape),
            "classes": ready.classes,
            "int8": ready.int8,
            "window_hop_seconds": None if self._spec is None else self._spec.window_hop_seconds,
        }

    def frontend_nanoseconds(self, seconds: float) -> list[int] | None:
        return None if self._spec is None else list(inputs.frontend_nanoseconds(self._spec, seconds))

    def energy(self, meter: Meter | None) -> dict[str, Any] | None:
        """Joules of one window, above what the machine draws when idle, where there is a meter."""
        if meter is None:
            return _closed(self.on_gpu) if self._job["energy"] == "auto" else None

        def run() -> int:
            end, windows = time.monotonic() + self._job["seconds"], 0
            while time.monotonic() < end:
                self.call()
                windows += self._job["batch"]
            return windows

        return asdict(energy.per_inference(meter, run, _IDLE_SECONDS))

    def parity(self) -> dict[str, Any] | None:
        """How far its answers are from those of the same stage and runtime in float32, where it is in another."""
        if self._job["precision"] in (None, "float32"):
            return None
        _, exact = open_model(self._asked, {**self._job, "precision": None, "cuda_graphs": False})
        found, expected = self._ready.predict(self._windows), exact.predict(self._windows)
        return {
            "top1_agreement": float(np.mean(found.argmax(axis=1) == expected.argmax(axis=1))),
            "max_abs_error": float(np.abs(found - expected).max()),
            "windows": len(self._windows),
        }


def take_turns(models: Sequence[Model], turns: Sequence[int], job: Job, tell: Tell) -> None:
    """Time calls in turns, A B B A, until the time is up or the runs are done; turns: calls of a turn of each model."""
    order = list(zip(models, turns, strict=True))
    seconds, runs = job["seconds"], job["runs"]
    begin, told, rounds = time.monotonic(), 0.0, 0
    gc.collect()
    gc.disable()
    try:
        while True:
            spent = time.monotonic() - begin
            done, total = (rounds * min(turns), runs) if runs is not None else (spent, seconds)
            ended = done >= total and (runs is not None or rounds >= _LEAST_TURNS)
            if ended or spent - told > 1:
                tell({"progress": [min(done, total), total]})
                told = spent
            if ended:
                return
            for model, calls in order if rounds % 2 == 0 else reversed(order):
                model.nanoseconds += [model.call() for _ in range(calls)]
            rounds += 1
    finally:
        gc.enable()


def per_turn(usual: float) -> int:
    """Calls of a turn of a model whose calls usually take so many nanoseconds."""
    return max(1, min(_MOST_PER_TURN, round(_TURN_NANOSECONDS / usual)))


def _meter(name: str | None, gpu: bool) -> Meter | None:
    if name is None:
        return None
    return energy.meter(None if name == "auto" else name, "gpu" if gpu else "cpu")


def _closed(gpu: bool) -> dict[str, Any] | None:
    """Of a sensor that is there and not yet to be read: what opens it, in the place of a reading."""
    told = energy.closed("gpu" if gpu else "cpu")
    return None if told is None else {"joules": None, "seconds": 0.0, "source": told, "measured": True}


def _bind(processors: Sequence[int]) -> None:
    if not hasattr(os, "sched_setaffinity"):
        raise InputError(f"affinity {_listed(processors)}: this system cannot bind processes; leave it out")
    there = os.sched_getaffinity(0)
    if not processors or not set(processors) <= there:
        raise InputError(f"affinity {_listed(processors)}: expected some of the processors {_listed(sorted(there))}")
    os.sched_setaffinity(0, processors)


def _listed(processors: Sequence[int]) -> str:
    return ",".join(map(str, processors))


def _version(runtime: str) -> str | None:
    if runtime not in PACKAGES:
        return None
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(PACKAGES[runtime][0])
    return None
