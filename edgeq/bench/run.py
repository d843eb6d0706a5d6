"""From models and the names of targets to what each model costs on each."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgeq import corpora, machine, verify
from edgeq import runtime as runtimes
from edgeq.audio.frontend import FrontendSpec
from edgeq.audio.windows import windows
from edgeq.bench import accuracy, carbon, compare, computer, frontend, local, microcontroller, remote, subject
from edgeq.bench.carbon import Intensity
from edgeq.bench.computer import Contender, Form, Settings, Start
from edgeq.bench.local import OnProgress
from edgeq.bench.result import ESTIMATED, Band, Figure, Result, Value
from edgeq.bench.subject import Subject
from edgeq.bundle import Bundle
from edgeq.corpora import Clip
from edgeq.cortexm import project, targets
from edgeq.cortexm.targets import Target
from edgeq.errors import CheckFailed, InputError
from edgeq.progress import progress
from edgeq.runtime import Runtime

_CPU, _GPU = "cpu", "gpu"
_CLIPS = 8
"""Recordings whose first windows are what models are timed on."""

_EXACT = "tflite-int8", "litert-reference"
"""What a microcontroller's C was compared with, code by code."""


@dataclass(frozen=True)
class Bench:
    """What models cost on each target where they run, and why not on the others.

    interrupted: what was finished before is there.
    """

    results: tuple[Result, ...]
    failures: tuple[str, ...]
    interrupted: bool = False

    def to_json(self) -> Any:
        """One result, or a list of them where several were asked for."""
        values = [result.to_json() for result in self.results]
        return values[0] if len(self.results) + len(self.failures) + self.interrupted == 1 else values


@dataclass(frozen=True)
class _Place:
    """A target: a simulated board, or a computer that a worker is started on, and the runtimes to run there."""

    name: str
    board: Target | None = None
    start: Start | None = None
    runtimes: tuple[str | None, ...] = (None,)


def bench(
    models: str | Path | Sequence[str | Path],
    target: str,
    settings: Settings = Settings(),  # noqa: B008, frozen
    *,
    other: str | Path | None = None,
    data: str | Path | None = None,
    country: str | None = None,
) -> Bench:
    """What one inference of models costs on targets.

    models: zoo names, bundle folders, .onnx or .tflite files. target: cpu, gpu, ssh://HOST, boards: with commas.
    other: a model that each of them is compared with, in turns. data: a folder of labelled recordings: models are timed
    on some of them, and all stages that run are scored on all. country: whose grid turns energy into CO2.
    Raises InputError where there is no such model, target or country, or a model does not fit its runtime; CheckFailed
    where nothing ran to its end for another reason.
    """
    places = [_place(name, settings) for name in dict.fromkeys(part.strip() for part in target.split(","))]
    grid = None if country is None else carbon.intensity(country)
    given = [models] if isinstance(models, str | Path) else list(models)
    everyone = _told_apart([subject.open(model) for model in ([*given, other] if other is not None else given)])
    subjects, rival = everyone[: len(given)], everyone[-1] if other is not None else None
    clips = None if data is None else _labelled(everyone, Path(data))
    results: list[Result] = []
    failures: list[Exception] = []
    interrupted = False
    with _inputs(everyone, clips) as inputs:
        for attempt in (one for place in places for one in _attempts(place, subjects, rival, settings, inputs)):
            try:
                results += attempt()
            except (CheckFailed, InputError) as failure:
                failures.append(failure)
            except KeyboardInterrupt:
                if not results:
                    raise
                interrupted = True
                break
    if not results:
        raise failures[0] if len(failures) == 1 else CheckFailed("; ".join(map(str, failures)))
    results = _once(results)
    if data is not None and not interrupted:
        try:
            results = _scored(results, everyone, Path(data))
        except InputError as failure:  # what was timed is not lost for a recording
            failures.append(failure)
        except KeyboardInterrupt:
            interrupted = True
    if grid is not None:
        results = [_emitting(result, grid) for result in results]
    return Bench(tuple(results), tuple(map(str, failures)), interrupted)


def verification(models: Sequence[str | Path]) -> dict[str, Any] | None:
    """What a report says of one model's stages: `edgeq verify` on its goldens; None of several, or of a file."""
    found = {one.path: one.bundle for one in map(subject.open, models)}
    (opened, *more) = found.values()
    return None if more or opened is None else verify.verify(opened).to_json()


def _told_apart(subjects: Sequence[Subject]) -> list[Subject]:
    """Models of one name in several places are called by their paths."""
    places: dict[str, set[Path]] = {}
    for one in subjects:
        places.setdefault(one.name, set()).add(one.path)
    return [replace(one, name=str(one.path)) if len(places[one.name]) > 1 else one for one in subjects]


