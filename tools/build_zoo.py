"""Train the bundles of the zoo on every clip their recipes allow, and say how long each took.

    python tools/build_zoo.py models/*/recipe.toml --data ../shared/data/esc10

Each bundle is written beside its recipe, with the cross-validated accuracy of cross_validation.json where that is of
the same recipe; clips that cannot be used are left out and listed, as `edgeq train` does. Exports are another step:
edgeq export NAME.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from edgeq import atomic
from edgeq.compress import follow
from edgeq.training import recipe as recipes
from edgeq.training import result, session


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("recipes", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True, help="the corpus")
    parser.add_argument("--work", type=Path, default=Path("build/zoo"), help="where log-mel maps and checkpoints go")
    arguments = parser.parse_args()
    for path in arguments.recipes:
        print(json.dumps(build(path, arguments.data, arguments.work)), flush=True)


def build(path: Path, data: Path, work: Path) -> dict[str, Any]:
    """Train the bundle of the recipe at `path` and write it beside; where it is, its metrics, and how long it took."""
    recipe = recipes.read(path)
    started = time.perf_counter()
    corpus, left_out = follow.usable(recipe, session.corpus_at(data))
    session.maps(corpus.without_licences(recipe.exclude_licences), recipe.frontend, recipe.fit, work)
    features_ready = time.perf_counter()
    measured = _cross_validated(path.parent, recipe.sha256)
    written, metrics = follow.train(recipe, corpus, path.parent, work, measured, left_out)
    timing = {
        "features_seconds": round(features_ready - started, 1),
        "training_seconds": round(time.perf_counter() - features_ready, 1),
        "threads": recipe.threads,
    }
    atomic.write_text(work / f"{recipe.name}.timing.json", json.dumps(timing) + "\n")
    return {"bundle": str(written.folder), **metrics, **timing, **result.told(left_out)}


def _cross_validated(folder: Path, recipe_sha256: str) -> dict[str, Any]:
    path = folder / "cross_validation.json"
    measured = json.loads(path.read_text()) if path.is_file() else {}
    if measured.get("recipe_sha256") != recipe_sha256:
        return {}
    return {key: measured[key] for key in ("accuracy", "accuracy_float", "agreement", "what", "interval")}


if __name__ == "__main__":
    main()
