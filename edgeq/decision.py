"""From window probabilities to a clip's scores: the rule that training, `classify` and `verify` share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq.errors import InputError

CLIP_MEAN = "clip-mean"


@dataclass(frozen=True)
class DecisionRule:
    """How a bundle's windows become one answer, as plain data.

    kind: "clip-mean", the mean of the probabilities of the ungated windows, of all of them where every one is gated.
    Raises InputError where the kind is unknown.
    """

    kind: str = CLIP_MEAN

    def __post_init__(self) -> None:
        if self.kind != CLIP_MEAN:
            raise InputError(f"decision: kind {self.kind!r}: expected {CLIP_MEAN!r}; a newer edgeq may know it")

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values, which `from_json` takes."""
        return {"kind": self.kind}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> DecisionRule:
        """Rebuild a rule. Raises InputError where a field is missing, unknown or of the wrong kind."""
        if not isinstance(fields, Mapping) or set(fields) != {"kind"}:
            raise InputError(f'decision: found {fields!r}: expected {{"kind": "{CLIP_MEAN}"}}')
        return cls(fields["kind"])


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
