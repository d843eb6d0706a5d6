"""Cross-validate recipes over seeds and folds: one process a run, finished runs kept, results beside each recipe.

    python tools/cross_validate.py models/esc10-tiny/recipe.toml ... --data ../shared/data/esc10 --jobs 2

Runs lie in --work as <name>-<recipe>-seed<seed>-fold<fold>.json and are not repeated; delete one to run it again. When
every run of a recipe is there, cross_validation.json is written beside it. Clips that cannot be used are left out and
listed, as `edgeq train` does. Parents and teachers, trained without the fold as well, lie in the folder `stages` of
--work; runs share them, so their time is not in a run's.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeq import atomic, corpora, machine
from edgeq.corpora import metrics
from edgeq.training import recipe as recipes


def main() -> None:
    arguments = _arguments()
    if arguments.run is not None:
        _run_one(arguments.recipes[0], arguments.data, arguments.work, *arguments.run)
        return
    folds = corpora.open(arguments.data).folds
    # Recipe by recipe, seed by seed: the first results are complete early.
    runs = [run for recipe in arguments.recipes for run in itertools.product([recipe], arguments.seeds, folds)]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        codes = list(pool.map(lambda run: _spawn(arguments, *run), runs))
    failed = [run for run, code in zip(runs, codes, strict=True) if code]
    for recipe in arguments.recipes:
        if not any(run[0] == recipe for run in failed):
            path = _write_result(recipe, arguments.work, arguments.seeds, folds)
            print(path, json.dumps(json.loads(path.read_text())["accuracy"]), flush=True)
    if failed:
        sys.exit(f"failed: {failed}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("recipes", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True, help="the corpus")
    parser.add_argument("--work", type=Path, default=Path("build/cv"), help="where runs and log-mel maps are kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, of one thread each")
    parser.add_argument("--run", type=int, nargs=2, metavar=("SEED", "FOLD"), help=argparse.SUPPRESS)
    return parser.parse_args()


def _spawn(arguments: argparse.Namespace, recipe: Path, seed: int, fold: int) -> int:
    place = _place(arguments.work, recipe, seed, fold)
    if place.is_file():
        return 0
    command = [sys.executable, __file__, str(recipe), "--data", str(arguments.data), "--work", str(arguments.work)]
    with place.with_suffix(".log").open("w") as log:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        code = subprocess.call(
            [*command, "--run", str(seed), str(fold)], stdout=log, stderr=subprocess.STDOUT, env=environment
        )
    print(place.name, "failed, see its log" if code else _line(json.loads(place.read_text())), flush=True)
    return code


def _run_one(path: Path, data: Path, work: Path, seed: int, fold: int) -> None:
    import torch

    from edgeq.compress import chain, follow
    from edgeq.training import result, session

    # One thread, so that runs side by side do not disturb each other and a run repeats exactly.
    recipe = replace(recipes.read(path), seed=seed, threads=1)
    corpus, left_out = follow.usable(recipe, session.corpus_at(data))
    corpus = corpus.without_licences(recipe.exclude_licences)
    setting = follow.without_fold(recipe, corpus, work, fold)
    chain.check(recipe, setting)
    before = time.process_time()
    chain.parents(recipe, setting)
    started, shared = time.perf_counter(), time.process_time() - before
    scores = follow.held_out(recipe, corpus, work, fold)
    seconds = {"wall_seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - shared}
    run = {
        "recipe_sha256": recipe.sha256,
        "seed": seed,
        "fold": fold,
        **scores,
        **seconds,
        "precision": recipe.fit.usable_precision,
        "corpus": {"name": corpus.name, "clips": len(corpus.clips), "sha256": corpus.hash},
        "labels": list(corpus.labels),
        "torch": torch.__version__,
        **result.told(left_out),
    }
    atomic.write_text(_place(work, path, seed, fold), json.dumps(run))


def _write_result(recipe: Path, work: Path, seeds: list[int], folds: tuple[int, ...]) -> Path:
    from edgeq.training.result import summary

    runs = {(seed, fold): json.loads(_place(work, recipe, seed, fold).read_text()) for seed in seeds for fold in folds}
    first = next(iter(runs.values()))
    by_seed = {seed: summary({fold: runs[seed, fold] for fold in folds}) for seed in seeds}
    result = {
        "accuracy": _over_seeds(by_seed, "accuracy"),
        "accuracy_float": _over_seeds(by_seed, "accuracy_float"),
        "what": "clip accuracy on the held-out fold, all folds together; accuracy is INT8, accuracy_float is torch",
        "interval": "95 %; low, high: Wilson, over clips at the mean of the seeds; over_seeds: Student, over seeds",
        **{
            key: float(np.mean([one[key] for one in by_seed.values()]))
            for key in ("agreement", "log_loss_int8", "log_loss_float")
        },
        "per_seed": by_seed,
        "per_class": _per_class(first["labels"], runs),
        "confusion_int8": _confusion(runs).tolist(),
        **({"members": _members(by_seed)} if "members" in by_seed[seeds[0]] else {}),
        "labels": first["labels"],
        "recipe_sha256": first["recipe_sha256"],
        "corpus": first["corpus"],
        **({"left_out": first["left_out"]} if "left_out" in first else {}),
        "precision": first["precision"],
        "threads": 1,
        "cpu_seconds_per_run": float(np.mean([run["cpu_seconds"] for run in runs.values()])),
        "machine": machine.describe(),
        "versions": {"torch": first["torch"], "numpy": np.__version__},
    }
    path = recipe.parent / "cross_validation.json"
    atomic.write_text(path, json.dumps(result, indent=1) + "\n")
    return path


def _members(by_seed: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """What an ensemble's members do alone, and what the ensemble does without each."""
    members = {seed: one["members"] for seed, one in by_seed.items()}
    clips = {seed: {"clips": one["clips"]} for seed, one in by_seed.items()}

    def of(key: str, name: str | None = None) -> dict[str, Any]:
        values = {seed: one["each"][name] if name else one for seed, one in members.items()}
        return _over_seeds({seed: clips[seed] | values[seed] for seed in by_seed}, key)

    def gain(name: str) -> dict[str, Any]:
        values = [one["each"][name]["gain"] for one in members.values()]
        spread = metrics.interval_over_seeds(values, least=-1.0)
        return {"mean": spread.mean, "seeds": len(values), "over_seeds": [spread.low, spread.high], "per_seed": values}

    each = {
        name: {**{key: of(key, name) for key in ("accuracy", "accuracy_float", "without")}, "gain": gain(name)}
        for name in next(iter(members.values()))["each"]
    }
    best = max(each, key=lambda name: float(each[name]["accuracy"]["mean"]))
    return {
        "what": "accuracy is INT8 and accuracy_float torch, of a member alone; accuracy_of_mean, without (the ensemble "
        "of the others) and gain (of all less without) are of the mean of the members' INT8 clip probabilities",
        "mean_accuracy": of("mean_accuracy"),
        "mean_accuracy_float": of("mean_accuracy_float"),
        "best": {"name": best, **each[best]["accuracy"]},
        "accuracy_of_mean": of("accuracy_of_mean"),
        "each": each,
    }


