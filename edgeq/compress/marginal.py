"""How well an ensemble hears recordings: its members, all of them together, and all but each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeq.audio import frontend
from edgeq.audio.frontend import FrontendSpec
from edgeq.batches import batches
from edgeq.corpora import Corpus, metrics
from edgeq.decision import clip_scores
from edgeq.errors import InputError
from edgeq.graph import reference
from edgeq.graph.int8_kernels import INT8_KERNELS
from edgeq.graph.ir import Graph, Logistic, Softmax
from edgeq.progress import progress
from edgeq.training.evaluate import Predict
from edgeq.training.features import corpus_maps
from edgeq.training.trial import int8_predict

Group = tuple[int, ...]
"""Members of an ensemble by number, whose answers are averaged."""


@dataclass(frozen=True, eq=False)
class Heard:
    """Recordings whose label a model knows: log-mel maps (logmel_rows, frames), and the label's number, (clips,)."""

    logmels: tuple[np.ndarray, ...]
    targets: np.ndarray


@dataclass(frozen=True)
class Accuracy:
    """Fractions of clips: int8 in the reference interpreter, in_float in torch."""

    int8: float
    in_float: float

    def to_json(self) -> dict[str, float]:
        """As summaries of a training say it: accuracy is that of INT8."""
        return {"accuracy": self.int8, "accuracy_float": self.in_float}


def listen(corpus: Corpus, labels: Sequence[str], spec: FrontendSpec) -> Heard:
    """The recordings of a corpus that have one of these labels. Raises InputError where none has."""
    known = tuple(clip for clip in corpus.clips if clip.label in labels)
    if not known:
        raise InputError(
            f"{corpus.name}: its labels are {', '.join(corpus.labels):.80}, the models know {', '.join(labels):.80}: "
            "expected some in common"
        )
    with progress(f"{corpus.name}: log-mel", len(known)) as advance:
        maps = corpus_maps(replace(corpus, clips=known), spec, advance=advance)
    return Heard(maps.logmels[0], np.array([labels.index(clip.label) for clip in known]))


def accuracy_of(predict: Predict, int8: Graph, heard: Heard, spec: FrontendSpec) -> Accuracy:
    """Of one network. predict: its probabilities in float; int8: its graph, quantized."""
    rounded = int8_predict(int8)
    scores = ([], [])  # type: tuple[list[np.ndarray], list[np.ndarray]]
    for inputs, gated in _windows(heard, spec):
        for found, answer in zip(scores, (rounded, predict), strict=True):
            found.append(clip_scores(np.concatenate([answer(few) for few in batches(inputs)]), gated))
    return Accuracy(*(metrics.accuracy(np.stack(found), heard.targets) for found in scores))


def accuracies(
    members: Sequence[Predict], int8: Graph, groups: Iterable[Group], heard: Heard, spec: FrontendSpec
) -> dict[Group, Accuracy]:
    """Of the ensemble that each group of members would be, a single one among them.

    members: their probabilities in float. int8: the quantized graph of all of them, which shares no maps; a smaller
    group's answer is the mean, by that graph's own operator, of what its members give there.
    """
    groups = list(groups)
    scores: dict[tuple[Group, bool], list[np.ndarray]] = {(one, kind): [] for one in groups for kind in (True, False)}
    for inputs, gated in _windows(heard, spec):
        each = np.stack([np.concatenate([answer(few) for few in batches(inputs)]) for answer in members])
        codes = np.concatenate([_codes(int8, few) for few in batches(inputs, keep=True)])
        for group in groups:
            scores[group, False].append(clip_scores(each[list(group)].mean(axis=0), gated))
            scores[group, True].append(clip_scores(_mean(int8, codes[:, list(group)]), gated))
    found = {key: metrics.accuracy(np.stack(rows), heard.targets) for key, rows in scores.items()}
    return {group: Accuracy(found[group, True], found[group, False]) for group in groups}


def _windows(heard: Heard, spec: FrontendSpec) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Network inputs of each clip, and which of its windows are gated."""
    with progress("recordings", len(heard.logmels)) as advance:
        for logmel in heard.logmels:
            windows = frontend.cut(logmel, spec)
            yield frontend.features(windows, spec), frontend.gated(windows, spec)
            advance(1)


def _codes(graph: Graph, inputs: np.ndarray) -> np.ndarray:
    """Codes of each member's probabilities in the graph of an ensemble: (n, members, classes)."""
    values = reference.run(graph, reference.quantize_input(graph, np.moveaxis(inputs, 1, -1)), keep=True)
    return np.stack([values[op.output] for op in graph.ops if isinstance(op, (Softmax, Logistic))], axis=1)


def _mean(graph: Graph, codes: np.ndarray) -> np.ndarray:
    op = graph.producer(graph.output)
    assert op is not None  # a graph's output is made by an operator
    return reference.dequantize_output(graph, INT8_KERNELS[type(op)](op, graph.tensors, codes))
