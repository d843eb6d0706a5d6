"""From models and the names of targets to what each model costs on each."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from edgeq import machine, verify
from edgeq import runtime as runtimes
from edgeq.bench import address, carbon, compare, computer, local, microcontroller, recordings, remote, subject
from edgeq.bench.computer import Contender, Form, Settings, Start
from edgeq.bench.local import OnProgress
from edgeq.bench.result import Result
from edgeq.bench.subject import Subject
from edgeq.cortexm import targets
from edgeq.cortexm.targets import Target
from edgeq.errors import CheckFailed, InputError
from edgeq.progress import progress

_CPU, _GPU = "cpu", "gpu"


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
    if not any(place.start for place in places):
        _check_simulated(target, settings)
    grid = None if country is None else carbon.intensity(country)
    given = [models] if isinstance(models, str | Path) else list(models)
    everyone = _told_apart([subject.open(model) for model in ([*given, other] if other is not None else given)])
    subjects, rival = everyone[: len(given)], everyone[-1] if other is not None else None
    clips = None if data is None else recordings.labelled(everyone, Path(data))
    results: list[Result] = []
    failures: list[Exception] = []
    interrupted = False
    with recordings.timed_on(everyone, clips) as inputs:
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
            results = recordings.scored(results, everyone, Path(data))
        except InputError as failure:  # what was timed is not lost for a recording
            failures.append(failure)
        except KeyboardInterrupt:
            interrupted = True
    if grid is not None:
        results = [carbon.emitting(result, grid) for result in results]
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
    if name.startswith(address.SCHEME):
        address.address(name)
        return _Place(name, start=partial(remote.run, name), runtimes=settings.runtimes)
    if name not in targets.listed():
        known = ", ".join((_CPU, _GPU, f"{address.SCHEME}HOST", *targets.listed()))
        raise InputError(f"target {name!r}: expected one of {known}")
    return _Place(name, board=targets.find(name))


def _check_simulated(target: str, settings: Settings) -> None:
    given = {
        "--batch": settings.batches != (1,),
        "--precision": settings.precisions != (None,),
        "--cuda-graphs": settings.cuda_graphs,
    }
    if unsuited := [option for option, is_given in given.items() if is_given]:
        raise InputError(
            f"target {target}: simulated with one window in INT8; leave out {', '.join(unsuited)}, or add target cpu"
        )


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
            for form, batch in itertools.product(_forms(settings, place.runtimes), settings.batches):
                yield partial(_on_computer, contenders, replace(form, batch=batch), place, settings)


def _forms(settings: Settings, names: Sequence[str | None]) -> list[Form]:
    """Each stage in each runtime that runs it, in each precision that has it: those of float stages, INT8 ones once.

    What fits none of the others, or has no float stage beside it, stays, to be told as an error.
    """
    every = [Form(*one) for one in itertools.product(settings.stages, names, settings.precisions)]
    if not all(map(_is_int8, every)):
        every = list(dict.fromkeys(replace(form, precision=None) if _is_int8(form) else form for form in every))
    fitting = [form for form in every if _fits(form)]
    parts = [{getattr(form, part) for form in fitting} for part in ("stage", "runtime", "precision")]
    return [
        form
        for form in every
        if form in fitting
        or any(own not in fit for own, fit in zip((form.stage, form.runtime, form.precision), parts, strict=True))
    ]


def _is_int8(form: Form) -> bool:
    stages = runtimes.RUNTIMES.get(form.runtime or "", ("",)) if form.stage is None else (form.stage,)
    return all(stage.endswith("int8") for stage in stages)


def _fits(form: Form) -> bool:
    """Whether a runtime, where one is named, has this stage and this precision."""
    if form.runtime not in runtimes.RUNTIMES:
        return True
    stages, precisions = runtimes.RUNTIMES[form.runtime], runtimes.PRECISIONS.get(form.runtime, ("float32",))
    return form.stage in (None, *stages) and form.precision in (None, *precisions)


def _on_computer(contenders: Sequence[Contender], form: Form, place: _Place, settings: Settings) -> list[Result]:
    assert place.start is not None
    names = " against ".join(one.subject.name for one in contenders)
    with _shown(f"{names} on {place.name} {form}".rstrip()) as on_progress:
        return computer.measure(contenders, form, place.name, place.start, settings, on_progress)


def _on_board(pair: Sequence[Subject], board: Target) -> list[Result]:
    found = [microcontroller.whole(one, board) for one in pair]
    if len(found) == 2:
        found[0] = replace(found[0], comparison=compare.simulated(*found))
    return found


def _once(results: Sequence[Result]) -> list[Result]:
    """Without the second and further results of a model that several were compared with."""
    seen: set[tuple[str, ...]] = set()
    kept = []
    for result in results:
        key = (result.model, result.target, *recordings.form(result), str(result.batch))
        if result.comparison is None and key in seen:
            continue
        seen.add(key)
        kept.append(result)
    return kept


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
