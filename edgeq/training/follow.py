"""From a recipe and a corpus to a bundle, or to scores on the folds held out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from edgeq import bundle, corpora, goldens
from edgeq.corpora import Corpus, metrics
from edgeq.errors import InputError
from edgeq.nets.count import totals
from edgeq.progress import progress
from edgeq.training import recipe as recipes
from edgeq.training.evaluate import clip_probabilities
from edgeq.training.features import CorpusMaps, corpus_maps
from edgeq.training.fit import EpochDone
from edgeq.training.recipe import Recipe
from edgeq.training.trial import Trained, held_out_scores, train_on


def run(
    path: Path | str,
    data: Path | str,
    output: Path | None = None,
    seed: int | None = None,
    cross_validate: bool = False,
) -> dict[str, Any]:
    """What `edgeq train` does: follow the recipe at `path` on the corpus at `data`.

    output: the bundle to write, by default build/<name>; log-mel maps and checkpoints go to the folder `training`
    beside it. Returns metrics, and where a bundle was written its path.
    Raises InputError as `recipe.read`, `corpora.open`, `fit` and `bundle.write` do.
    """
    recipe = recipes.read(path)
    if seed is not None:
        recipe = replace(recipe, seed=seed)
    output = output or Path("build") / recipe.name
    bundle.check_place(output)  # now, not after an hour of training
    work = output.parent / "training"
    if cross_validate:
        return {"metrics": cross_validation(recipe, corpora.open(data), work)}
    written, measured = train(recipe, corpora.open(data), output, work)
    return {"bundle": str(written.folder), "metrics": measured}


def train(
    recipe: Recipe, corpus: Corpus, output: Path, work: Path, extra_metrics: Mapping[str, Any] | None = None
) -> tuple[bundle.Bundle, dict[str, Any]]:
    """Train on every clip the recipe does not exclude, and write the bundle with ranges and goldens to `output`.

    Log-mel maps are cached in `work`, and a checkpoint is kept there until the bundle is written: a killed run
    resumes. Returns the bundle and its metrics: the accuracy on the training clips (which says only that the fit
    converged), parameters and MACs (`nets.count.totals`), and extra_metrics. Raises InputError as `fit` and
    `bundle.write` do.
    """
    corpus = _chosen(recipe, corpus)
    checkpoint = work / f"{recipe.name}.checkpoint"
    maps = _maps(recipe, corpus, work)
    trained = _trial(recipe, corpus, maps, range(len(corpus.clips)), checkpoint, recipe.name)
    predict = trained.predict()
    probabilities = clip_probabilities(predict, maps.logmels[0], trained.frontend)
    training_accuracy = metrics.accuracy(probabilities, np.array(corpus.targets))
    costs = totals(trained.architecture, trained.frontend)
    measured = {"training_accuracy": training_accuracy, **costs, **(extra_metrics or {})}
    answers = goldens.choose(predict, trained.frontend)
    if answers.gate == goldens.SQNR:
        note = "decisive on few synthetic sounds: its INT8 files will be judged by the SQNR of their logits"
        Console(stderr=True).print(f"{recipe.name}: {note}")
    written = bundle.write(
        output,
        name=recipe.name,
        architecture=trained.architecture,
        frontend=trained.frontend,
        labels=corpus.labels,
        weights=trained.weights(),
        ranges=trained.ranges,
        goldens=answers,
        provenance=_provenance(recipe, corpus),
        licence=recipe.licence,
        metrics=measured,
    )
    checkpoint.unlink(missing_ok=True)
    return written, measured


def cross_validation(recipe: Recipe, corpus: Corpus, work: Path) -> dict[str, Any]:
    """Hold out each fold of the corpus in turn, with the recipe's seed; log-mel maps and checkpoints go to `work`.

    Returns clips, accuracy (INT8), accuracy_float, agreement of the two, log losses, the Wilson interval of `accuracy`
    over clips, and accuracy by fold. Raises InputError where the corpus has fewer than two folds.
    """
    corpus = _chosen(recipe, corpus)
    if len(corpus.folds) < 2:
        raise InputError(
            f"{corpus.name}: folds {list(corpus.folds)}: expected at least 2 for cross-validation; "
            "number them in the column `fold` of a meta.csv"
        )
    maps = _maps(recipe, corpus, work)
    checkpoints = {fold: work / f"{recipe.name}.fold{fold}.checkpoint" for fold in corpus.folds}
    folds = {fold: held_out(recipe, corpus, maps, fold, checkpoints[fold]) for fold in corpus.folds}
    for checkpoint in checkpoints.values():
        checkpoint.unlink(missing_ok=True)
    return summary(folds)


def held_out(
    recipe: Recipe, corpus: Corpus, maps: CorpusMaps, fold: int, checkpoint: Path | None = None
) -> dict[str, Any]:
    """Train on the other folds and score this one, as `trial.held_out_scores`. Clips without a fold are trained on."""
    training = [i for i, clip in enumerate(corpus.clips) if clip.fold != fold]
    testing = [i for i, clip in enumerate(corpus.clips) if clip.fold == fold]
    trained = _trial(recipe, corpus, maps, training, checkpoint, f"{recipe.name} without fold {fold}")
    return held_out_scores(trained, corpus, maps, testing)


def summary(folds: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Accuracy over all folds, from the scores of each."""
    clips = sum(scores["clips"] for scores in folds.values())
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
        "folds": {str(fold): scores["correct_int8"] / scores["clips"] for fold, scores in folds.items()},
    }


def _trial(
    recipe: Recipe, corpus: Corpus, maps: CorpusMaps, clips: range | list[int], checkpoint: Path | None, what: str
) -> Trained:
    architecture = recipe.architecture.with_classes(len(corpus.labels))
    if recipe.fit.precision != recipe.fit.usable_precision:
        Console(stderr=True).print("this processor has no native bfloat16: training in float32 instead")
    with _threads(recipe.threads), _progress(what, recipe.fit.epochs) as on_epoch:
        return train_on(
            corpus, maps, clips, architecture, recipe.frontend, recipe.fit, recipe.seed, checkpoint, on_epoch
        )


def _chosen(recipe: Recipe, corpus: Corpus) -> Corpus:
    return corpus.without_licences(recipe.exclude_licences)


def _maps(recipe: Recipe, corpus: Corpus, work: Path) -> CorpusMaps:
    with _progress(f"{corpus.name}: log-mel", len(corpus.clips)) as advance:
        maps = corpus_maps(corpus, recipe.frontend, recipe.fit.speeds, work / "features", lambda n, _: advance(n, 0.0))
        advance(len(corpus.clips), 0.0)  # also where the cache had them all
        return maps


def _provenance(recipe: Recipe, corpus: Corpus) -> dict[str, Any]:
    return {
        "recipe_sha256": recipe.sha256,
        "seed": recipe.seed,
        "threads": recipe.threads,
        "precision": recipe.fit.usable_precision,
        "corpus": corpus.name,
        "corpus_sha256": corpus.hash,
        "clips": len(corpus.clips),
        "folds": list(corpus.folds),
        "exclude_licences": list(recipe.exclude_licences),
        "edgeq": version("edgeq"),
        "torch": torch.__version__,
    }


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _progress(what: str, total: int) -> Iterator[EpochDone]:
    with progress(what, total, patience=0) as advance:
        before = 0

        def done(count: int, loss: float) -> None:
            nonlocal before
            advance(count - before, f"loss {loss:.3f}" if loss else "")
            before = count

        yield done
