"""What a process of torchrun runs in tests of scoring together: recordings scored in turns, then a training.

    torchrun --nproc-per-node N tests/distributed_scores.py OUT CORPUS
    torchrun --nproc-per-node N tests/distributed_scores.py OUT --damaged CLIP
    torchrun --nproc-per-node N tests/distributed_scores.py OUT --deadly CLIP
    torchrun --nproc-per-node N tests/distributed_scores.py OUT --slow CLIP

The first keeps what came out. --damaged: that recording cannot be read. --deadly: who reads that one dies. --slow: that
one takes longer than processes wait for each other within a step.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import distributed_fit
import numpy as np
import torch
from beeps import RECIPE
from test_fit import SPEC, corpus

from edgeq import corpora
from edgeq.errors import InputError
from edgeq.nets import arrays, registry
from edgeq.nets.spec import ArchitectureSpec
from edgeq.training import joining, processes
from edgeq.training import recipe as recipes
from edgeq.training.evaluate import batched_probabilities, clip_probabilities, shared_probabilities
from edgeq.training.features import CorpusMaps, corpus_maps
from edgeq.training.trial import HeldBack, held_out_scores, train_on


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("corpus", type=Path, nargs="?")
    parser.add_argument("--damaged", type=int)
    parser.add_argument("--deadly", type=int)
    parser.add_argument("--slow", type=int)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.slow is not None:
        joining.PATIENCE = timedelta(seconds=3)
    try:
        with joining.joined() as together:
            if arguments.corpus is not None:
                found = {**scores(), **training(arguments.corpus, arguments.out.parent)}
                together.check_same("outcome", repr(found), "at the end")
            else:
                shared(Fragile(corpus(6)[0], range(6), arguments.damaged, arguments.deadly, arguments.slow))
                found = {}
            if together.main:
                torch.save(found, arguments.out)
    except InputError as error:
        print(f"edgeq: {error}", file=sys.stderr, flush=True)
        sys.exit(2)


def process(*of: Any) -> None:
    """As `distributed_fit.process`, of this program."""
    distributed_fit.main = main
    distributed_fit.process(*of)


def scores() -> dict[str, Any]:
    """Of five recordings, which two processes cannot share evenly, and of one, of which they cannot both have some."""
    maps = corpus(5)[0]
    return {str(count): shared(maps.select(range(count))).tolist() for count in (5, 1)}


def shared(recordings: Any) -> np.ndarray:
    torch.manual_seed(0)
    network = registry.build(ArchitectureSpec("cnn5", (4, 4, 4, 4, 4), 2, SPEC.input_shape)).eval()
    hop = replace(SPEC, window_hop_seconds=0.1)

    def predict(features: np.ndarray) -> np.ndarray:
        return arrays.probabilities(network, "softmax", features)

    one_by_one = shared_probabilities(predict, recordings, hop, 2, clip_probabilities)
    together = shared_probabilities(predict, recordings, hop, 2, batched_probabilities)
    np.testing.assert_allclose(together, one_by_one, atol=1e-6)
    return together


def training(folder: Path, work: Path) -> dict[str, Any]:
    """What a training in two parts on one fold, chosen by the other, comes out as, and its scores there."""
    place = work / f"{processes.current().rank}.toml"
    place.write_text(RECIPE.replace("epochs = 12", "epochs = 3\nparts = 2"))
    recipe, read = recipes.read(place), corpora.open(folder)
    maps = corpus_maps(read, recipe.frontend, recipe.fit.speeds)
    of = recipe.architecture.with_classes(2), recipe.frontend, recipe.fit, 0
    held_back = read.part(fold=2).tolist()
    trained = train_on(read, maps, read.part(fold=1).tolist(), *of, held_back=HeldBack(held_back))
    return {
        "normalisation": [*trained.frontend.mean, *trained.frontend.std],
        "ranges": trained.ranges,
        "best": trained.best and [trained.best.score, trained.best.step],
        "held_out": held_out_scores(trained, read, maps, held_back),
    }


@dataclass(frozen=True)
class Fragile:
    """Recordings of which one is not to be read."""

    maps: CorpusMaps
    clips: Sequence[int]
    damaged: int | None
    deadly: int | None
    slow: int | None

    def __len__(self) -> int:
        return len(self.clips)

    def select(self, clips: Sequence[int]) -> Fragile:
        return replace(self, clips=[self.clips[clip] for clip in clips])

    def logmel(self, clip: int) -> np.ndarray:
        if self.clips[clip] == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.clips[clip] == self.slow:
            time.sleep(1.2 * joining.PATIENCE.total_seconds())
        if self.clips[clip] == self.damaged:
            raise InputError(f"recording {self.damaged}: is damaged")
        return self.maps.logmel(self.clips[clip])


if __name__ == "__main__":
    main()
