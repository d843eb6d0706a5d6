"""How well clips were classified, and how sure that figure is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeq.errors import InputError

CALIBRATION_BINS = 15
"""Bins of the expected calibration error, as in its source."""


@dataclass(frozen=True)
class Interval:
    """A mean and the 95 % interval around it; `method` says how the interval was made."""

    mean: float
    low: float
    high: float
    method: str


def accuracy(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Fraction of rows whose largest probability is at the target.

    probabilities: (clips, classes). targets: (clips,) integers. Raises InputError where shapes or classes disagree.
    """
    probabilities, targets = _checked(probabilities, targets)
    return float(np.mean(probabilities.argmax(axis=1) == targets))


def accuracy_over_folds(correct: Sequence[int], clips: Sequence[int]) -> float:
    """Mean over folds of the fraction of each fold's clips that are classified right.

    correct, clips: of each fold. Folds count alike, whatever their size; where they are of one size this is the
    accuracy of all clips. Raises InputError where there is no fold, one is empty, or has more correct than clips.
    Source: quaternion paper, Eq. 10.
    """
    if (
        not clips
        or len(correct) != len(clips)
        or not all(0 <= c <= n and n for c, n in zip(correct, clips, strict=True))
    ):
        raise InputError(
            f"accuracy over folds: {list(correct)} of {list(clips)} clips, expected some clips in each fold"
        )
    return math.fsum(c / n for c, n in zip(correct, clips, strict=True)) / len(clips)


def log_loss(probabilities: np.ndarray, targets: np.ndarray, floor: float = 1e-7) -> float:
    """Mean of -ln p(target), with p held at `floor` or above, since INT8 probabilities can be exactly 0.

    probabilities: (clips, classes). targets: (clips,) integers. Raises InputError as `accuracy`.
    """
    probabilities, targets = _checked(probabilities, targets)
    chosen = probabilities[np.arange(len(targets)), targets]
    return float(-np.log(np.clip(chosen, floor, 1.0)).mean())