def _place(name: str, settings: Settings) -> _Place:
    if name == _CPU:
        _check_runtimes(settings, "runs on a GPU, not on cpu", lambda runtime: runtime not in runtimes.GPU_RUNTIMES)
        return _Place(name, start=local.run, runtimes=settings.runtimes)
    if name == _GPU:
        if not machine.gpus():
            raise InputError(
                "target gpu: nvidia-smi finds no NVIDIA GPU here; leave gpu out, or name a machine that has one: "
                "--target ssh://HOST --runtime onnxruntime-cuda"
            )
        _check_runtimes(settings, "does not run on a GPU", lambda runtime: runtime in (None, *runtimes.GPU_RUNTIMES))
        wanted = settings.runtimes if settings.runtimes != (None,) else (runtimes.GPU_RUNTIMES[0],)
        return _Place(name, start=local.run, runtimes=wanted)
    if name.startswith(remote.SCHEME):
        remote.address(name)
        return _Place(name, start=partial(remote.run, name), runtimes=settings.runtimes)
    if name not in targets.listed():
        known = ", ".join((_CPU, _GPU, f"{remote.SCHEME}HOST", *targets.listed()))
        raise InputError(f"target {name!r}: expected one of {known}")
    return _Place(name, board=targets.find(name))


def _check_runtimes(settings: Settings, fault: str, fits: Callable[[str | None], bool]) -> None:
    for runtime in settings.runtimes:
        if runtime in runtimes.RUNTIMES and not fits(runtime):
            fitting = ", ".join(name for name in runtimes.RUNTIMES if fits(name))
            raise InputError(f"runtime {runtime}: {fault}; expected one of {fitting}")


def _attempts(
    place: _Place, subjects: Sequence[Subject], rival: Subject | None, settings: Settings, inputs: Mapping[Path, Path]
) -> Iterator[Callable[[], list[Result]]]:
    """What there is to run on a target, each to fail alone: a model, in each form, beside what it is compared with."""
    for one in subjects:
        pair = [one] if rival is None else [one, rival]
        if place.board is not None:
            yield partial(_on_board, pair, place.board)
        else:
            contenders = [Contender(each, inputs.get(each.path)) for each in pair]
            for stage, runtime in _forms(settings.stages, place.runtimes):
                for precision, batch in itertools.product(settings.precisions, settings.batches):
                    yield partial(_on_computer, contenders, Form(stage, runtime, precision, batch), place, settings)


def _forms(stages: Sequence[str | None], names: Sequence[str | None]) -> list[tuple[str | None, str | None]]:
    """Each stage in each runtime that runs it; one that fits none of the others stays, to be told as an error."""
    every = list(itertools.product(stages, names))
    fitting = [
        (stage, name) for stage, name in every if stage is None or stage in runtimes.RUNTIMES.get(name or "", (stage,))
    ]
    fit_stages, fit_names = {stage for stage, _ in fitting}, {name for _, name in fitting}
    return [form for form in every if form in fitting or form[0] not in fit_stages or form[1] not in fit_names]


def _on_computer(contenders: Sequence[Contender], form: Form, place: _Place, settings: Settings) -> list[Result]:
    assert place.start is not None
    names = " against ".join(one.subject.name for one in contenders)
    with _shown(f"{names} on {place.name} {form}".rstrip()) as on_progress:
        return computer.measure(contenders, form, place.name, place.start, settings, on_progress)


def _on_board(pair: Sequence[Subject], board: Target) -> list[Result]:
    found = [_simulated(one, board) for one in pair]
    if len(found) == 2:
        found[0] = replace(found[0], comparison=compare.simulated(*found))
    return found


def _simulated(one: Subject, board: Target) -> Result:
    graph, name = subject.int8_graph(one), one.path.stem if one.bundle is None else one.bundle.name
    result = replace(microcontroller.measure(graph, name, board), model=one.name)
    if one.bundle is None or one.frontend is None:
        return result
    whole = project.project(graph, name, one.bundle.labels, one.frontend, one.bundle.decision, board)
    project.sizes(whole, board)  # or the front end does not fit beside the network
    quantization = graph.tensors[graph.input].quantization
    assert quantization is not None  # or there was no C of the network
    try:
        front = frontend.measure(one.frontend, quantization, name, board)
    except InputError as error:
        return replace(result, warnings=(*result.warnings, f"without the front end, which has no C: {error}"))
    assert isinstance(front.latency_ms, Band) and isinstance(result.latency_ms, Band)  # both simulated
    slowest = front.latency_ms.high + result.latency_ms.high
    return replace(
        result,
        frontend=front,
        real_time_factor=1e3 * one.frontend.window_hop_seconds / slowest,
        figures={**result.figures, "real_time_factor": Figure(result.kind, result.latency_ms.source)},
    )


