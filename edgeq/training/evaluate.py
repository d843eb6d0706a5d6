"""From cached log-mel maps to clip probabilities, by the rule a bundle is deployed under, and to normalisation."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, overload

import numpy as np
import torch

from edgeq.audio import frontend
from edgeq.audio.frontend import FrontendSpec
from edgeq.batches import batch_size
from edgeq.decision import clip_scores
from edgeq.errors import InputError
from edgeq.training import processes
from edgeq.training.ahead import ahead

if TYPE_CHECKING:
    from edgeq.training.source import Recordings

Predict = Callable[[np.ndarray], np.ndarray]
Score = Callable[[Predict, Iterable[np.ndarray], FrontendSpec], np.ndarray]

MOST_CLIPS = 4096
"""Of how many clips normalisation, ranges and the accuracy on training clips are taken; more would say the same."""


class Logmels(Sequence[np.ndarray]):
    """Log-mel of recordings, a few read ahead of their turn; of more than `most` so many, spread evenly.

    clips: which these are. Each is float32 (logmel_rows, frames).
    """

    def __init__(self, recordings: Recordings, most: int = MOST_CLIPS) -> None:
        self.recordings, count = recordings, len(recordings)
        self.clips = range(count) if count <= most else [count * i // most for i in range(most)]

    def __len__(self) -> int:
        return len(self.clips)

    def __iter__(self) -> Iterator[np.ndarray]:
        return ahead(self.recordings.logmel, self.clips)

    @overload
    def __getitem__(self, number: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, number: slice) -> list[np.ndarray]: ...
    def __getitem__(self, number: int | slice) -> np.ndarray | list[np.ndarray]:
        if isinstance(number, slice):
            return [self.recordings.logmel(clip) for clip in self.clips[number]]
        return self.recordings.logmel(self.clips[number])


def clip_probabilities(predict: Predict, logmels: Iterable[np.ndarray], spec: FrontendSpec) -> np.ndarray:
    """Scores of each clip: the mean over its ungated windows.

    predict: features (n, components, mels, frames) to probabilities (n, classes). logmels: (logmel_rows, frames) a
    clip. Returns float32 (clips, classes).
    """
    scores = []
    for logmel in logmels:
        windows = frontend.cut(logmel, spec)
        scores.append(clip_scores(predict(frontend.features(windows, spec)), frontend.gated(windows, spec)))
    return np.stack(scores)


def batched_probabilities(predict: Predict, logmels: Iterable[np.ndarray], spec: FrontendSpec) -> np.ndarray:
    """As `clip_probabilities`, with windows of several clips in one batch: faster, and rounded otherwise."""
    gates: deque[np.ndarray] = deque()

    def features() -> Iterator[np.ndarray]:
        for logmel in logmels:
            windows = frontend.cut(logmel, spec)
            gates.append(frontend.gated(windows, spec))
            yield from frontend.features(windows, spec)

    scores, answers = [], []
    waiting, size = features(), batch_size(spec.n_mels, spec.window_frames)
    while batch := list(islice(waiting, size)):
        answers += list(predict(np.stack(batch)))
        while gates and len(gates[0]) <= len(answers):
            gate = gates.popleft()
            scores.append(clip_scores(np.stack(answers[: len(gate)]), gate))
            del answers[: len(gate)]
    return np.stack(scores)


def shared_probabilities(
    predict: Predict, recordings: Recordings, spec: FrontendSpec, classes: int, score: Score = clip_probabilities
) -> np.ndarray:
    """Scores of recordings that processes take in turns: float32 (clips, classes), the same in all of them.

    score: how each scores its own, `clip_probabilities` or `batched_probabilities`. Raises InputError in every process
    where one cannot score a recording of its own, and as `Processes.gather_rows`.
    """
    together, count = processes.current(), len(recordings)
    turns = [np.arange(rank, count, together.count) for rank in range(together.count)]
    own = turns[together.rank].tolist()

    def scores() -> torch.Tensor:
        if not own:  # fewer recordings than processes
            return torch.zeros(0, classes)
        return torch.from_numpy(score(predict, Logmels(recordings.select(own), most=len(own)), spec))

    gathered = together.gather_rows(scores).numpy()
    probabilities = np.empty_like(gathered)
    probabilities[np.concatenate(turns)] = gathered
    return probabilities


def normalisation(logmels: Iterable[np.ndarray], spec: FrontendSpec) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each component over the ungated windows of the training clips.

    logmels: (logmel_rows, frames) a clip. Returns (means, deviations), one a component, in the units of the log-mel;
    a component that never varies gets deviation 1. Raises InputError where every window is gated.
    """
    count, total, squares = 0, np.zeros(spec.components), np.zeros(spec.components)
    plain = _unnormalised(spec)
    for logmel in logmels:
        windows = frontend.cut(logmel, plain)
        heard = frontend.features(windows[~frontend.gated(windows, plain)], plain).astype(np.float64)
        count += heard.size // spec.components
        total += heard.sum(axis=(0, 2, 3))
        squares += (heard**2).sum(axis=(0, 2, 3))
    if not count:
        raise InputError(f"every window of the clips is below the gate of {spec.gate} dB; lower it in the recipe")
    mean = total / count
    variance = np.maximum(squares / count - mean**2, 0.0)
    deviation = np.where(variance > 0, np.sqrt(variance), 1.0)
    return tuple(map(float, mean)), tuple(map(float, deviation))


def _unnormalised(spec: FrontendSpec) -> FrontendSpec:
    return replace(spec, mean=(0.0,) * spec.components, std=(1.0,) * spec.components)
