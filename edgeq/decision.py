"""From window probabilities to answers: a clip's scores, which training, `classify` and `verify` share, and the events
that `live`, `mine` and C hear in sound that goes on."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from edgeq.errors import InputError

CLIP_MEAN = "clip-mean"
MOST_WINDOWS = 1000
"""Most windows that a rule may smooth over, wait for or rest."""


@dataclass(frozen=True)
class Rule:
    """When sound that goes on becomes an event. The defaults are a start, fitted to nothing.

    A window's score for a label is the mean of its probabilities over the last `smoothing` windows, of those that came
    at the start; a gated window counts as 0. An event of a label begins where its score is at least `on` for `patience`
    windows in a row, and ends where it falls below `off` (`off` <= `on`). After that the label begins no event in the
    next `cooldown` windows. Where several labels could begin at one window, the one of the highest score does, the
    first of equals; the others may at the next. `background`: labels that never are events. `unknown`: below this score
    of the best label, no label is given for what is heard; events do not depend on it. Windows come on the front end's
    hop, `window_hop_seconds`.
    Raises InputError where a field is out of range.
    """

    on: float = 0.6
    off: float = 0.4
    smoothing: int = 3
    patience: int = 2
    cooldown: int = 4
    unknown: float | None = None
    background: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (_is_number(self.on) and 0 < self.on <= 1):
            raise InputError(f"rule for events: on is {self.on!r}: expected above 0, at most 1")
        if not (_is_number(self.off) and 0 <= self.off <= self.on):
            raise InputError(f"rule for events: off is {self.off!r}: expected 0 to on, which is {self.on}")
        for name, least in (("smoothing", 1), ("patience", 1), ("cooldown", 0)):
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= MOST_WINDOWS:
                raise InputError(
                    f"rule for events: {name} is {value!r}: expected {least} to {MOST_WINDOWS} windows, a whole number"
                )
        if self.unknown is not None and not (_is_number(self.unknown) and 0 <= self.unknown <= 1):
            raise InputError(f"rule for events: unknown is {self.unknown!r}: expected 0 to 1, or none")
        if not isinstance(self.background, tuple) or not all(isinstance(label, str) for label in self.background):
            raise InputError(f"rule for events: background is {self.background!r}: expected labels")

    def overridden(self, on: float | None = None, off: float | None = None, **others: Any) -> Rule:
        """The rule with fields of one's own, None for those that stay; where `on` alone is given, `off` keeps its part
        of it.

        Raises InputError where one is out of range.
        """
        if on is not None and off is None:
            off = self.off / self.on * on
        given = {"on": on, "off": off, **others}
        return replace(self, **{name: value for name, value in given.items() if value is not None})

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values, which `from_json` takes."""
        return {**asdict(self), "background": list(self.background)}

    @classmethod
    def from_json(cls, values: Any) -> Rule:
        """Rebuild a rule. Raises InputError where a field is missing, unknown or out of range."""
        names = {field.name for field in fields(cls)}
        if not isinstance(values, Mapping) or set(values) != names or not isinstance(values["background"], list):
            raise InputError(f"rule for events: found {values!r}: expected {', '.join(sorted(names))}")
        return cls(**{**values, "background": tuple(values["background"])})


@dataclass(frozen=True)
class DecisionRule:
    """How a bundle's windows become answers, as plain data.

    kind: of a clip's scores: "clip-mean", the mean of the probabilities of the ungated windows, of all of them where
    every one is gated. events: fitted to the model by `edgeq tune-threshold`; None where it was not.
    Raises InputError where the kind is unknown.
    """

    kind: str = CLIP_MEAN
    events: Rule | None = None

    def __post_init__(self) -> None:
        if self.kind != CLIP_MEAN:
            raise InputError(f"decision: kind {self.kind!r}: expected {CLIP_MEAN!r}; a newer edgeq may know it")

    def without_events(self) -> DecisionRule:
        """The rule for another network: thresholds that were fitted to one do not hold for the next."""
        return DecisionRule(self.kind)

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values, which `from_json` takes."""
        return {"kind": self.kind} if self.events is None else {"kind": self.kind, "events": self.events.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DecisionRule:
        """Rebuild a rule. Raises InputError where a field is missing, unknown or of the wrong kind."""
        if not isinstance(values, Mapping) or set(values) not in ({"kind"}, {"kind", "events"}):
            raise InputError(f'decision: found {values!r}: expected {{"kind": "{CLIP_MEAN}"}}, and maybe events')
        return cls(values["kind"], Rule.from_json(values["events"]) if "events" in values else None)


@dataclass(frozen=True)
class Event:
    """Something heard. Times in seconds, as `Detector.update` was told: of the first window of those in a row that
    reached `on`, and of the one at which it became an event. score: the label's at that one."""

    label: str
    score: float
    start_seconds: float
    time_seconds: float

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return asdict(self)


