"""Train the bundles of the zoo on every clip their recipes allow, and say how long each took.

    python tools/build_zoo.py models/*/recipe.toml --data ../shared/data/esc10

Each bundle is written beside its recipe, with the cross-validated accuracy of cross_validation.json where that is of
the same recipe. Exports are another step: edgeq export NAME.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from edgeq import atomic, corpora
from edgeq.compress import follow
from edgeq.training import recipe as recipes
from edgeq.training.features import corpus_maps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("recipes", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True, help="the corpus")
    parser.add_argument("--work", type=Path, default=Path("build/zoo"), help="where log-mel maps and checkpoints go")
    arguments = parser.parse_args()
    corpus = corpora.open(arguments.data)
    for path in arguments.recipes:
        print(json.dumps(_build(path, corpus, arguments.work)), flush=True)


def _build(path: Path, corpus: corpora.Corpus, work: Path) -> dict[str, Any]:
    recipe = recipes.read(path)
    started = time.perf_counter()
    chosen = corpus.without_licences(recipe.exclude_licences)
    corpus_maps(chosen, recipe.frontend, recipe.fit.speeds, work / "features")
    features_ready = time.perf_counter()
    written, metrics = follow.train(recipe, corpus, path.parent, work, _cross_validated(path.parent, recipe.sha256))
    timing = {
        "features_seconds": round(features_ready - started, 1),
        "training_seconds": round(time.perf_counter() - features_ready, 1),
        "threads": recipe.threads,
    }
    atomic.write_text(work / f"{recipe.name}.timing.json", json.dumps(timing) + "\n")
    return {"bundle": str(written.folder), **metrics, **timing}


def _cross_validated(folder: Path, recipe_sha256: str) -> dict[str, Any]:
    path = folder / "cross_validation.json"
    measured = json.loads(path.read_text()) if path.is_file() else {}
    if measured.get("recipe_sha256") != recipe_sha256:
        return {}
    return {key: measured[key] for key in ("accuracy", "accuracy_float", "agreement", "what", "interval")}


if __name__ == "__main__":
    main()
