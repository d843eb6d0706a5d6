import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.decision import ClipScores, DecisionRule, clip_scores
from edgeq.errors import InputError


def test_gated_windows_do_not_count():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]], np.float32)
    assert clip_scores(probabilities, np.array([False, True, False])) == pytest.approx([0.65, 0.35])


def test_all_windows_count_where_every_one_is_gated():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)
    assert clip_scores(probabilities, np.array([True, True])) == pytest.approx([0.55, 0.45])


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=30), st.integers(1, 7))
def test_any_split_into_batches_gives_the_mean_of_the_whole(windows, step):
    first = np.array([p for p, _ in windows], np.float32)
    gated = np.array([g for _, g in windows])
    probabilities = np.stack([first, 1 - first], axis=1)
    clip = ClipScores(2)
    for start in range(0, len(windows), step):
        clip.add(probabilities[start : start + step], gated[start : start + step])
    counted = probabilities if gated.all() else probabilities[~gated]
    np.testing.assert_allclose(clip.scores(), np.mean(counted, axis=0, dtype=np.float64), atol=1e-6)


@pytest.mark.parametrize(("probabilities", "gated"), [((3, 4), (2,)), ((3, 5), (3,)), ((3,), (3,))])
def test_wrong_shapes_are_refused(probabilities, gated):
    with pytest.raises(ValueError, match=r"expected probabilities \(n, 4\)"):
        ClipScores(4).add(np.zeros(probabilities, np.float32), np.zeros(gated, bool))


def test_a_clip_without_windows_has_no_scores():
    with pytest.raises(ValueError, match="no window"):
        clip_scores(np.zeros((0, 3), np.float32), np.zeros(0, bool))


def test_the_rule_survives_json():
    assert DecisionRule.from_json(DecisionRule().to_json()) == DecisionRule()


@pytest.mark.parametrize("fields", [{}, {"kind": "median"}, {"kind": "clip-mean", "on": 0.5}, [], None, {"kind": None}])
def test_an_unknown_rule_is_refused(fields):
    with pytest.raises(InputError, match="decision"):
        DecisionRule.from_json(fields)
