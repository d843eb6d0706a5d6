"""From a recipe and a corpus to a bundle, or to scores on the folds held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeq import bundle
from edgeq.compress import chain
from edgeq.compress.chain import Setting
from edgeq.corpora import Corpus, Fault
from edgeq.errors import InputError
from edgeq.training import processes, result
from edgeq.training import recipe as recipes
from edgeq.training.session import corpus_at, maps, sound
from edgeq.training.tables import Recipe
from edgeq.training.trial import held_out_scores


def run(
    path: Path | str,
    data: Path | str,
    output: Path | None = None,
    seed: int | None = None,
    cross_validate: bool = False,
    layout: str | None = None,
) -> dict[str, Any]:
    """What `edgeq train` does: follow the recipe at `path` on the corpus at `data`.

    output: the bundle to write, by default build/<name>; log-mel maps, checkpoints and what the last stage rests on go
    to the folder `training` beside it. layout: of the corpus, where the folder does not tell. Returns metrics, where a
    bundle was written its path, and where clips could not be used which, and why.
    Raises InputError as `recipe.read`, `Processes.check_shared`, `corpus_at`, `session.sound`, `chain.check`,
    `chain.trained` and `bundle.write` do.
    """
    recipe = recipes.read(path)
    if seed is not None:
        recipe = replace(recipe, seed=seed)
    output = output or Path("build") / recipe.name
    bundle.check_place(output)  # now, not after an hour of training
    work = output.parent / "training"
    processes.current().check_shared(work)
    corpus, left_out = usable(recipe, corpus_at(data, layout))
    if cross_validate:
        return {"metrics": cross_validation(recipe, corpus, work), **result.told(left_out)}
    written, measured = train(recipe, corpus, output, work, left_out=left_out)
    return {"bundle": str(written.folder), "metrics": measured, **result.told(left_out)}


def usable(recipe: Recipe, corpus: Corpus) -> tuple[Corpus, tuple[Fault, ...]]:
    """A corpus without clips that a recipe cannot be followed on, and what is wrong with those: see `session.sound`."""
    speeds = [speed for stage in chain.stages(recipe) if stage.fit for speed in stage.fit.speeds]
    return sound(corpus, recipe.frontend, speeds)


def train(
    recipe: Recipe,
    corpus: Corpus,
    output: Path,
    work: Path,
    extra_metrics: Mapping[str, Any] | None = None,
    left_out: Sequence[Fault] = (),
) -> tuple[bundle.Bundle, dict[str, Any]]:
    """Train on every clip the recipe does not exclude, and write the bundle with ranges and goldens to `output`.

    Log-mel maps and stages are kept in `work`, and until the bundle is written a checkpoint: a killed run resumes.
    left_out: clips that the corpus lacks as they could not be used. Returns the bundle and its metrics, as
    `result.write`. Raises InputError as `run`.
    """
    setting = _setting(recipe, corpus, work)
    chain.check(recipe, setting)
    checkpoint = work / f"{recipe.name}.checkpoint"
    trained = chain.trained(recipe, setting, checkpoint, recipe.name)
    heard = maps(setting.corpus, trained.frontend, recipe.fit, work).select(setting.clips)
    learnt = setting.corpus.subset(setting.clips)
    provenance = {
        "recipe_sha256": recipe.sha256,
        "exclude_licences": list(recipe.exclude_licences),
        **result.provenance(learnt, recipe.fit, recipe.seed, recipe.threads, left_out),
        **chain.provenance(recipe, setting),
    }
    of = trained, learnt, heard, provenance, recipe.licence, extra_metrics
    written, measured = result.write(output, recipe.name, *of)
    if processes.current().main:
        checkpoint.unlink(missing_ok=True)
    return written, measured


def cross_validation(recipe: Recipe, corpus: Corpus, work: Path) -> dict[str, Any]:
    """Hold out each fold of the corpus in turn, with the recipe's seed; what is kept goes to `work`, as in `train`.

    Returns clips, accuracy (INT8), accuracy_float, agreement of the two, log losses, the Wilson interval of `accuracy`
    over clips, accuracy by fold, the mean of their confusion matrices and the labels that are its rows and columns; of
    an ensemble what its members do too; where clips have several labels mean average precisions: see `result.summary`.
    Raises InputError where the corpus has fewer than two folds, or clips of several labels where the recipe makes an
    ensemble, and as `run`.
    """
    corpus = _chosen(recipe, corpus)
    if corpus.multi_label and recipe.members:
        raise InputError(
            f"{corpus.name}: clips have several labels, and members of an ensemble are compared by right answers; "
            "cross-validate a recipe of each member"
        )
    if len(corpus.folds) < 2:
        raise InputError(
            f"{corpus.name}: folds {list(corpus.folds)}: expected at least 2 for cross-validation; "
            "number them in the column `fold` of a meta.csv"
        )
    checkpoints = {fold: work / f"{recipe.name}.fold{fold}.checkpoint" for fold in corpus.folds}
    folds = {fold: held_out(recipe, corpus, work, fold, checkpoints[fold]) for fold in corpus.folds}
    if processes.current().main:
        for checkpoint in checkpoints.values():
            checkpoint.unlink(missing_ok=True)
    told = result.summary(folds)
    return {**told, "labels": list(corpus.labels)} if "confusion" in told else told


def held_out(recipe: Recipe, corpus: Corpus, work: Path, fold: int, checkpoint: Path | None = None) -> dict[str, Any]:
    """Train on the other folds and score this one, as `trial.held_out_scores`. Clips without a fold are trained on.

    Of an ensemble, `members` has the scores of each of its networks, by name.
    """
    setting = without_fold(recipe, corpus, work, fold)
    chain.check(recipe, setting)
    trained = chain.trained(recipe, setting, checkpoint, f"{recipe.name} without fold {fold}")
    testing = setting.corpus.part(fold=fold).tolist()
    heard = maps(setting.corpus, trained.frontend, recipe.fit, work)
    members = chain.members_trained(recipe, setting)
    each = {name: held_out_scores(one, setting.corpus, heard, testing) for name, one in members.items()}
    return held_out_scores(trained, setting.corpus, heard, testing) | ({"members": each} if each else {})


def without_fold(recipe: Recipe, corpus: Corpus, work: Path, fold: int) -> Setting:
    """The setting in which a recipe is followed where a fold is held out."""
    return _setting(recipe, corpus, work, fold)


def _setting(recipe: Recipe, corpus: Corpus, work: Path, fold: int | None = None) -> Setting:
    """On which clips a recipe is followed: of a corpus with a split, the training part; never the fold held out."""
    corpus = _chosen(recipe, corpus)
    asked, none = recipe.validation, np.zeros(0, np.int64)
    testing = none if fold is None else corpus.part(fold=fold)
    validation = none if asked is None else np.setdiff1d(corpus.part(asked.split or None, asked.fold), testing)
    training = np.setdiff1d(chain.trainable(corpus), np.union1d(testing, validation))
    if asked is not None and not len(validation):
        where = f"split {asked.split!r}" if asked.split else f"fold {asked.fold}"
        raise InputError(f"{corpus.name}: no clip of {where} to validate on; it has {_parts(corpus)}")
    if not len(training):
        raise InputError(f"{corpus.name}: no clip to train on; it has {_parts(corpus)}")
    return Setting(corpus, training.tolist(), work, validation.tolist())


def _parts(corpus: Corpus) -> str:
    return f"splits {', '.join(corpus.splits) or 'none'}, folds {', '.join(map(str, corpus.folds)) or 'none'}"


def _chosen(recipe: Recipe, corpus: Corpus) -> Corpus:
    return corpus.without_licences(recipe.exclude_licences)