def _over_seeds(by_seed: dict[int, dict[str, Any]], key: str) -> dict[str, Any]:
    clips = next(iter(by_seed.values()))["clips"]
    seeds = metrics.interval_over_seeds([one[key] for one in by_seed.values()])
    # The clips leave more doubt than the seeds, all the more where a few seeds happen to agree.
    other_clips = metrics.interval_over_clips(seeds.mean * clips, clips)
    return {
        "mean": seeds.mean,
        "low": other_clips.low,
        "high": other_clips.high,
        "seeds": len(by_seed),
        "over_seeds": [seeds.low, seeds.high],
    }


def _confusion(runs: dict[tuple[int, int], dict[str, Any]]) -> np.ndarray:
    """Rows are targets; every clip counts once a seed."""
    return sum(
        metrics.confusion_matrix(np.array(run["probabilities_int8"]), np.array(run["targets"])) for run in runs.values()
    )  # type: ignore[return-value]


def _per_class(labels: list[str], runs: dict[tuple[int, int], dict[str, Any]]) -> dict[str, float]:
    confusion = _confusion(runs)
    return {label: float(confusion[i, i] / confusion[i].sum()) for i, label in enumerate(labels)}


def _place(work: Path, recipe: Path, seed: int, fold: int) -> Path:
    work.mkdir(parents=True, exist_ok=True)
    return work / f"{recipe.parent.name}-{recipes.read(recipe).sha256[:8]}-seed{seed}-fold{fold}.json"


def _line(run: dict[str, Any]) -> str:
    correct = f"int8 {run['correct_int8']}/{run['clips']}, float {run['correct_float']}/{run['clips']}"
    return f"{correct}, agreeing {run['agreeing']}, {run['wall_seconds']:.0f} s"


if __name__ == "__main__":
    main()