def confusion_matrix(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Counts (classes, classes): row is the target, column the class with the largest probability.

    probabilities: (clips, classes). targets: (clips,) integers. Raises InputError as `accuracy`.
    """
    probabilities, targets = _checked(probabilities, targets)
    classes = probabilities.shape[1]
    pairs = targets * classes + probabilities.argmax(axis=1)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def expected_calibration_error(probabilities: np.ndarray, targets: np.ndarray, bins: int = CALIBRATION_BINS) -> float:
    """How far confidence lies from accuracy: over bins of equal width, the mean of |accuracy - mean confidence|,
    weighted by the clips in each.

    A row's confidence is its largest probability; bin m of M holds those in ((m-1)/M, m/M], and an empty one counts
    nothing. probabilities: (clips, classes). targets: (clips,) integers. Returns 0 (calibrated) to 1.
    Raises InputError as `accuracy`, and where there is no bin.
    Source: Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017, Eq. 3, with the
    15 bins of its tables.
    """
    probabilities, targets = _checked(probabilities, targets)
    if bins < 1:
        raise InputError(f"calibration error: {bins} bins, expected at least 1")
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = probabilities.argmax(axis=1) == targets
    index = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence)
    # A bin's clips over all clips cancel against its own means: what is left are sums.
    gaps = np.bincount(index, correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(targets))


def mean_average_precision(probabilities: np.ndarray, positives: np.ndarray) -> float:
    """Mean over classes of the average precision: for sounds of which several may be heard at once.

    A class's average precision is the sum over its thresholds, falling, of (gain in recall) x (precision); clips of
    equal probability pass a threshold together. A class without a positive clip has no recall and is left out of the
    mean: scikit-learn and torchmetrics count it as 0, which lowers the figure of a small copy of AudioSet; with all 527
    classes present, as in its evaluation set, all agree. probabilities: (clips, classes), or scores of any scale.
    positives: (clips, classes) bool, which classes each clip holds.
    Raises InputError where shapes disagree, a probability is NaN, or no clip holds any class.
    Source: quaternion paper, Eq. 9.
    """
    probabilities, positives = np.asarray(probabilities), np.asarray(positives)
    if np.isnan(probabilities).any():
        raise InputError("mean average precision: found NaN among the probabilities, expected numbers")
    if probabilities.ndim != 2 or positives.shape != probabilities.shape or positives.dtype != bool:
        raise InputError(
            f"probabilities {probabilities.shape}, positives {positives.shape} {positives.dtype}: expected "
            "(clips, classes) of both, and bool"
        )
    present = positives.any(axis=0)
    if not present.any():
        raise InputError("mean average precision: no clip holds any of the classes; expected one at least")
    return float(np.mean([_average_precision(probabilities[:, i], positives[:, i]) for i in np.flatnonzero(present)]))


def interval_over_seeds(values: Sequence[float], least: float = 0.0) -> Interval:
    """Mean over independent trainings and its 95 % Student interval: how much another seed would move the figure.

    Says nothing about other clips; `interval_over_clips` does. With one value, low and high are that value. least: what
    a value can be at least; differences of accuracies can be -1.
    Raises InputError where there is no value, or more than the 31 that the table of quantiles covers.
    """
    if not 0 < len(values) <= len(_STUDENT_975) + 1:
        raise InputError(f"interval over {len(values)} seeds: expected 1 to {len(_STUDENT_975) + 1}")
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Interval(mean, mean, mean, "one seed: no interval")
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    half = _STUDENT_975[len(values) - 2] * math.sqrt(variance / len(values))
    return Interval(mean, max(least, mean - half), min(1.0, mean + half), "Student, 95 %, over seeds")


def interval_over_clips(correct: float, clips: int) -> Interval:
    """Fraction correct and its 95 % Wilson interval: how much other clips of the same kind would move the figure.

    correct: how many clips, or the mean of that over trainings scored on the same clips. Clips cut from one recording
    are not independent, so the true interval is somewhat wider.
    Raises InputError where clips is not positive or correct lies outside 0..clips.
    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
    """
    if clips < 1 or not 0 <= correct <= clips:
        raise InputError(f"interval over clips: found {correct} of {clips}, expected 0 <= correct <= clips, clips >= 1")
    fraction, weight = correct / clips, _NORMAL_975**2 / clips
    middle = (fraction + weight / 2) / (1 + weight)
    half = _NORMAL_975 / (1 + weight) * math.sqrt(fraction * (1 - fraction) / clips + weight / (4 * clips))
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return Interval(fraction, min(low, fraction), max(high, fraction), "Wilson, 95 %, over clips")


def interval_over_hours(events: int, hours: float) -> Interval:
    """Events an hour and the exact 95 % Poisson interval: how much other hours of the same kind would move the figure.

    Events that have one cause are not independent, so the true interval is somewhat wider.
    Raises InputError where events is negative or hours is not positive.
    Source: Garwood, "Fiducial limits for the Poisson distribution", Biometrika 28 (1936).
    """
    if events < 0 or not hours > 0:
        raise InputError(f"interval over hours: found {events} events in {hours} hours, expected 0 or more in some")
    low = _poisson_mean(events - 1, 0.975) if events else 0.0
    high = _poisson_mean(events, 0.025)
    return Interval(events / hours, low / hours, high / hours, "Poisson, 95 %, over hours")


_NORMAL_975 = 1.959963984540054
# Student's 0.975 quantiles for 1 to 30 degrees of freedom; held against scipy by a test.
_STUDENT_975 = (
    12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157, 2.228139,
    2.200985, 2.178813, 2.160369, 2.144787, 2.131450, 2.119905, 2.109816, 2.100922, 2.093024, 2.085963,
    2.079614, 2.073873, 2.068658, 2.063899, 2.059539, 2.055529, 2.051831, 2.048407, 2.045230, 2.042272,
)  # fmt: skip


def _poisson_mean(most: int, chance: float) -> float:
    """The mean of a Poisson count that is at most `most` with this chance."""
    low, high = 0.0, most + 10.0 * math.sqrt(most + 1.0) + 10.0
    while high - low > 1e-9 * high:
        mean = (low + high) / 2
        logs = (count * math.log(mean) - mean - math.lgamma(count + 1) for count in range(most + 1))
        low, high = (mean, high) if math.fsum(map(math.exp, logs)) > chance else (low, mean)
    return (low + high) / 2


def _average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    order = np.argsort(-scores, kind="stable")
    scores, found = scores[order], np.cumsum(positive[order])
    last = np.append(scores[1:] != scores[:-1], True)  # of those that pass together
    found, passed = found[last], np.flatnonzero(last) + 1
    return float(np.sum(np.diff(found, prepend=0) / found[-1] * found / passed))


def _checked(probabilities: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    probabilities, targets = np.asarray(probabilities), np.asarray(targets)
    if probabilities.ndim != 2 or targets.shape != probabilities.shape[:1] or not len(targets):
        raise InputError(
            f"probabilities {probabilities.shape}, targets {targets.shape}: expected (clips, classes) and (clips,), "
            "at least one clip"
        )
    if not np.issubdtype(targets.dtype, np.integer) or targets.min() < 0 or targets.max() >= probabilities.shape[1]:
        raise InputError(f"targets: expected whole numbers from 0 to {probabilities.shape[1] - 1}, found {targets!r}")
    return probabilities, targets
