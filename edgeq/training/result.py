"""What a training leaves behind: a bundle that can be deployed, or a summary of the scores on folds held out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeq import bundle, goldens
from edgeq.bundle import Bundle
from edgeq.corpora import Corpus, Fault, metrics
from edgeq.corpora.corpus import file_hash
from edgeq.decision import DecisionRule
from edgeq.errors import InputError
from edgeq.nets.count import totals
from edgeq.training import processes
from edgeq.training.config import FitConfig
from edgeq.training.evaluate import Logmels, shared_probabilities
from edgeq.training.session import note
from edgeq.training.source import Recordings
from edgeq.training.trial import Trained


def write(
    output: Path,
    name: str,
    trained: Trained,
    corpus: Corpus,
    maps: Recordings,
    provenance: Mapping[str, Any],
    licence: str = "",
    extra_metrics: Mapping[str, Any] | None = None,
    decision: DecisionRule | None = None,
) -> tuple[Bundle, dict[str, Any]]:
    """Write the bundle of a training, with ranges, goldens and metrics; of several processes the first one does.

    corpus, maps: what it was trained on, of which each process scores a share. Returns the bundle and its metrics: the
    accuracy on these clips, or where they have several labels the mean average precision (which say only that the fit
    converged; of at most `evaluate.MOST_CLIPS`); the same on clips held back for choosing the network; parameters and
    MACs (`nets.count.totals`); and extra_metrics. Raises InputError as `bundle.write` does.
    """
    together = processes.current()
    heard = _heard(trained, corpus, maps)
    with together.main_first():
        if not together.main:
            written = bundle.read(output)
            return written, dict(written.metrics)
        costs = totals(trained.architecture, trained.frontend)
        measured = {**heard, **_validated(trained, corpus), **costs, **(extra_metrics or {})}
        answers = goldens.choose(trained.predict(), trained.frontend)
        if answers.gate == goldens.SQNR:
            note(f"{name}: decisive on few synthetic sounds: its INT8 files will be judged by the SQNR of their logits")
        written = bundle.write(
            output,
            name=name,
            architecture=trained.architecture,
            frontend=trained.frontend,
            labels=corpus.labels,
            weights=trained.weights(),
            ranges=trained.ranges,
            goldens=answers,
            decision=decision,
            provenance=provenance,
            licence=licence,
            metrics=measured,
        )
        return written, measured


def _heard(trained: Trained, corpus: Corpus, maps: Recordings) -> dict[str, float]:
    clips = Logmels(maps).clips
    probabilities = shared_probabilities(
        trained.predict(), maps.select(clips), trained.frontend, trained.architecture.classes
    )
    positives = corpus.positives(clips)
    if corpus.multi_label:
        return {"training_mean_average_precision": metrics.mean_average_precision(probabilities, positives)}
    return {"training_accuracy": metrics.accuracy(probabilities, positives.argmax(axis=1))}


def _validated(trained: Trained, corpus: Corpus) -> dict[str, float]:
    """What was measured of the network, by which it was chosen."""
    if trained.best is None:
        return {}
    name = "mean_average_precision" if corpus.multi_label else "accuracy"
    return {f"validation_{name}": trained.best.score, "validation_step": trained.best.step}


def check_labels(who: str, labels: Sequence[str], corpus: Corpus) -> None:
    """Raises InputError where a model that is trained on has other labels than the corpus, or in another order."""
    missing, more = ([one for one in a if one not in b] for a, b in ((corpus.labels, labels), (labels, corpus.labels)))
    if missing or more:
        parts = ((f"it lacks {', '.join(missing):.80}", missing), (f"it has {', '.join(more):.80} besides", more))
        found = " and ".join(text for text, there in parts if there)
        raise InputError(
            f"{who}: {len(labels)} labels, {corpus.name} {len(corpus.labels)}: {found}; expected the same labels"
        )
    if tuple(labels) != corpus.labels:
        raise InputError(
            f"{who}: labels {', '.join(labels):.80}, {corpus.name} {', '.join(corpus.labels):.80}; expected one order"
        )


def provenance(
    corpus: Corpus, config: FitConfig, seed: int, threads: int, left_out: Sequence[Fault] = ()
) -> dict[str, Any]:
    """What every training says of itself: how it was seeded and run, on which data, with which versions.

    left_out: clips that could not be used; files that can be read are told by their sha256.
    """
    unsound = [*corpus.damaged_hashes, *(file_hash(one.path) for one in left_out if os.access(one.path, os.R_OK))]
    return {
        "seed": seed,
        "threads": threads,
        "precision": config.usable_precision,
        "corpus": corpus.name,
        "corpus_sha256": corpus.recordings_hash,
        "clips": len(corpus.clips),
        "folds": list(corpus.folds),
        **({"splits": list(corpus.splits)} if corpus.splits else {}),
        **({"left_out_sha256": sorted(set(unsound))} if unsound else {}),
        "edgeq": version("edgeq"),
        "torch": torch.__version__,
    }


def told(faults: Sequence[Fault]) -> dict[str, Any]:
    """What a training says of the clips that it left out; nothing where there were none."""
    rows = [{"file": str(fault.path), "kind": fault.kind, "what": fault.what} for fault in faults]
    return {"left_out": rows} if rows else {}


def summary(folds: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """What all folds say together, from the scores of each (`trial.held_out_scores`).

    accuracy counts every clip alike; mean_of_folds every fold, as Eq. 10 of the quaternion paper. confusion: the mean
    over folds of their matrices in clips (INT8), rows are targets. Where clips have several labels, in the place of all
    that: mean_average_precision (INT8) and mean_average_precision_float, the means over folds, and `folds`, the INT8
    one of each; a class without positive clips in a fold is left out there.

    Where they have the scores of an ensemble's `members` too, so has the summary: accuracy and accuracy_float, of each
    by name, of the mean member and of the best. without: accuracy of the ensemble of the others; gain: what the member
    adds to it. Both are of the mean of the members' INT8 clip probabilities, as accuracy_of_mean is for all of them:
    not of a merged graph, whose answer is rounded once more.
    """
    clips = sum(scores["clips"] for scores in folds.values())
    if all("positives" in scores for scores in folds.values()):
        return {"clips": clips, **_precisions(folds)}
    total = {
        key: sum(scores[key] for scores in folds.values()) for key in ("correct_int8", "correct_float", "agreeing")
    }
    interval = metrics.interval_over_clips(total["correct_int8"], clips)
    return {
        "clips": clips,
        "accuracy": total["correct_int8"] / clips,
        "accuracy_float": total["correct_float"] / clips,
        "agreement": total["agreeing"] / clips,
        **{
            key: sum(scores[key] * scores["clips"] for scores in folds.values()) / clips
            for key in ("log_loss_int8", "log_loss_float")
        },
        "interval": asdict(interval),
        "folds": {str(fold): one["correct_int8"] / one["clips"] for fold, one in folds.items()},
        "mean_of_folds": metrics.accuracy_over_folds(
            [one["correct_int8"] for one in folds.values()], [one["clips"] for one in folds.values()]
        ),
        "confusion": np.mean([_confusion(scores) for scores in folds.values()], axis=0).tolist(),
        **({"members": _members(folds)} if any("members" in scores for scores in folds.values()) else {}),
    }


def _precisions(folds: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    in_int8, in_float = (
        {str(fold): scores[f"mean_average_precision_{kind}"] for fold, scores in folds.items()}
        for kind in ("int8", "float")
    )
    return {
        "mean_average_precision": float(np.mean(list(in_int8.values()))),
        "mean_average_precision_float": float(np.mean(list(in_float.values()))),
        "folds": in_int8,
    }


def _confusion(scores: Mapping[str, Any]) -> np.ndarray:
    return metrics.confusion_matrix(np.asarray(scores["probabilities_int8"]), np.asarray(scores["targets"]))


def _members(folds: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    names = list(next(iter(folds.values()))["members"])
    targets = np.concatenate([scores["targets"] for scores in folds.values()])
    answers = {
        (name, kind): np.concatenate(
            [np.asarray(scores["members"][name][f"probabilities_{kind}"]) for scores in folds.values()]
        )
        for name in names
        for kind in ("int8", "float")
    }

    def together(chosen: Sequence[str]) -> float:
        mean = np.mean([answers[name, "int8"] for name in chosen], axis=0)
        return metrics.accuracy(mean, targets)

    everyone = together(names)
    each = {
        name: {
            "accuracy": together([name]),
            "accuracy_float": metrics.accuracy(answers[name, "float"], targets),
            "without": (rest := together([other for other in names if other != name])),
            "gain": everyone - rest,
        }
        for name in names
    }
    alone = {key: [one[key] for one in each.values()] for key in ("accuracy", "accuracy_float")}
    return {
        **{f"mean_{key}": float(np.mean(values)) for key, values in alone.items()},
        **{f"best_{key}": max(values) for key, values in alone.items()},
        "accuracy_of_mean": everyone,
        "each": each,
    }
