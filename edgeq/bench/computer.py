"""What a worker measured of models on a computer, as results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeq import machine
from edgeq import runtime as runtimes
from edgeq.bench import compare, energy, latency, subject
from edgeq.bench.energy import Reading
from edgeq.bench.local import OnProgress
from edgeq.bench.result import ESTIMATED, MEASURED, Figure, FrontEnd, Parity, Result, Value
from edgeq.bench.subject import Subject
from edgeq.bench.worker import Job

_TO_A_GPU = "a call from the computer's memory to the GPU and back, both copies in it"

Start = Callable[[Job, OnProgress], dict[str, Any]]
"""Starts a worker on the computer: `local.run`, or another machine's."""


@dataclass(frozen=True)
class Settings:
    """How models are run and timed on a computer.

    stages, runtimes, precisions, batches: each of one with each of the others; None: what suits the model, and float32.
    batches: windows a call. cuda_graphs: record calls on a GPU, and time their replays. seconds: of timed calls; runs:
    so many instead. affinity: processors to run on. seed: of synthetic inputs. meter: as `energy.meter` takes it,
    "auto" for the best there is, None for none. watts: what the computer is said to draw while it runs, where there is
    no meter.
    """

    stages: tuple[str | None, ...] = (None,)
    runtimes: tuple[str | None, ...] = (None,)
    precisions: tuple[str | None, ...] = (None,)
    batches: tuple[int, ...] = (1,)
    cuda_graphs: bool = False
    threads: int = 1
    seconds: float = 10.0
    runs: int | None = None
    affinity: tuple[int, ...] | None = None
    seed: int = 0
    meter: str | None = "auto"
    watts: float | None = None


@dataclass(frozen=True)
class Form:
    """One of what `Settings` lists several of."""

    stage: str | None = None
    runtime: str | None = None
    precision: str | None = None
    batch: int = 1

    def __str__(self) -> str:
        words = (self.runtime, self.stage, self.precision, f"batch {self.batch}" if self.batch > 1 else None)
        return " ".join(filter(None, words))


@dataclass(frozen=True)
class Contender:
    """A model to be timed. inputs: a .npy file of windows to run it on, or None for synthetic ones."""

    subject: Subject
    inputs: Path | None = None


def measure(
    contenders: Sequence[Contender],
    form: Form,
    target: str,
    start: Start,
    settings: Settings,
    on_progress: OnProgress,
) -> list[Result]:
    """Time one model in a form, or two in turns, of which the first's result then says how they compare.

    Raises InputError and CheckFailed as the worker does.
    """
    found = start(_job(contenders, form, settings), on_progress)
    results = [
        _result(contender.subject, said, found, target, form, settings)
        for contender, said in zip(contenders, found["models"], strict=True)
    ]
    if len(results) == 2:
        first, second = found["models"]
        per_turn = first["per_turn"], second["per_turn"]
        other = contenders[1].subject.name
        comparison = compare.measured(first["nanoseconds"], second["nanoseconds"], per_turn, other)
        results[0] = replace(results[0], comparison=comparison)
    return results


def _job(contenders: Sequence[Contender], form: Form, settings: Settings) -> dict[str, Any]:
    return {
        "models": [
            {
                "path": str(one.subject.path),
                "stage": form.stage,
                "runtime": form.runtime,
                "inputs": None if one.inputs is None else str(one.inputs),
            }
            for one in contenders
        ],
        "precision": form.precision,
        "cuda_graphs": settings.cuda_graphs,
        "threads": settings.threads,
        "batch": form.batch,
        "seconds": settings.seconds,
        "runs": settings.runs,
        "affinity": None if settings.affinity is None else list(settings.affinity),
        "seed": settings.seed,
        "energy": settings.meter,
    }


def _result(
    one: Subject, said: Mapping[str, Any], found: Mapping[str, Any], target: str, form: Form, settings: Settings
) -> Result:
    counts = subject.count(one, said["stage"])
    times = latency.percentiles(said["nanoseconds"])
    frontend = said["frontend_nanoseconds"]
    front, factor, figures = None, None, {**counts.figures, "windows_per_second": Figure(MEASURED)}
    if frontend is not None:
        heard = latency.percentiles(frontend)
        front = FrontEnd(heard)
        factor = 1e3 * said["window_hop_seconds"] / (heard.p50 + times.p50 / form.batch)
        figures["real_time_factor"] = Figure(MEASURED)
    taken, untold = _energy(said["energy"], times.p50 / form.batch, settings.watts)
    around = found["conditions"]
    return Result(
        model=one.name,
        target=target,
        runtime=said["runtime"],
        stage=said["stage"],
        kind=MEASURED,
        latency_ms=times,
        macs=counts.macs,
        threads=settings.threads,
        batch=form.batch,
        precision="int8" if said["stage"].endswith("int8") else form.precision or "float32",
        cuda_graphs=settings.cuda_graphs or None,
        timed=_TO_A_GPU if said["runtime"] in runtimes.GPU_RUNTIMES else None,
        parity=None if said["parity"] is None else Parity(**said["parity"]),
        windows_per_second=1e3 * form.batch / times.p50,
        real_time_factor=factor,
        load_ms=Value(said["load_ms"]),
        memory_bytes=None if said["memory_bytes"] is None else Value(said["memory_bytes"]),
        energy_mj=taken,
        file_bytes=counts.file_bytes,
        layers=counts.layers,
        frontend=front,
        machine={
            **found["machine"],
            "runtime_version": said["version"],
            "load_average": around["before"]["load_average"],
        },
        warnings=(
            *latency.warnings(said["nanoseconds"]),
            *_pieces(said, form.batch),
            *machine.disturbances(around["before"], around["after"], found["machine"]["cores"]),
            *untold,
        ),
        figures=figures,
    )


def _pieces(said: Mapping[str, Any], batch: int) -> list[str]:
    at_once = runtimes.at_once(said["runtime"], said["input_shape"], batch)
    if at_once == batch:
        return []
    return [f"{said['runtime']} works on {at_once} of a batch's {batch} windows at a time: one of its own would differ"]


def _energy(read: Mapping[str, Any] | None, ms: float, watts: float | None) -> tuple[Value | None, list[str]]:
    """Millijoules of one window, and why a meter that is there could not tell them.

    ms: that the network takes for one window.
    """
    untold = []
    if read is not None:
        reading = Reading(**read)
        if reading.joules is not None:
            return Value(1e3 * reading.joules, MEASURED if reading.measured else ESTIMATED, reading.source), []
        untold.append(f"energy: {reading.source}")
    if watts is None:
        return None, untold
    reading = energy.stated(watts, ms / 1e3, "by --watts")
    assert reading.joules is not None  # a stated power always tells
    return Value(1e3 * reading.joules, ESTIMATED, reading.source), untold