class Detector:
    """Events in sound that goes on, window by window, by a rule; memory does not grow.

    Raises InputError where the rule's background names a label that is not one of `labels`.
    """

    def __init__(self, rule: Rule, labels: Sequence[str]) -> None:
        self.rule = rule
        self.labels = tuple(labels)
        self.reset()

    def reset(self) -> None:
        """Forget what was heard: what comes next does not go on from it, as after a gap in the sound."""
        self._smoother = Smoother(self.rule.smoothing, len(self.labels))
        self._trigger = Trigger(self.rule, self.labels)
        self._since = np.zeros(len(self.labels))

    def update(self, time_seconds: float, probabilities: np.ndarray, gated: bool = False) -> Event | None:
        """Take in the next window. Returns the event that begins with it.

        time_seconds: any clock that goes forward, such as when the window ended. probabilities: (classes,). gated: the
        front end found nothing to hear in the window. Raises ValueError on another shape, InputError where a
        probability is not finite.
        """
        scores = self._smoother.add(probabilities, gated)
        begun = int(self._trigger.update(scores)[0])
        self._since = np.where(self._trigger.run[0] == 1, time_seconds, self._since)
        if begun < 0:
            return None
        return Event(self.labels[begun], float(scores[begun]), float(self._since[begun]), float(time_seconds))

    @property
    def scores(self) -> np.ndarray:
        """Smoothed scores of the labels as of the last window, float64 (classes,); 0 before the first."""
        return self._smoother.scores.copy()

    @property
    def heard(self) -> str | None:
        """The label of the best score; None before the first window, and below the rule's `unknown`."""
        best = int(self._smoother.scores.argmax())
        score = self._smoother.scores[best]
        return self.labels[best] if score > 0 and score >= (self.rule.unknown or 0) else None

    @property
    def active(self) -> tuple[str, ...]:
        """Labels whose event goes on."""
        return tuple(label for label, active in zip(self.labels, self._trigger.active[0], strict=True) if active)


class Smoother:
    """The mean of the last windows' probabilities; of those that came, where they are fewer."""

    def __init__(self, windows: int, classes: int) -> None:
        self._last: deque[np.ndarray] = deque(maxlen=windows)
        self.scores = np.zeros(classes)

    def add(self, probabilities: np.ndarray, gated: bool) -> np.ndarray:
        """Take in a window, (classes,); a gated one counts as 0. Returns the mean, float64 (classes,).

        Raises ValueError on another shape, InputError where a probability is not finite.
        """
        if np.shape(probabilities) != self.scores.shape:
            raise ValueError(f"window: expected {self.scores.shape}, found {np.shape(probabilities)}")
        if not np.isfinite(probabilities).all():
            raise InputError("the model's probabilities hold NaN or infinity; export the model again")
        self._last.append(np.zeros(len(self.scores)) if gated else np.asarray(probabilities, np.float64))
        # Summed anew: a running sum would carry what rounding left of windows long gone.
        self.scores = np.sum(self._last, axis=0) / len(self._last)
        return self.scores


class Trigger:
    """Where events begin and end by smoothed scores, for one pair of thresholds or several beside each other.

    on, off: (pairs,) instead of the rule's, off <= on. State, a row a pair, a column a label: `active`, whether an
    event goes on; `run`, how many windows in a row reached `on`.
    Raises InputError where the rule's background names a label that is not one of `labels`.
    """

    def __init__(
        self, rule: Rule, labels: Sequence[str], on: np.ndarray | None = None, off: np.ndarray | None = None
    ) -> None:
        strange = [label for label in rule.background if label not in labels]
        if strange:
            raise InputError(f"background {', '.join(strange)}: not among the labels: {', '.join(labels)}")
        self._rule = rule
        self._on = np.array([rule.on] if on is None else on)[:, None]
        self._off = np.array([rule.off] if off is None else off)[:, None]
        self._allowed = np.array([label not in rule.background for label in labels])
        shape = len(self._on), len(labels)
        self.active = np.zeros(shape, bool)
        self.run = np.zeros(shape, np.int64)
        self._rest = np.zeros(shape, np.int64)

    def update(self, scores: np.ndarray) -> np.ndarray:
        """Take in a window's smoothed scores, (classes,). Returns the index of the label that begins, -1 for none:
        (pairs,)."""
        ended = self.active & (scores < self._off)
        self.active &= ~ended
        self.run = np.where(scores >= self._on, self.run + 1, 0)
        ready = ~self.active & self._allowed & (self.run >= self._rule.patience) & (self._rest == 0)
        self._rest = np.where(ended, self._rule.cooldown, np.maximum(self._rest - 1, 0))
        begun = np.where(ready.any(axis=1), np.where(ready, scores, -1.0).argmax(axis=1), -1)
        rows = np.flatnonzero(begun >= 0)
        self.active[rows, begun[rows]] = True
        return begun


class ClipScores:
    """Scores of one clip whose windows come a few at a time; memory does not grow with the clip."""

    def __init__(self, classes: int) -> None:
        self._ungated = np.zeros(classes)
        self._all = np.zeros(classes)
        self._ungated_count = 0
        self._count = 0

    def add(self, probabilities: np.ndarray, gated: np.ndarray) -> None:
        """Take in windows: probabilities (n, classes), gated bool (n,). Raises ValueError on other shapes."""
        classes = len(self._all)
        if gated.ndim != 1 or probabilities.shape != (len(gated), classes):
            raise ValueError(
                f"windows: expected probabilities (n, {classes}) and gated (n,), "
                f"found {probabilities.shape} and {gated.shape}"
            )
        self._all += probabilities.sum(axis=0, dtype=np.float64)
        self._ungated += probabilities[~gated].sum(axis=0, dtype=np.float64)
        self._count += len(gated)
        self._ungated_count += int((~gated).sum())

    @property
    def silent(self) -> bool:
        """Whether every window so far was gated."""
        return not self._ungated_count

    def scores(self) -> np.ndarray:
        """Scores so far, float32 (classes,). Raises ValueError where no window came."""
        if not self._count:
            raise ValueError("clip scores: no window was added; a clip has at least one")
        total, count = (self._ungated, self._ungated_count) if self._ungated_count else (self._all, self._count)
        return (total / count).astype(np.float32)


def clip_scores(probabilities: np.ndarray, gated: np.ndarray) -> np.ndarray:
    """Scores of one clip from all of its windows.

    probabilities: (n, classes), gated: bool (n,), n at least 1. Returns float32 (classes,).
    Raises ValueError on other shapes.
    """
    clip = ClipScores(probabilities.shape[-1])
    clip.add(probabilities, gated)
    return clip.scores()


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
