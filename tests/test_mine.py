"""Audio that is kept of what a model hears: the right stretch of it, once, whatever stops the run."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path

import bundles
import numpy as np
import pytest
import soundfile
from events import FRONTEND, alone, play, record

from edgeq import bundle, cli, mine
from edgeq.bundle import Bundle
from edgeq.decision import DecisionRule, Rule
from edgeq.errors import InputError

PLAIN = Rule(on=0.6, off=0.4, smoothing=1, patience=1, cooldown=0)
RATE = FRONTEND.sample_rate


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    place = tmp_path_factory.mktemp("model") / "small"
    return bundles.plain(place, frontend=FRONTEND, decision=DecisionRule(events=PLAIN))


def assert_kept(hit: mine.Hit, data: Path, output: Path) -> None:
    """The file of a hit holds what its times say of the recording."""
    whole, _ = soundfile.read(data / hit.recording, dtype="float32")
    kept, rate = soundfile.read(output / hit.file, dtype="float32")
    start, stop = round(hit.start_seconds * RATE), round(hit.end_seconds * RATE)
    assert rate == RATE and len(kept) == stop - start
    np.testing.assert_allclose(kept, np.clip(whole[start:stop], -1, 1), atol=1 / 32768)


def test_events_are_kept_with_their_margins(model: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, output = record(tmp_path / "data", {"day": [12], "night": [3]}), tmp_path / "out"
    barks = alone(0, 0.1, 0.1, 0.1, 0.1, 0.75, 0.5, 0.1, 0.1, 0.1, 0.1, 0.1, 0.875)
    play(monkeypatch, barks, alone(2, 0.1, 0.2, 0.1))
    found = mine.mine(model, data, output)
    told = [(hit.recording, hit.kind, hit.label, hit.score, hit.time_seconds) for hit in found.hits]
    assert told == [
        ("day/0.wav", "detection", "bark", 0.75, 3.0),
        ("day/0.wav", "detection", "bark", 0.875, 6.5),
    ]
    # Windows 4 and 5 hear from 2.0 to 3.5 s; window 11 from 5.5 s to the end of the recording.
    assert [(hit.start_seconds, hit.end_seconds) for hit in found.hits] == [(1.5, 4.0), (5.0, 6.5)]
    for hit in found.hits:
        assert_kept(hit, data, output)
    assert (found.recordings, found.seconds, found.warnings) == (2, 6.5 + 2.0, ())
    assert [json.loads(line) for line in (output / "hits.jsonl").read_text().splitlines()] == found.to_json()


def test_a_long_event_is_cut(model: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, output = record(tmp_path / "data", {"day": [119]}), tmp_path / "out"
    play(monkeypatch, alone(1, *[0.1] * 10, *[0.75] * 109))
    [hit] = mine.mine(model, data, output).hits
    assert (hit.start_seconds, hit.end_seconds) == (4.5, 34.5)
    assert_kept(hit, data, output)


def test_mistakes_are_false_alarms_and_what_was_missed(
    model: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, output = record(tmp_path / "data", {"bark": [6, 4], "hum": [5], "street": [4]}), tmp_path / "out"
    play(
        monkeypatch,
        [*alone(0, 0.1, 0.7, 0.1), *alone(2, 0.1, 0.9, 0.1)],  # its bark, and a hum that is none
        alone(0, 0.1, 0.2, 0.5, 0.1),  # no bark; the third window comes nearest
        alone(2, 0.9, 0.9, 0.9, 0.9, 0.9),
        alone(3, 0.1, 0.9, 0.1, 0.1),  # nothing in a street is right
    )
    found = mine.mine(model, data, output, mistakes=True)
    assert [(hit.recording, hit.kind, hit.label, hit.expected) for hit in found.hits] == [
        ("bark/0.wav", "false alarm", "hum", "bark"),
        ("bark/1.wav", "missed", "bark", "bark"),
        ("street/0.wav", "false alarm", "knock", "street"),
    ]
    missed = found.hits[1]
    assert (missed.score, missed.start_seconds, missed.end_seconds) == (0.5, 0.5, 2.5)
    for hit in found.hits:
        assert_kept(hit, data, output)


class Stop:
    """Rows that end with Ctrl-C."""

    def __init__(self, rows: list[list[float]]) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[list[float]]:
        yield from self.rows
        raise KeyboardInterrupt


def test_a_run_that_was_stopped_goes_on(model: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = record(tmp_path / "data", {"a": [4], "b": [130], "c": [4]})
    first, last = alone(0, 0.1, 0.9, 0.1, 0.1), alone(3, 0.1, 0.1, 0.9, 0.1)
    second = alone(1, *[0.9, 0.1, 0.1, 0.1, 0.1] * 26)
    play(monkeypatch, first, second, last)
    whole = mine.mine(model, data, tmp_path / "whole")
    output = tmp_path / "out"
    play(monkeypatch, first, Stop(second[:64]))
    with pytest.raises(KeyboardInterrupt):
        mine.mine(model, data, output)
    before = {path.name: path.stat().st_mtime_ns for path in output.glob("*.wav")}
    assert 1 < len(before) < len(whole.hits)
    # What is left of a line and of a hit that the end of the run came between.
    listed = (output / "hits.jsonl").read_text().splitlines(keepends=True)
    (output / "hits.jsonl").write_text("".join(listed[:-1]) + listed[-1][:40])
    play(monkeypatch, second, last)
    found = mine.mine(model, data, output)
    assert found.to_json() == whole.to_json() and found.seconds == whole.seconds
    assert {path.name for path in output.glob("*.wav")} == {path.name for path in (tmp_path / "whole").glob("*.wav")}
    assert all((output / name).stat().st_mtime_ns == time for name, time in before.items())
    play(monkeypatch)  # nothing is left to be heard
    assert mine.mine(model, data, output).to_json() == whole.to_json()


def test_nothing_is_overwritten(model: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, output = record(tmp_path / "data", {"a": [4]}), tmp_path / "out"
    play(monkeypatch, Stop([]))
    with pytest.raises(KeyboardInterrupt):
        mine.mine(model, data, output)
    own = output / "a_0-0.00s-detection-bark.wav"
    own.write_text("my own")
    play(monkeypatch, alone(0, 0.1, 0.9, 0.1, 0.1))
    [hit] = mine.mine(model, data, output).hits
    assert own.read_text() == "my own" and hit.file == "a_0-0.00s-detection-bark-2.wav"
    assert_kept(hit, data, output)


def test_hits_of_another_run_are_not_mixed_in(model: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, output = record(tmp_path / "data", {"a": [2]}), tmp_path / "out"
    play(monkeypatch, alone(0, 0.1, 0.1))
    mine.mine(model, data, output)
    with pytest.raises(InputError, match="another rule; choose another"):
        mine.mine(model, data, output, on=0.5)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="holds something that is no hits"):
        mine.mine(model, data, tmp_path / "other")
    with pytest.raises(InputError, match="lies in the folder of recordings"):
        mine.mine(model, data, data / "hits")
    (output / "hits.jsonl").write_text("{damaged\n")
    with pytest.raises(InputError, match=r"hits\.jsonl.*damaged"):
        mine.mine(model, data, output)


def test_recordings_that_cannot_be_decoded_are_passed_over(
    model: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = record(tmp_path / "data", {"b": [2]})
    (data / "a.wav").write_bytes(b"no sound")
    play(monkeypatch, alone(0, 0.1, 0.9))
    found = mine.mine(model, data, tmp_path / "out")
    assert len(found.hits) == found.recordings == 1 and "a.wav" in found.warnings[0]
    (data / "b" / "0.wav").write_bytes(b"no sound")
    with pytest.raises(InputError, match="none of the 2 recordings can be decoded"):
        mine.mine(model, data, tmp_path / "again")


def test_memory_does_not_grow_with_a_recording(model: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = []
    for windows in (240, 1440):
        data = record(tmp_path / f"data{windows}", {"a": [windows]})
        play(monkeypatch, chain(alone(0, 0.9), repeat([0.1] * 4)))
        tracemalloc.start()
        mine.mine(model, data, tmp_path / f"out{windows}")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 0.1 * 600 * RATE * 4  # of ten minutes more, a tenth of their samples


def test_the_command_lists_what_it_kept(
    model: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = record(tmp_path / "data", {"a": [3]})
    untuned = bundles.plain(tmp_path / "untuned", frontend=FRONTEND)
    assert bundle.read(untuned.folder).decision.events is None
    for options, warned in (((), True), (("--on", "0.5"), False)):
        play(monkeypatch, alone(1, 0.9, 0.9, 0.9))
        command = ["mine", str(untuned.folder), str(data), *options, "-o", str(tmp_path / f"out{warned}")]
        with pytest.raises(SystemExit) as left:
            cli.main([*command, "--json"])
        out, told = capsys.readouterr()
        [hit] = json.loads(out)
        assert left.value.code == 0 and hit["label"] == "chirp" and hit["file"].endswith("-detection-chirp.wav")
        assert ("no thresholds were fitted to small" in told) == warned
    with pytest.raises(SystemExit):
        cli.main(command)
    assert "1 hits in 1 recordings" in capsys.readouterr().out


def test_fields_of_the_rule_are_overridden_and_false_alarms_listed_with_where_they_were_heard(
    model: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = record(tmp_path / "data", {"bark": [3], "street [2]": [3]})
    shown = {}
    for option in (("--patience", "3"), ("--patience", "4"), ("--background", "bark")):
        play(monkeypatch, alone(0, 0.9, 0.9, 0.9), alone(0, 0.9, 0.9, 0.9))
        command = ["mine", str(model.folder), str(data), "--mistakes", "--smoothing", "1", *option]
        with pytest.raises(SystemExit) as left:
            cli.main([*command, "-o", str(tmp_path / "-".join(option))])
        assert left.value.code == 0
        shown[option[1]] = capsys.readouterr().out
    assert "street [2] 1" in shown["3"] and "missed" not in shown["3"]
    assert "missed" in shown["4"] and "false alarm" not in shown["4"] and shown["bark"].strip().startswith("0 hits")
