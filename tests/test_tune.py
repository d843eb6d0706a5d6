"""Thresholds fitted to recordings whose scores are made up: events counted by hand, and by the definition."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import bundles
import pytest
from events import FRONTEND, alone, heard, play, record
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeq import bundle, cli, corpora, runtime, tune
from edgeq.bundle import Bundle
from edgeq.corpora import metrics
from edgeq.decision import DecisionRule, Rule
from edgeq.errors import InputError

HOUR = 3600.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundles.plain(tmp_path_factory.mktemp("model") / "small", frontend=FRONTEND)


ONE = {"smoothing": 1, "patience": 1, "cooldown": 0}


def test_events_are_counted_as_by_hand(model: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = record(tmp_path / "data", {"bark": [4, 4], "hum": [5]})
    play(
        monkeypatch, alone(0, 0.1, 0.875, 0.875, 0.1), alone(1, 0.2, 0.2, 0.75, 0.2), alone(2, 0.5, 0.1, 0.9, 0.1, 0.6)
    )
    found = tune.tune(model, data, tmp_path / "out", false_alarms=0, **ONE)
    seconds = [2.5, 2.5, 3.0]  # a window of 1 s, another every half second
    assert found.hours == pytest.approx(sum(seconds) / HOUR) and found.events == 3
    by_on = {round(one.on * 100): one for one in found.curve}
    # Above 0.75 the chirp in the second recording is no false alarm; above 0.875 the first bark is missed too.
    assert (by_on[75].false_alarms, by_on[75].missed) == (1, 1)
    assert (by_on[76].false_alarms, by_on[76].missed) == (0, 1)
    assert (by_on[88].false_alarms, by_on[88].missed) == (0, 2)
    assert (by_on[91].false_alarms, by_on[91].missed) == (0, 3)
    assert by_on[15].false_alarms == 1  # one long chirp: 0.2 does not fall below 0.1
    # From 0.76 to 0.87 all do as well.
    assert (found.rule.on, found.rule.off) == (0.82, round(0.82 * 2 / 3, 4))
    assert found.missed == metrics.interval_over_clips(1, 3)
    assert found.false_alarms_per_hour.low == 0 and found.false_alarms_per_hour.high > 1000
    assert any("too few to show 0 or fewer false alarms an hour" in line for line in found.warnings)


def test_as_many_false_alarms_as_are_let_pass_are_taken_for_fewer_missed(
    model: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = record(tmp_path / "data", {"bark": [3], "hum": [3]})
    clips = alone(0, 0.1, 0.5, 0.1), alone(0, 0.1, 0.6, 0.1)
    play(monkeypatch, *clips)
    strict = tune.tune(model, data, tmp_path / "out", false_alarms=0, **ONE)
    assert (strict.counts.false_alarms, strict.counts.missed) == (0, 2) and strict.rule.on > 0.6
    play(monkeypatch, *clips)
    hour = sum(2.0 for _ in clips) / HOUR
    lenient = tune.tune(model, data, tmp_path / "out", false_alarms=1 / hour, **ONE)
    assert (lenient.counts.false_alarms, lenient.counts.missed) == (1, 1) and lenient.rule.on <= 0.5


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_counts_are_those_of_the_definition(
    model: Bundle, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    lengths = {"bark": [3, 7], "hum": [5], "street": [6]}  # a street is nothing that the model knows
    place = tmp_path_factory.mktemp("counts")
    folder = record(place / "data", lengths)
    shares = st.integers(0, 16).map(lambda part: part / 16)
    clips = [
        (label, data.draw(st.lists(st.lists(shares, min_size=4, max_size=4), min_size=count, max_size=count)))
        for label, counts in lengths.items()
        for count in counts
    ]
    rule = Rule(
        smoothing=data.draw(st.integers(1, 3)),
        patience=data.draw(st.integers(1, 2)),
        cooldown=data.draw(st.integers(0, 2)),
        background=data.draw(st.sampled_from([(), ("hum",)])),
    )
    with pytest.MonkeyPatch.context() as patch:
        play(patch, *(rows for _, rows in clips))
        given = replace(model, decision=DecisionRule(events=rule))
        found = tune.tune(given, folder, place / "out", false_alarms=200)
    assert (found.rule.smoothing, found.rule.background) == (rule.smoothing, rule.background)
    for one in found.curve[::7]:
        alarms = missed = 0
        for label, rows in clips:
            events = heard(replace(rule, on=one.on, off=one.off), bundles.LABELS, [(row, False) for row in rows])
            alarms += sum(event[1] != label for event in events)
            missed += label in set(bundles.LABELS) - {*rule.background} and label not in {event[1] for event in events}
        assert (one.false_alarms, one.missed) == (alarms, missed)
    allowed = [one for one in found.curve if one.false_alarms <= 200 * found.hours]
    fewest = min(one.false_alarms for one in found.curve)
    assert found.counts in (allowed or [one for one in found.curve if one.false_alarms == fewest])
    assert found.counts.missed == min(one.missed for one in allowed or [found.counts])
    by_label = {one.label: one for one in found.labels}
    chosen = replace(rule, on=found.rule.on, off=found.rule.off)
    events = [(label, heard(chosen, bundles.LABELS, [(row, False) for row in rows])) for label, rows in clips]
    for name in bundles.LABELS:
        alarms = sum(event[1] == name != label for label, told in events for event in told)
        own = [name in {event[1] for event in told} for label, told in events if label == name]
        own = [] if name in rule.background else own
        one = by_label.get(name, tune.LabelCounts(name, 0, 0, 0))
        assert (one.events, one.missed, one.false_alarms) == (len(own), own.count(False), alarms)


def test_the_bundle_keeps_the_rule_and_all_else(
    model: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = record(tmp_path / "data", {"bark": [3], "street": [3]})
    play(monkeypatch, alone(0, 0.9, 0.9, 0.9), alone(2, 0.0, 0.3, 0.0))
    place = tmp_path / "own"
    shutil.copytree(model.folder, place)
    command = ["tune-threshold", str(place), "--data", str(data), "--patience", "2", "--unknown", "0.25", "--json"]
    with pytest.raises(SystemExit) as left:
        cli.main([*command, "--background", "hum, knock", "-o", str(place)])
    out = json.loads(capsys.readouterr().out)
    assert left.value.code == 0 and out["missed"] == out["false_alarms_per_hour"] == 0
    again = bundle.read(place)
    bundle.check(again)
    rule = again.decision.events
    assert rule == Rule(out["on"], out["off"], patience=2, unknown=0.25, background=("hum", "knock"))
    assert out["counts"]["events"] == 1 and any(
        "1 recording of labels that are no event" in line for line in out["warnings"]
    )
    told, before = (bundles.manifest_of(one) for one in (again, model))
    assert {**told, "decision": before["decision"]} == before
    play(monkeypatch, alone(0, 0.9, 0.9, 0.9), alone(2, 0.0, 0.3, 0.0))
    with pytest.raises(SystemExit):
        cli.main([*command[:-1], "-o", str(place)])
    shown = capsys.readouterr().out
    assert "0 of 1 events missed" in shown and "too few" in shown
    rows = [line.split() for line in shown.splitlines() if re.match(r" *\d\.\d\d +\d\.\d\d ", line)]
    assert rows == sorted(rows) and len(rows) in (9, 10)
    assert [row[0] for row in rows if row[-1] == "chosen"] == [f"{out['on']:.2f}"]
    assert f"rule: on {out['on']:.2f}" in shown and "smoothing 3, patience 2, cooldown 4" in shown
    assert bundle.read(place).decision.events.background == ("hum", "knock")  # what is not given stays


def test_recordings_that_it_was_trained_on_are_left_out(
    model: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "meta.csv").write_text("file,fold,category\nbark/0.wav,1,bark\nhum/0.wav,1,hum\nhum/1.wav,2,hum\n")
    record(tmp_path / "audio", {"bark": [3], "hum": [3, 3]})
    corpus = corpora.open(tmp_path)
    first = corpus.select(lambda clip: clip.fold == 1)
    says = {"corpus": corpus.name, "corpus_sha256": first.hash, "clips": 2, "folds": [1], "exclude_licences": []}
    play(monkeypatch, alone(2, 0.9, 0.9, 0.9))
    found = tune.tune(replace(model, provenance=says), tmp_path, tmp_path / "out")
    assert found.events == 1 and any("2 of 3 recordings are left out" in line for line in found.warnings)
    says |= {"corpus_sha256": corpus.hash, "clips": 3, "folds": []}
    with pytest.raises(InputError, match="trained on all 3 recordings"):
        tune.tune(replace(model, provenance=says), tmp_path, tmp_path / "out")


def test_what_cannot_be_fitted_is_told(model: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = record(tmp_path / "data", {"street": [2], "forest": [2]})
    play(monkeypatch, alone(0, 0.9, 0.9), alone(0, 0.9, 0.9))
    with pytest.raises(InputError, match="none of the 2 recordings has a label that can be an event"):
        tune.tune(model, data, tmp_path / "out")
    with pytest.raises(InputError, match="background miaow"):
        tune.tune(model, data, tmp_path / "out", background=["miaow"])
    with pytest.raises(InputError, match="false alarms nan"):
        tune.tune(model, data, tmp_path / "out", false_alarms=float("nan"))
    with pytest.raises(InputError, match=r"none of the 2 recordings .* they are bark, forest; the model knows"):
        tune.tune(
            model, record(tmp_path / "barks", {"bark": [2], "forest": [2]}), tmp_path / "out", background=["bark"]
        )
    (tmp_path / "barks" / "forest" / "0.wav").write_bytes(b"no sound")
    play(monkeypatch, alone(0, 0.9, 0.9))
    with pytest.raises(InputError, match=r"1 of 2 clips cannot be used.*forest.0\.wav"):
        tune.tune(model, tmp_path / "barks", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_c_of_a_bundle_gets_the_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, quantized, _ = bundles.graphs()
    exports = {"tflite-int8": bundles.files(*bundles.graphs()[:2])["tflite-int8"], "c-int8": bundles.c_files(quantized)}
    spec = bundles.exported(tmp_path / "in", exports=exports).frontend
    data = record(tmp_path / "data", {"bark": [3], "street": [3]}, spec)
    with monkeypatch.context() as patch:
        play(patch, alone(0, 0.9, 0.9, 0.9), alone(2, 0.0, 0.3, 0.0))
        written = tune.tune(tmp_path / "in", data, tmp_path / "in", background=["hum"]).bundle
    assert {"c/small_events.c", "c/small_events.h", "c/edgeq_events.h"} <= set(written.files)
    assert runtime.open(written, stage="c-int8").name == "c"  # it runs nothing but the C that belongs to the bundle
