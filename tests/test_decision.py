import json
from dataclasses import replace

import numpy as np
import pytest
from events import heard, wandering
from hypothesis import given
from hypothesis import strategies as st

from edgeq.decision import ClipScores, DecisionRule, Detector, Event, Rule, Smoother, Trigger, clip_scores
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


LABELS = ("bark", "chirp", "hum")
EIGHTHS = [part / 8 for part in range(9)]
"""So that scores meet thresholds exactly."""
RULES = st.builds(
    lambda on, ratio, smoothing, patience, cooldown, background: Rule(
        on, on * ratio, smoothing, patience, cooldown, background=background
    ),
    on=st.integers(1, 8).map(lambda eighths: eighths / 8),
    ratio=st.sampled_from([0.0, 0.5, 0.75, 1.0]),
    smoothing=st.integers(1, 4),
    patience=st.integers(1, 3),
    cooldown=st.integers(0, 4),
    background=st.sampled_from([(), ("chirp",)]),
)
SOUND = st.integers(0, 2**32).map(lambda seed: wandering(seed, EIGHTHS, 3))


@given(RULES, SOUND)
def test_events_are_those_of_the_definition(rule, windows):
    detector, found = Detector(rule, LABELS), []
    for index, (row, gated) in enumerate(windows):
        event = detector.update(index, np.array(row, np.float32), gated)
        if event:
            assert event.time_seconds == index and event.label in detector.active
            found.append((index, event.label, event.score, event.start_seconds))
    assert found == heard(rule, LABELS, windows)


@given(RULES, SOUND, st.lists(st.tuples(st.integers(1, 8), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=5))
def test_thresholds_beside_each_other_do_as_each_alone(rule, windows, pairs):
    on = np.array([eighths / 8 for eighths, _ in pairs])
    off = on * [ratio for _, ratio in pairs]
    smoother, trigger = Smoother(rule.smoothing, 3), Trigger(rule, LABELS, on, off)
    together = [trigger.update(smoother.add(np.array(row), gated)) for row, gated in windows]
    for pair in range(len(pairs)):
        alone = heard(replace(rule, on=float(on[pair]), off=float(off[pair])), LABELS, windows)
        begun = [(index, LABELS[row[pair]]) for index, row in enumerate(together) if row[pair] >= 0]
        assert begun == [(index, label) for index, label, _, _ in alone]


def count(rule: Rule, barks: list[float]) -> list[float]:
    """When a bark is told of, where its probabilities come every second."""
    detector = Detector(rule, LABELS)
    events = [detector.update(time, np.array([bark, 0.0, 0.0])) for time, bark in enumerate(barks)]
    return [event.time_seconds for event in events if event]


PLAIN = Rule(on=0.6, off=0.4, smoothing=1, patience=1, cooldown=0)


def test_hysteresis_keeps_one_event_where_scores_waver_between_the_thresholds():
    wavering = [0.1, 0.7, 0.5, 0.7, 0.45, 0.9, 0.1, 0.7]
    assert count(PLAIN, wavering) == [1, 7]
    assert count(replace(PLAIN, off=0.6), wavering) == [1, 3, 5, 7]


def test_patience_passes_over_what_is_short():
    assert count(replace(PLAIN, patience=3), [0.9, 0.9, 0.1, 0.9, 0.9, 0.9, 0.9]) == [5]


def test_cooldown_counts_from_the_end_of_an_event():
    assert count(replace(PLAIN, cooldown=2), [0.9, 0.1, 0.9, 0.9, 0.9, 0.9]) == [0, 4]


def test_smoothing_is_the_mean_of_the_last_windows():
    detector = Detector(replace(PLAIN, smoothing=2), LABELS)
    for bark in (0.8, 0.2, 0.6):
        detector.update(0.0, np.array([bark, 0.1, 0.0]))
    assert detector.scores == pytest.approx([0.4, 0.1, 0.0])


def test_below_the_floor_nothing_is_named():
    detector = Detector(replace(PLAIN, unknown=0.5), LABELS)
    assert detector.heard is None
    detector.update(0.0, np.array([0.2, 0.55, 0.25]))
    assert detector.heard == "chirp"
    detector.update(1.0, np.array([0.3, 0.45, 0.25]))
    assert detector.heard is None
    assert Detector(PLAIN, LABELS).heard is None


def test_a_reset_forgets_what_was_heard():
    detector = Detector(replace(PLAIN, patience=2), LABELS)
    assert detector.update(0.0, np.array([0.9, 0, 0])) is None
    detector.reset()
    assert detector.update(1.0, np.array([0.9, 0, 0])) is None
    assert detector.update(2.0, np.array([0.9, 0, 0])) == Event("bark", 0.9, 1.0, 2.0)
    assert detector.active == ("bark",)


def test_a_broken_window_is_refused():
    detector = Detector(PLAIN, LABELS)
    with pytest.raises(InputError, match="NaN"):
        detector.update(0.0, np.array([np.nan, 0, 0]))
    with pytest.raises(ValueError, match=r"expected \(3,\)"):
        detector.update(0.0, np.zeros(4))
    with pytest.raises(InputError, match="miaow"):
        Detector(replace(PLAIN, background=("miaow",)), LABELS)


def test_another_network_does_not_take_over_thresholds():
    assert DecisionRule(events=PLAIN).without_events() == DecisionRule()


def test_thresholds_of_ones_own_take_the_place_of_fitted_ones():
    rule = replace(PLAIN, patience=3)
    assert rule.overridden() == rule
    assert rule.overridden(off=0.1) == replace(rule, off=0.1)
    assert rule.overridden(on=0.9, off=0.8) == replace(rule, on=0.9, off=0.8)
    assert rule.overridden(on=0.3).off == pytest.approx(0.2)
    with pytest.raises(InputError, match=r"off is 0\.7"):
        rule.overridden(off=0.7)


@given(RULES, st.none() | st.sampled_from(EIGHTHS))
def test_a_fitted_rule_survives_json(rule, unknown):
    whole = DecisionRule(events=replace(rule, unknown=unknown))
    assert DecisionRule.from_json(json.loads(json.dumps(whole.to_json()))) == whole


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"on": 0.0}, "on is 0.0"),
        ({"on": float("nan")}, "on is nan"),
        ({"on": 0.3}, "off is 0.4: expected 0 to on"),
        ({"off": -0.1}, "off is -0.1"),
        ({"smoothing": 0}, "smoothing is 0"),
        ({"patience": True}, "patience is True"),
        ({"cooldown": 1.5}, "cooldown is 1.5"),
        ({"unknown": 2}, "unknown is 2"),
        ({"background": "bark"}, "found"),
        ({"background": [3]}, "background is"),
        ({"since": 3}, "found"),
    ],
)
def test_a_rule_out_of_range_is_refused(change, told):
    with pytest.raises(InputError, match=f"rule for events: .*{told}"):
        Rule.from_json({**PLAIN.to_json(), **change})
