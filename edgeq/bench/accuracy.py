"""How well every stage of a model does on labelled recordings: the same clips, each decoded once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeq import corpora
from edgeq.bundle import Bundle
from edgeq.corpora import Corpus, metrics
from edgeq.corpora.metrics import Interval
from edgeq.corpora.soundness import check_share
from edgeq.corpora.trained import trained_on
from edgeq.errors import InputError
from edgeq.progress import progress
from edgeq.runtime import Runtime
from edgeq.verify import stage_scores


@dataclass(frozen=True)
class Scores:
    """What one stage scored on the clips of a folder; None where a figure does not apply.

    Where a clip has one label, accuracy: fraction of clips whose label has the largest score; confusion: clips, a row a
    label, a column an answer, in the order of `labels`. There, of a network whose classes exclude each other (softmax):
    log_loss, in nats a clip, and expected_calibration_error over metrics.CALIBRATION_BINS bins of equal width. Of one
    whose classes do not (sigmoid), and wherever a clip may have several labels: mean_average_precision, over the
    classes that have a clip. skipped: recordings left out of all of this because they are damaged or too short.
    warnings: what to know beside the figures, a line each.
    """

    accuracy: Interval | None
    clips: int
    log_loss: float | None
    expected_calibration_error: float | None
    mean_average_precision: float | None
    confusion: np.ndarray | None
    labels: tuple[str, ...]
    skipped: int
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values; what does not apply is left out."""
        values = {
            "accuracy": None if self.accuracy is None else {**asdict(self.accuracy), "clips": self.clips},
            "clips": self.clips if self.accuracy is None else None,
            "log_loss": self.log_loss,
            "expected_calibration_error": self.expected_calibration_error,
            "calibration_bins": None if self.expected_calibration_error is None else metrics.CALIBRATION_BINS,
            "mean_average_precision": self.mean_average_precision,
            "confusion": None if self.confusion is None else self.confusion.tolist(),
            "labels": list(self.labels),
            "skipped": self.skipped,
            "kind": "measured",
        }
        return {key: value for key, value in values.items() if value is not None}


def measure(opened: Bundle, runtimes: Mapping[str, Runtime], data: Path | str) -> dict[str, Scores]:
    """Score a folder of labelled recordings by several stages of one model, in one pass.

    runtimes: stage to what runs it, ready. data: a folder that `corpora.open` takes.
    A recording that is damaged or too short is left out for every stage, counted, and named in the warnings, as long as
    `soundness.check_share` lets them pass: one damaged file of many does not end a long run, and what is told of the
    others stays true.
    Raises InputError where the folder has no clips, or labels that the model lacks; where more recordings are damaged;
    where a runtime does not fit the model, or its scores are not finite.
    """
    corpus = corpora.open(data)
    check_labels(opened, corpus, data)
    _check_shapes(opened, runtimes)
    scores: dict[str, list[np.ndarray]] = {stage: [] for stage in runtimes}
    positives: list[list[bool]] = []
    unreadable: list[str] = []
    with progress(f"{opened.name}: recordings", len(corpus.clips)) as advance:
        for clip in corpus.clips:
            try:
                found = stage_scores(opened, runtimes, clip.path)
            except InputError as error:
                if not str(error).startswith(f"{clip.path}:"):  # about a model, not about a recording
                    raise
                unreadable.append(str(error))
                check_share(str(data), unreadable, len(corpus.clips))
            else:
                _check_finite(clip.path, found)
                positives.append([label in clip.labels for label in opened.labels])
                for stage, row in found.items():
                    scores[stage].append(row)
            advance(1)
    warnings = tuple(_warnings(opened, corpus, unreadable))
    return {
        stage: _scores(opened, corpus, np.stack(rows), np.array(positives), len(unreadable), warnings)
        for stage, rows in scores.items()
    }


def check_labels(opened: Bundle, corpus: Corpus, data: Path | str) -> None:
    """Raises InputError where the recordings of a folder have labels that a model lacks."""
    unknown = [label for label in corpus.labels if label not in opened.labels]
    if unknown:
        raise InputError(
            f"{data}: label{'s' * (len(unknown) > 1)} {_listed(unknown)} not among those of {opened.name} "
            f"({_listed(opened.labels)}); give recordings of those, or rename or leave out the others"
        )


def _check_shapes(opened: Bundle, runtimes: Mapping[str, Runtime]) -> None:
    for stage, runtime in runtimes.items():
        found, expected = (runtime.input_shape, runtime.classes), (opened.frontend.input_shape, len(opened.labels))
        if found != expected:
            raise InputError(
                f"{opened.folder} ({stage}): takes {found[0]} and gives {found[1]} classes, the bundle says "
                f"{expected[0]} and {expected[1]}: of another network; export it again"
            )


def _check_finite(path: Path, found: Mapping[str, np.ndarray]) -> None:
    for stage, row in found.items():
        if not np.isfinite(row).all():
            raise InputError(f"{path}: the scores of {stage} hold NaN or infinity; export the model again")


def _warnings(opened: Bundle, corpus: Corpus, unreadable: Sequence[str]) -> list[str]:
    warnings = []
    if unreadable:
        count = f"{len(unreadable)} recording{'s' * (len(unreadable) > 1)}"
        warnings.append(f"accuracy is without {count} that cannot be scored; the first: {unreadable[0]}")
    absent = [label for label in opened.labels if label not in corpus.labels]
    if absent:
        warnings.append(f"accuracy is without clips of {_listed(absent)}, which the model knows and the folder lacks")
    heard = len(trained_on(opened.provenance, corpus))
    if heard:
        warnings.append(
            f"the model was trained on {heard} of the {len(corpus.clips)} recordings: expect less on others"
        )
    return warnings


def _scores(
    opened: Bundle, corpus: Corpus, found: np.ndarray, positives: np.ndarray, skipped: int, warnings: tuple[str, ...]
) -> Scores:
    """positives: bool (clips, labels), which each clip holds."""
    scores = Scores(None, len(found), None, None, None, None, opened.labels, skipped, warnings)
    several = opened.architecture.output == "sigmoid"
    if several or corpus.multi_label:
        scores = replace(scores, mean_average_precision=metrics.mean_average_precision(found, positives))
    if corpus.multi_label:
        return scores
    targets = positives.argmax(axis=1)
    confusion = metrics.confusion_matrix(found, targets)
    return replace(
        scores,
        accuracy=metrics.interval_over_clips(int(np.trace(confusion)), len(targets)),
        log_loss=None if several else metrics.log_loss(found, targets),
        expected_calibration_error=None if several else metrics.expected_calibration_error(found, targets),
        confusion=confusion,
    )


def _listed(labels: Sequence[str]) -> str:
    shown = ", ".join(labels[:5])
    return shown if len(labels) <= 5 else f"{shown} and {len(labels) - 5} more"