def _once(results: Sequence[Result]) -> list[Result]:
    """Without the second and further results of a model that several were compared with."""
    seen: set[tuple[str, ...]] = set()
    kept = []
    for result in results:
        key = (result.model, result.target, *_form(result), str(result.batch))
        if result.comparison is None and key in seen:
            continue
        seen.add(key)
        kept.append(result)
    return kept


def _scored(results: Sequence[Result], subjects: Sequence[Subject], data: Path) -> list[Result]:
    """With the accuracy of each stage in each runtime and precision, all of a model's on the same recordings."""
    found: dict[tuple[str, ...], Any] = {}
    names: dict[tuple[str, ...], str] = {}
    for one in subjects:
        assert one.bundle is not None  # see _labelled
        forms = sorted({_form(result) for result in results if result.model == one.name})
        ready = {" in ".join(form): _ready(one.bundle, *form) for form in forms}
        scores = accuracy.measure(one.bundle, ready, data)
        for form in forms:
            found[one.name, *form] = scores[" in ".join(form)]
            names[one.name, *form] = ready[" in ".join(form)].name
    scored = []
    for result in results:
        key = result.model, *_form(result)
        said = {**found[key].to_json(), "stage": key[1], "runtime": names[key]}
        scored.append(replace(result, accuracy=said, warnings=(*result.warnings, *found[key].warnings)))
    return scored


def _ready(opened: Bundle, stage: str, runtime: str, precision: str) -> Runtime:
    """A stage in the runtime that it was timed in, or where only another machine has that in the usual one."""
    of_float = None if precision == "int8" else precision
    try:
        return runtimes.open(opened, stage, runtime, precision=of_float)
    except InputError:
        return runtimes.open(opened, stage)


def _form(result: Result) -> tuple[str, str, str]:
    """Stage, runtime and precision, of a microcontroller those that its codes were held to."""
    stage, runtime = _EXACT if result.target in targets.listed() else (result.stage, result.runtime)
    return stage, runtime, str(result.precision)


def _labelled(subjects: Sequence[Subject], data: Path) -> Sequence[Clip]:
    """The recordings, which every model has to know how to name: told before the long work."""
    corpus = corpora.open(data)
    for one in subjects:
        if one.bundle is None:
            raise InputError(f"{one.path}: --data needs its bundle's folder, which has labels and the front end")
        accuracy.check_labels(one.bundle, corpus, data)
    return corpus.clips


@contextmanager
def _inputs(subjects: Sequence[Subject], clips: Sequence[Clip] | None) -> Iterator[dict[Path, Path]]:
    """Files of windows to time models on, by the model's path; none without recordings."""
    if clips is None:
        yield {}
        return
    chosen = [clips[index] for index in np.linspace(0, len(clips) - 1, min(_CLIPS, len(clips))).astype(int)]
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for number, one in enumerate(subjects):
            assert one.frontend is not None
            first = [window for clip in chosen if (window := _first_window(clip, one.frontend)) is not None]
            if first:
                found[one.path] = Path(folder) / f"{number}.npy"
                np.save(found[one.path], np.concatenate(first))
        yield found


def _first_window(clip: Clip, spec: FrontendSpec) -> np.ndarray | None:
    """None where the recording cannot be decoded: scoring says so. The first of its batches may be empty."""
    try:
        return next((batch.features[:1] for batch in windows(clip.path, spec) if len(batch.features)), None)
    except InputError:
        return None


def _emitting(result: Result, grid: Intensity) -> Result:
    """With its CO2, or without its energy the word that it needs that."""
    if result.energy_mj is not None:
        return replace(result, co2_g=_co2(result.energy_mj, grid))
    told = "no CO2, as nothing tells the energy here: name a sensor with --meter, or state the power with --watts"
    return replace(result, warnings=(*result.warnings, told))


def _co2(energy: Value | Band, grid: Intensity) -> Value | Band:
    source = f"{grid.grams_per_kwh:g} g a kWh, {grid.country} {grid.year} ({grid.source}); energy {energy.kind}"
    grams = partial(carbon.grams, grid=grid)
    if isinstance(energy, Value):
        return Value(grams(energy.value / 1e3), ESTIMATED, source)
    return Band(grams(energy.low / 1e3), grams(energy.high / 1e3), ESTIMATED, source)


@contextmanager
def _shown(what: str) -> Iterator[OnProgress]:
    """A bar for a worker's progress."""
    with progress(what, 100) as advance:
        shown = 0

        def tell(done: float, total: float) -> None:
            nonlocal shown
            now = round(100 * done / total)
            advance(now - shown)
            shown = now

        yield tell
