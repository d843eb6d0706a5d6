"""One training and what is measured of it: fit, normalise, calibrate, score clips in float and in INT8."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgeq.audio import frontend
from edgeq.audio.frontend import FrontendSpec
from edgeq.batches import batches
from edgeq.corpora import Corpus, metrics
from edgeq.errors import InputError
from edgeq.graph import quantize, reference
from edgeq.graph.ir import Graph
from edgeq.lowering.trace import lower
from edgeq.nets import arrays, registry
from edgeq.nets.spec import NetworkSpec
from edgeq.training import processes
from edgeq.training.competition import Best, Measured
from edgeq.training.config import FitConfig
from edgeq.training.evaluate import Logmels, Predict, batched_probabilities, normalisation, shared_probabilities
from edgeq.training.fit import OnProgress, fit
from edgeq.training.source import Recordings
from edgeq.training.teacher import Teacher

CALIBRATION_WINDOWS = 512


@dataclass(frozen=True, eq=False)
class Trained:
    """A fitted network with all that deploying it takes.

    frontend: with the normalisation it was trained under. ranges: least and largest value of each activation on
    windows of the training clips, as they are, without augmentation. best: what was measured of it while it was
    trained, where clips were held back for that.
    """

    network: nn.Module
    architecture: NetworkSpec
    frontend: FrontendSpec
    ranges: quantize.Ranges
    best: Best | None = None

    def weights(self) -> dict[str, np.ndarray]:
        """What a bundle stores of the network, as `nets.arrays.weights`."""
        return arrays.weights(self.network)

    def float_graph(self) -> Graph:
        """What the network computes, lowered."""
        return lower(self.network, self.architecture)

    def int8_graph(self) -> Graph:
        """The lowered network, quantized by `ranges`."""
        return quantize.quantize(self.float_graph(), self.ranges)

    def predict(self) -> Predict:
        """Probabilities of the float network in torch."""
        return partial(arrays.probabilities, self.network, self.architecture.output)


@dataclass(frozen=True)
class HeldBack:
    """Clips on which a network is measured while it is trained on others.

    clips: indices. every, keep: as `competition.Measured`.
    """

    clips: Sequence[int]
    every: int = 1
    keep: int = 1


def train_on(
    corpus: Corpus,
    maps: Recordings,
    clips: Sequence[int],
    architecture: NetworkSpec,
    spec: FrontendSpec,
    config: FitConfig,
    seed: int,
    checkpoint: Path | None = None,
    on_progress: OnProgress | None = None,
    start: nn.Module | None = None,
    teacher: Teacher | None = None,
    held_back: HeldBack | None = None,
) -> Trained:
    """Fit a network on some clips of a corpus and calibrate it on the same clips.

    maps: of the whole corpus, at speeds (1, *config.speeds). clips: indices. The network is fresh and spec's
    normalisation replaced by that of the clips; or it starts as a copy of `start`, a network of this architecture, and
    spec's normalisation, under which that was trained, is kept. teacher: its maps are of the whole corpus too. Of the
    networks that were measured on the clips of `held_back`, the best one is the result.
    Raises InputError where clips have several labels and the output is a softmax, and as `fit` and `Teacher.prepared`
    do.
    """
    if corpus.multi_label and architecture.output == "softmax":
        raise InputError(f'{corpus.name}: clips have several labels, the output is a softmax; give output = "sigmoid"')
    selected = maps.select(clips)
    if teacher is not None:
        teacher = teacher.prepared(corpus.labels, architecture.output, spec, clips)
    if start is None:
        mean, std = processes.current().from_main(lambda: normalisation(Logmels(selected), spec))
        spec = replace(spec, mean=tuple(mean), std=tuple(std))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed % (1 << 63))  # torch takes no larger ones
            network = registry.build(architecture)
    else:
        network = copy.deepcopy(start)
    source = selected.source(lambda of: corpus.positives([clips[i] for i in of]), spec, config)
    measured = None
    if held_back is not None:
        measure = partial(_measured, corpus, maps, held_back.clips, architecture, spec)
        measured = Measured(measure, corpus.subset(held_back.clips).hash, held_back.every, held_back.keep)
    best = fit(network, source, spec, config, seed, checkpoint, on_progress, architecture.output, teacher, measured)
    return Trained(network, architecture, spec, calibrate(network, architecture, Logmels(selected), spec), best)


def _measured(
    corpus: Corpus,
    maps: Recordings,
    clips: Sequence[int],
    architecture: NetworkSpec,
    spec: FrontendSpec,
    network: nn.Module,
) -> float:
    """Mean average precision where clips have several labels, else accuracy; each process scores a share of them."""
    predict = partial(arrays.probabilities, network, architecture.output)
    probabilities = shared_probabilities(predict, maps.select(clips), spec, architecture.classes, batched_probabilities)
    positives = corpus.positives(clips)
    if corpus.multi_label:
        return metrics.mean_average_precision(probabilities, positives)
    return metrics.accuracy(probabilities, positives.argmax(axis=1))


def calibrate(
    network: nn.Module, architecture: NetworkSpec, logmels: Sequence[np.ndarray], spec: FrontendSpec
) -> quantize.Ranges:
    """Activation ranges on `typical_windows` of clips: those that the first process finds, in all of them."""

    def observed() -> quantize.Ranges:
        few = batches(typical_windows(logmels, spec), keep=True)
        return quantize.observe(lower(network, architecture), (np.moveaxis(batch, 1, -1) for batch in few))

    found = processes.current().from_main(observed)
    return {name: (least, largest) for name, (least, largest) in found.items()}


def typical_windows(logmels: Sequence[np.ndarray], spec: FrontendSpec) -> np.ndarray:
    """CALIBRATION_WINDOWS ungated windows, spread evenly over clips: float32 (n, components, mels, frames).

    logmels: gone through twice, so that no more than these windows are held. Raises InputError where every window is
    gated.
    """
    ends = np.cumsum([len(_ungated(logmel, spec)) for logmel in logmels])
    if not ends[-1]:
        raise InputError(f"every window of the clips is below the gate of {spec.gate} dB: nothing to calibrate on")
    chosen = np.unique(np.linspace(0, ends[-1] - 1, CALIBRATION_WINDOWS).round().astype(int))
    clips = np.searchsorted(ends, chosen, side="right")
    windows = [
        _ungated(logmels[clip], spec)[chosen[clips == clip] - (ends[clip - 1] if clip else 0)]
        for clip in np.unique(clips).tolist()
    ]
    return frontend.features(np.concatenate(windows), spec)


def _ungated(logmel: np.ndarray, spec: FrontendSpec) -> np.ndarray:
    windows = frontend.cut(logmel, spec)
    return windows[~frontend.gated(windows, spec)]


def int8_predict(graph: Graph) -> Predict:
    """Probabilities of a quantized graph in the interpreter that LiteRT's reference kernels define."""

    def predict(features: np.ndarray) -> np.ndarray:
        codes = reference.quantize_input(graph, features.transpose(0, 2, 3, 1))
        return reference.dequantize_output(graph, reference.run(graph, codes))

    return predict


