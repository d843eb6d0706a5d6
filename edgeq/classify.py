"""Recordings to labels: any rate, channels and length, in memory that does not grow with the recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeq import runtime as runtimes
from edgeq import zoo
from edgeq.audio import decode
from edgeq.audio.windows import windows
from edgeq.bundle import Bundle
from edgeq.decision import ClipScores
from edgeq.errors import InputError
from edgeq.runtime import Runtime, embedded
from edgeq.runtime.embedded import Embedded


@dataclass(frozen=True)
class Score:
    """One label and the clip's score for it, 0 to 1."""

    label: str
    score: float


@dataclass(frozen=True)
class Classification:
    """What a recording was heard as: its length in seconds, and the best labels first.

    silent: every window is below the front end's gate, so the labels are guesses about silence.
    """

    file: str
    seconds: float
    top: tuple[Score, ...]
    silent: bool = False

    def to_json(self) -> dict[str, Any]:
        """The contract's keys, and whether there was anything to hear."""
        top = [{"label": entry.label, "score": entry.score} for entry in self.top]
        return {"file": self.file, "seconds": self.seconds, "top": top, "silent": self.silent}


def classify(
    model: Bundle | str | Path,
    paths: Sequence[Path | str],
    top: int = 3,
    runtime: str | None = None,
    int8: bool = False,
) -> list[Classification]:
    """Label recordings.

    model: a bundle, its folder or zoo name, or an exported .onnx or .tflite file. top: labels a recording, at least 1.
    runtime, int8: as `runtime.open` and `runtime.choose_stage` take them.
    Every header is read before the first recording is decoded, so that a bad file speaks before an hour is spent.
    Raises InputError naming the recording or model.
    """
    if top < 1:
        raise InputError(f"top {top}: expected at least 1")
    about, ready = prepare(model, runtime, int8)
    for path in paths:
        decode.info(path)
    return [recording(about, ready, path, top) for path in paths]


def prepare(model: Bundle | str | Path, runtime: str | None, int8: bool) -> tuple[Bundle | Embedded, Runtime]:
    """What a model says about itself, and a runtime that has it ready; arguments as `classify` takes them.

    Raises InputError where the model is none, or its parts do not fit each other.
    """
    if not isinstance(model, Bundle) and Path(model).suffix in (".onnx", ".tflite") and Path(model).is_file():
        if int8:
            raise InputError(f"{model}: --int8 chooses among a bundle's files, and this is one file; leave it out")
        ready = runtimes.open(model, runtime=runtime)
        about = embedded.read(ready.metadata, model)
        if len(about.labels) != ready.classes or about.frontend.input_shape != ready.input_shape:
            raise InputError(f"{model}: its metadata does not fit its network; export it again")
        return about, ready
    opened = model if isinstance(model, Bundle) else zoo.find(model)
    stage = runtimes.choose_stage(opened, runtime, int8)
    return opened, runtimes.open(opened, stage=stage, runtime=runtime)


def recording(about: Bundle | Embedded, ready: Runtime, path: Path | str, top: int = 3) -> Classification:
    """Label one recording with a runtime that is open already.

    Raises InputError naming the recording, also where the model's scores for it are not finite.
    """
    clip = ClipScores(len(about.labels))
    samples = 0
    for batch in windows(path, about.frontend):
        samples += batch.samples
        if len(batch.features):
            clip.add(ready.predict(batch.features), batch.gated)
    scores = clip.scores()
    if not np.isfinite(scores).all():
        raise InputError(f"{path}: the model's scores hold NaN or infinity; export the model again")
    best = np.argsort(-scores, kind="stable")[:top]
    labels = tuple(Score(about.labels[index], float(scores[index])) for index in best)
    return Classification(str(path), samples / about.frontend.sample_rate, labels, clip.silent)
