"""Metrics against scikit-learn and SciPy."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import scipy.stats
import sklearn.calibration
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from edgeq.corpora import metrics
from edgeq.errors import InputError


def scored(clips: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.dirichlet(np.ones(classes), clips).astype(np.float32), random.integers(0, classes, clips)


@given(st.integers(1, 40), st.integers(2, 6), st.integers(0, 1000))
def test_agrees_with_scikit_learn(clips: int, classes: int, seed: int) -> None:
    probabilities, targets = scored(clips, classes, seed)
    predicted, labels = probabilities.argmax(axis=1), np.arange(classes)
    assert metrics.accuracy(probabilities, targets) == pytest.approx(sklearn.metrics.accuracy_score(targets, predicted))
    exact = probabilities.astype(float)
    expected = sklearn.metrics.log_loss(targets, exact / exact.sum(axis=1, keepdims=True), labels=labels)
    assert metrics.log_loss(probabilities, targets, floor=1e-15) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_array_equal(
        metrics.confusion_matrix(probabilities, targets),
        sklearn.metrics.confusion_matrix(targets, predicted, labels=labels),
    )


@given(st.lists(st.integers(1, 30), min_size=1, max_size=10), st.integers(0, 1000))
def test_folds_count_alike_in_their_mean(clips: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    targets, found = ([random.integers(0, 3, size) for size in clips] for _ in range(2))
    correct = [int((a == b).sum()) for a, b in zip(targets, found, strict=True)]
    expected = np.mean([sklearn.metrics.accuracy_score(a, b) for a, b in zip(targets, found, strict=True)])
    assert metrics.accuracy_over_folds(correct, clips) == pytest.approx(expected)


@pytest.mark.parametrize(("correct", "clips"), [((), ()), ((1,), (0,)), ((3,), (2,)), ((1, 1), (2,)), ((-1,), (2,))])
def test_folds_without_clips_have_no_accuracy(correct: tuple[int, ...], clips: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="expected some clips in each fold"):
        metrics.accuracy_over_folds(correct, clips)


def test_log_loss_of_a_certain_mistake_is_finite() -> None:
    assert metrics.log_loss(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(-np.log(1e-7))


@given(st.integers(1, 60), st.integers(2, 6), st.integers(1, 20), st.integers(0, 1000))
def test_calibration_error_is_that_of_scikit_learn_s_curve(clips: int, classes: int, bins: int, seed: int) -> None:
    probabilities, targets = scored(clips, classes, seed)
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == targets
    accuracies, means = sklearn.calibration.calibration_curve(correct, confidence, n_bins=bins)
    edges = np.linspace(0, 1, bins + 1)
    inside = [np.sum((low < confidence) & (confidence <= high)) for low, high in itertools.pairwise(edges)]
    expected = np.sum([n for n in inside if n] * np.abs(accuracies - means)) / clips
    assert metrics.expected_calibration_error(probabilities, targets, bins) == pytest.approx(expected, abs=1e-6)


def test_calibration_error_by_hand() -> None:
    # Two bins. (0, 0.5]: one clip, 0.5 sure and right. (0.5, 1]: 0.9 and 0.7 sure, one of them right.
    probabilities = np.array([[0.5, 0.5], [0.9, 0.1], [0.3, 0.7]])
    found = metrics.expected_calibration_error(probabilities, np.array([0, 0, 0]), bins=2)
    assert found == pytest.approx(1 / 3 * abs(1 - 0.5) + 2 / 3 * abs(0.5 - 0.8))
    certain = np.eye(3)  # always right, and sure of it
    assert metrics.expected_calibration_error(certain, np.arange(3)) == 0
    assert metrics.expected_calibration_error(certain, np.array([1, 2, 0])) == 1


@given(st.integers(1, 40), st.integers(1, 5), st.sampled_from([3, 1000]), st.integers(0, 1000))
def test_average_precision_agrees_with_scikit_learn(clips: int, classes: int, steps: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    probabilities = random.integers(0, steps + 1, (clips, classes)) / steps  # few steps: many clips alike
    positives = random.random((clips, classes)) < 0.3
    positives[0, 0] = True
    present = positives.any(axis=0)
    expected = sklearn.metrics.average_precision_score(
        positives[:, present], probabilities[:, present], average="macro"
    )
    assert metrics.mean_average_precision(probabilities, positives) == pytest.approx(expected)


@given(st.integers(2, 40), st.integers(2, 6), st.integers(0, 1000))
def test_a_class_without_positives_is_what_scikit_learn_counts_as_none(clips: int, classes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    probabilities, positives = random.random((clips, classes)), random.random((clips, classes)) < 0.5
    positives[0, 0], positives[:, -1] = True, False
    present = positives.any(axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # scikit-learn says that there are no positives
        theirs = sklearn.metrics.average_precision_score(positives, probabilities, average="macro")
    assert metrics.mean_average_precision(probabilities, positives) * present.mean() == pytest.approx(theirs)


def test_a_class_without_positives_is_left_out_of_the_mean() -> None:
    probabilities = np.array([[0.9, 0.9], [0.1, 0.2]])
    assert metrics.mean_average_precision(probabilities, np.array([[True, False], [False, False]])) == 1
    with pytest.raises(InputError, match="no clip holds"):
        metrics.mean_average_precision(probabilities, np.zeros((2, 2), bool))
    with pytest.raises(InputError, match="NaN"):
        metrics.mean_average_precision(np.array([[np.nan, 1]]), np.array([[True, False]]))
    for positives in (np.zeros((2, 2)), np.zeros((2, 3), bool)):
        with pytest.raises(InputError, match="expected"):
            metrics.mean_average_precision(probabilities, positives)


@given(st.lists(st.floats(0.2, 0.8), min_size=2, max_size=31))
def test_interval_over_seeds_is_students(values: list[float]) -> None:
    interval = metrics.interval_over_seeds(values)
    assert interval.mean == pytest.approx(np.mean(values))
    error = scipy.stats.sem(values)
    if error > 1e-9:
        low, high = scipy.stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=error)
        assert interval.low == pytest.approx(max(0, low), abs=1e-6)
        assert interval.high == pytest.approx(min(1, high), abs=1e-6)


def test_one_seed_has_no_interval() -> None:
    interval = metrics.interval_over_seeds([0.9])
    assert (interval.low, interval.mean, interval.high) == (0.9, 0.9, 0.9)
    assert "one seed" in interval.method


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_interval_over_clips_is_wilsons(counts: tuple[int, int]) -> None:
    correct, clips = counts
    expected = scipy.stats.binomtest(correct, clips).proportion_ci(0.95, method="wilson")
    interval = metrics.interval_over_clips(correct, clips)
    assert interval.low == pytest.approx(expected.low, abs=1e-9)
    assert interval.high == pytest.approx(expected.high, abs=1e-9)
    assert interval.low <= interval.mean <= interval.high


@pytest.mark.parametrize(
    ("probabilities", "targets"),
    [
        (np.ones((3, 2)), np.array([0, 1])),
        (np.ones((2, 2)), np.array([0, 2])),
        (np.ones((2, 2)), np.array([-1, 0])),
        (np.ones((2, 2)), np.array([0.0, 1.0])),
        (np.ones((0, 2)), np.array([], int)),
        (np.ones(2), np.array([0, 1])),
    ],
)
def test_refuses_what_does_not_fit(probabilities: np.ndarray, targets: np.ndarray) -> None:
    for metric in (
        metrics.accuracy,
        metrics.log_loss,
        metrics.confusion_matrix,
        metrics.expected_calibration_error,
    ):
        with pytest.raises(InputError):
            metric(probabilities, targets)


def test_refuses_counts_out_of_range() -> None:
    with pytest.raises(InputError, match="0 bins"):
        metrics.expected_calibration_error(np.eye(2), np.arange(2), bins=0)
    for correct, clips in ((1, 0), (-1, 3), (4, 3)):
        with pytest.raises(InputError):
            metrics.interval_over_clips(correct, clips)
    for values in ([], [0.5] * 32):
        with pytest.raises(InputError):
            metrics.interval_over_seeds(values)


@given(st.integers(0, 300), st.floats(0.01, 1000))
def test_events_an_hour_have_the_exact_poisson_interval(events, hours):
    found = metrics.interval_over_hours(events, hours)
    low = scipy.stats.chi2.ppf(0.025, 2 * events) / 2 if events else 0.0
    high = scipy.stats.chi2.ppf(0.975, 2 * events + 2) / 2
    assert (found.mean, found.low, found.high) == pytest.approx(
        (events / hours, low / hours, high / hours), rel=1e-6, abs=0
    )


@pytest.mark.parametrize(("events", "hours"), [(-1, 1.0), (0, 0.0), (0, float("nan"))])
def test_events_in_no_time_have_no_interval(events, hours):
    with pytest.raises(InputError, match="interval over hours"):
        metrics.interval_over_hours(events, hours)
