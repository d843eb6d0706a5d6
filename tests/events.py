"""The rule for events by its definition, slow and plain, and recordings in which a model hears what it is told to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import bundles
import numpy as np
import pytest
import soundfile

from edgeq import runtime
from edgeq.audio.frontend import FrontendSpec
from edgeq.decision import Rule

FRONTEND = replace(bundles.FRONTEND, window_hop_seconds=0.5, gate=None)
"""Windows of a second, every half second."""


def heard(
    rule: Rule, labels: Sequence[str], windows: Sequence[tuple[Sequence[float], bool]]
) -> list[tuple[int, str, float, int]]:
    """Events by the definition in Rule's docstring, every window looked up in the whole past.

    windows: probabilities, and whether gated. Returns of each event the window, label, score and first window.
    """
    classes = range(len(labels))
    scores = []
    for index in range(len(windows)):
        last = windows[max(0, index - rule.smoothing + 1) : index + 1]
        scores.append([sum(0.0 if gate else row[label] for row, gate in last) / len(last) for label in classes])
    spans: dict[int, list[list[int]]] = {label: [] for label in classes}  # [its window, the window that ended it]
    events = []
    for index, row in enumerate(scores):
        could = []
        for label, past in spans.items():
            if past and past[-1][1] < 0 and row[label] < rule.off:
                past[-1][1] = index
            in_a_row = 0
            while in_a_row <= index and scores[index - in_a_row][label] >= rule.on:
                in_a_row += 1
            goes_on = past and past[-1][1] < 0
            rests = past and 0 < index - past[-1][1] <= rule.cooldown
            if in_a_row >= rule.patience and not goes_on and not rests and labels[label] not in rule.background:
                could.append((-row[label], label, index - in_a_row + 1))
        if could:
            score, label, start = min(could)
            spans[label].append([index, -1])
            events.append((index, labels[label], -score, start))
    return events


class Script:
    """A runtime that gives the windows of recordings, one after the other, the rows it was told."""

    def __init__(self, rows: Iterable[Sequence[float]]) -> None:
        self.rows = iter(rows)

    def predict(self, features: np.ndarray) -> np.ndarray:
        given = list(islice(self.rows, len(features)))
        assert len(given) == len(features)
        return np.array(given, np.float32)


def record(folder: Path, windows: dict[str, list[int]], spec: FrontendSpec = FRONTEND) -> Path:
    """Recordings of so many windows each, by label."""
    for label, counts in windows.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number, count in enumerate(counts):
            samples = round((spec.window_seconds + spec.window_hop_seconds * (count - 1)) * 8000)
            noise = np.random.default_rng(number).normal(0, 0.1, samples)
            soundfile.write(folder / label / f"{number}.wav", noise, 8000, subtype="FLOAT")
    return folder


def play(monkeypatch: pytest.MonkeyPatch, *clips: Iterable[Sequence[float]]) -> None:
    """Have every model that is opened from here on give these rows for the windows of recordings, in their order."""
    script = Script(chain.from_iterable(clips))
    monkeypatch.setattr(runtime, "open", lambda *_, **__: script)


def alone(label: int, *scores: float) -> list[list[float]]:
    """Windows in which one label has these scores and the others none."""
    return [[score if index == label else 0.0 for index in range(4)] for score in scores]


def wandering(seed: int, levels: Sequence[float], classes: int, windows: int = 80) -> list[tuple[list[float], bool]]:
    """Windows whose labels each stay at one of a few levels for a while, some of them gated.

    Levels that all labels share make scores tie and meet thresholds exactly.
    """
    random = np.random.default_rng(seed)
    stays = random.choice([0.2, 0.6, 1.0], size=classes)  # how readily each label goes to another level
    now = random.choice(levels, classes)
    rows = []
    for _ in range(windows):
        now = np.where(random.random(classes) < stays, random.choice(levels, classes), now)
        rows.append((now.tolist(), bool(random.random() < 0.05)))
    return rows
