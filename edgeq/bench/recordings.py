"""What labelled recordings add to a benchmark: windows to time models on, and how well each form of them does."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeq import corpora
from edgeq import runtime as runtimes
from edgeq.audio.frontend import FrontendSpec
from edgeq.audio.windows import windows
from edgeq.bench import accuracy
from edgeq.bench.result import Result
from edgeq.bench.subject import Subject
from edgeq.bundle import Bundle
from edgeq.corpora import Clip
from edgeq.cortexm import targets
from edgeq.errors import InputError
from edgeq.runtime import Runtime

_CLIPS = 8
"""Recordings whose first windows are what models are timed on."""

_EXACT = "tflite-int8", "litert-reference"
"""What a microcontroller's C was compared with, code by code."""


def labelled(subjects: Sequence[Subject], data: Path) -> Sequence[Clip]:
    """The recordings of a folder, all of which every model knows how to name: told before the long work.

    Raises InputError where one does not, or the folder holds none.
    """
    corpus = corpora.open(data)
    for one in subjects:
        if one.bundle is None:
            raise InputError(f"{one.path}: --data needs its bundle's folder, which has labels and the front end")
        accuracy.check_labels(one.bundle, corpus, data)
    return corpus.clips


@contextmanager
def timed_on(subjects: Sequence[Subject], clips: Sequence[Clip] | None) -> Iterator[dict[Path, Path]]:
    """Files of windows to time models on, by the model's path; none without recordings."""
    if clips is None:
        yield {}
        return
    chosen = [clips[index] for index in np.linspace(0, len(clips) - 1, min(_CLIPS, len(clips))).astype(int)]
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for number, one in enumerate(subjects):
            assert one.frontend is not None  # see labelled
            first = [window for clip in chosen if (window := first_window(clip, one.frontend)) is not None]
            if first:
                found[one.path] = Path(folder) / f"{number}.npy"
                np.save(found[one.path], np.concatenate(first))
        yield found


def scored(results: Sequence[Result], subjects: Sequence[Subject], data: Path) -> list[Result]:
    """With the accuracy of each stage in each runtime and precision, all of a model's on the same recordings."""
    found: dict[tuple[str, ...], Any] = {}
    names: dict[tuple[str, ...], str] = {}
    warnings: dict[tuple[str, ...], list[str]] = {}
    for one in subjects:
        assert one.bundle is not None  # see labelled
        forms = sorted({form(result) for result in results if result.model == one.name})
        ready = {" in ".join(how): _ready(one.bundle, *how) for how in forms}
        scores = accuracy.measure(one.bundle, {name: runtime for name, (runtime, _) in ready.items()}, data)
        for how in forms:
            found[one.name, *how] = scores[" in ".join(how)]
            names[one.name, *how] = ready[" in ".join(how)][0].name
            warnings[one.name, *how] = ready[" in ".join(how)][1]
    scored = []
    for result in results:
        key = result.model, *form(result)
        said = {**found[key].to_json(), "stage": key[1], "runtime": names[key]}
        told = *result.warnings, *warnings[key], *found[key].warnings
        scored.append(replace(result, accuracy=said, warnings=told))
    return scored


def form(result: Result) -> tuple[str, str, str]:
    """Stage, runtime and precision, of a microcontroller those that its codes were held to."""
    stage, runtime = _EXACT if result.target in targets.listed() else (result.stage, result.runtime)
    return stage, runtime, str(result.precision)


def first_window(clip: Clip, spec: FrontendSpec) -> np.ndarray | None:
    """None where the recording cannot be decoded: scoring says so. The first of its batches may be empty."""
    try:
        return next((batch.features[:1] for batch in windows(clip.path, spec) if len(batch.features)), None)
    except InputError:
        return None


def _ready(opened: Bundle, stage: str, runtime: str, precision: str) -> tuple[Runtime, list[str]]:
    """A stage as it was timed; where only another machine has that, in the usual runtime, with a word about it."""
    try:
        return runtimes.open(opened, stage, runtime, precision=None if precision == "int8" else precision), []
    except InputError:
        usual = runtimes.open(opened, stage)
        return usual, [f"accuracy is of {stage} in {usual.name} here: {runtime} in {precision} does not run here"]