def held_out_scores(trained: Trained, corpus: Corpus, maps: Recordings, clips: Sequence[int]) -> dict[str, Any]:
    """What a training makes of clips it has not seen; each process scores a share of them.

    Returns how many clips there are, the probabilities of each in float and INT8, rounded to 5 digits, in the order of
    `clips`, and what follows from them: of one label a clip `targets`, counts of correct clips, mean log losses and
    float/INT8 agreement; where clips have several, their `positives` (indices of labels) and mean average precisions.
    """
    of = maps.select(clips), trained.frontend, trained.architecture.classes
    in_float = shared_probabilities(trained.predict(), *of)
    in_int8 = shared_probabilities(int8_predict(trained.int8_graph()), *of)
    measure = _precisions if corpus.multi_label else _accuracies
    return {
        "clips": len(clips),
        **measure(in_float, in_int8, corpus.positives(clips)),
        "probabilities_float": in_float.round(5).tolist(),
        "probabilities_int8": in_int8.round(5).tolist(),
    }


def _accuracies(in_float: np.ndarray, in_int8: np.ndarray, positives: np.ndarray) -> dict[str, Any]:
    targets = positives.argmax(axis=1)
    return {
        "correct_float": round(metrics.accuracy(in_float, targets) * len(targets)),
        "correct_int8": round(metrics.accuracy(in_int8, targets) * len(targets)),
        "log_loss_float": metrics.log_loss(in_float, targets),
        "log_loss_int8": metrics.log_loss(in_int8, targets),
        "agreeing": int((in_float.argmax(axis=1) == in_int8.argmax(axis=1)).sum()),
        "targets": targets.tolist(),
    }


def _precisions(in_float: np.ndarray, in_int8: np.ndarray, positives: np.ndarray) -> dict[str, Any]:
    return {
        "mean_average_precision_float": metrics.mean_average_precision(in_float, positives),
        "mean_average_precision_int8": metrics.mean_average_precision(in_int8, positives),
        "positives": [np.flatnonzero(row).tolist() for row in positives],
    }
