"""Live windows against `classify` of the same sound; gaps, latency, hits, lines and memory."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tracemalloc
from dataclasses import replace

import bundles
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from edgeq import classify, cli, goldens
from edgeq.audio.frontend import FrontendSpec, logmel
from edgeq.decision import DecisionRule, Event, Rule, clip_scores
from edgeq.errors import InputError
from edgeq.live import lines, run
from edgeq.live.capture import Chunk
from edgeq.live.hits import Hits
from edgeq.live.level import FLOOR_DB
from edgeq.live.listener import Listener

RATE = bundles.FRONTEND.sample_rate


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return bundles.exported(tmp_path_factory.mktemp("bundle") / "small")


@pytest.fixture(scope="module")
def eager(tmp_path_factory):
    """The same model with a rule by which whatever it is surest of is an event at once."""
    rule = Rule(on=0.3, off=0.3, smoothing=1, patience=1, cooldown=0)
    return bundles.exported(tmp_path_factory.mktemp("bundle") / "eager", decision=DecisionRule(events=rule))


class Kept:
    """A view that keeps what it is shown."""

    def __init__(self):
        self.updates, self.words, self.heard = [], [], []

    def hear(self, frames, state):
        self.heard.append(frames)

    def update(self, update, state):
        self.updates.append(update)

    def refresh(self, state):
        pass

    def say(self, words):
        self.words.append(words)


class Stub:
    """A runtime that is always half sure of two labels."""

    name, classes, int8, input_shape, metadata = "stub", 2, False, (1, 16, 50), {}

    def predict(self, features):
        return np.full((len(features), 2), 0.5, np.float32)


def listener(ready=None, clock=lambda: 0.0, spec=bundles.FRONTEND, rule=None):
    return Listener(("a", "b"), spec, ready or Stub(), rule or Rule(), clock)


def sound(seed, seconds):
    spec = replace(bundles.FRONTEND, window_seconds=seconds, window_hop_seconds=seconds)
    return goldens.waveform(seed, spec)[: round(seconds * RATE)]


def write(path, samples, rate=RATE):
    soundfile.write(path, samples, rate, subtype="FLOAT")
    return path


@pytest.mark.parametrize("seconds", [0.2, 1.0, 1.7, 23.4])
def test_a_recording_is_heard_as_classify_hears_it(model, tmp_path, seconds):
    path = write(tmp_path / "a.wav", np.concatenate([sound(11, seconds), np.zeros(round(seconds * RATE) // 2)]), RATE)
    view = Kept()
    state = run.live(model, run.Settings(str(path)), view)
    scores = clip_scores(
        np.stack([one.probabilities for one in view.updates]), np.array([one.silent for one in view.updates])
    )
    (expected,) = classify.classify(model, [path], top=4)
    for entry in expected.top:
        assert scores[bundles.LABELS.index(entry.label)] == pytest.approx(entry.score, abs=1e-6)
    assert (state.windows, state.dropped) == (len(view.updates), 0)
    assert state.seconds == pytest.approx(1.5 * seconds, abs=0.01)


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
@pytest.mark.parametrize("size", [7, 160, 4001])
def test_chunks_of_any_size_and_rate_give_the_windows_of_the_whole(model, tmp_path, rate, size):
    seconds = np.arange(round(2.3 * rate)) / rate
    samples = (0.3 * np.sin(2 * np.pi * (300 + 200 * seconds) * seconds)).astype(np.float32)
    if size == 7:
        samples = samples[: rate + rate // 50]
    about, ready = classify.prepare(model, None, False)
    heard = Listener(about.labels, about.frontend, ready, Rule())
    chunks = (Chunk(samples[start : start + size], rate, 0.0) for start in range(0, len(samples), size))
    updates = [one for chunk in chunks for one in heard.push(chunk)] + heard.finish()
    scores = clip_scores(
        np.stack([one.probabilities for one in updates]), np.array([one.silent for one in updates], bool)
    )
    (expected,) = classify.classify(model, [write(tmp_path / "a.wav", samples, rate)], top=4)
    assert dict(zip(bundles.LABELS, scores, strict=True)) == pytest.approx(
        {entry.label: entry.score for entry in expected.top}, abs=1e-4
    )
    assert heard.seconds == pytest.approx(len(samples) / rate)


def test_each_view_hears_the_frames_of_the_whole_recording_once(model, tmp_path):
    samples, one, other = sound(11, 3), Kept(), Kept()
    state = run.live(model, run.Settings(str(write(tmp_path / "a.wav", samples))), one, other)
    whole = logmel(samples, state.frontend)
    for view in (one, other):
        frames = np.concatenate(view.heard, axis=1)
        np.testing.assert_allclose(frames, whole[:, : frames.shape[1]], atol=1e-4)
        assert whole.shape[1] - frames.shape[1] <= 1 and len(view.updates) == state.windows
    assert state.labels == bundles.LABELS and state.inference_ms > 0


def test_times_are_of_the_windows_ends_and_go_on_across_a_gap():
    heard = listener()
    noise = np.random.default_rng(0).normal(0, 0.1, 10 * RATE).astype(np.float32)
    first = heard.push(Chunk(noise[: 3 * RATE], RATE))
    second = heard.push(Chunk(noise[: 3 * RATE], RATE, missing=4 * RATE))
    hop = bundles.FRONTEND.window_hop_seconds
    assert [one.time for one in first] == pytest.approx([1 + hop * index for index in range(len(first))])
    assert [one.time for one in second] == pytest.approx([8 + hop * index for index in range(len(first))])
    assert {one.dropped for one in first} == {0} and {one.dropped for one in second} == {4 * RATE}
    assert heard.seconds == 10


def test_windows_behind_a_gap_are_those_of_sound_that_begins_there(model):
    about, ready = classify.prepare(model, None, False)
    samples = sound(11, 4)
    one, other = (Listener(about.labels, about.frontend, ready, Rule()) for _ in range(2))
    one.push(Chunk(sound(5, 1.3), RATE))
    joined = one.push(Chunk(samples, RATE, missing=1))
    alone = other.push(Chunk(samples, RATE))
    for left, right in zip(joined, alone, strict=True):
        np.testing.assert_array_equal(left.probabilities, right.probabilities)


def test_a_device_that_comes_back_at_another_rate_is_heard_on():
    heard = listener()
    noise = np.random.default_rng(0).normal(0, 0.1, 96_000).astype(np.float32)
    assert heard.push(Chunk(noise[: 2 * RATE], RATE))
    assert heard.push(Chunk(noise, 48_000))
    assert heard.seconds == 4


def test_latency_is_from_the_capture_of_the_last_sample_a_window_needs_to_its_label():
    """Blocks of 0.1 s, each heard when it ends; a label takes 5 ms from then on by this clock."""
    now = [0.0]
    heard = listener(clock=lambda: now[0] + 0.005)
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * RATE).astype(np.float32)
    size, latencies = RATE // 10, []
    for start in range(0, len(noise), size):
        now[0] = 100 + (start + size) / RATE
        latencies += [one.latency_ms for one in heard.push(Chunk(noise[start : start + size], RATE, now[0]))]
    spec = bundles.FRONTEND
    needed = [
        (index * spec.window_hop_frames + spec.window_frames - 1) * spec.hop_length + spec.n_fft // 2
        for index in range(len(latencies))
    ]
    expected = [1000 * ((-sample % size) / RATE + 0.005) for sample in needed]
    assert latencies == pytest.approx(expected, abs=1e-6) and len(latencies) == 7


def test_events_are_the_rule_s_and_none_joins_sound_across_a_gap():
    rule = Rule(on=0.5, off=0.4, smoothing=1, patience=3, cooldown=0)
    noise = np.random.default_rng(0).normal(0, 0.1, 6 * RATE).astype(np.float32)
    whole = listener(rule=rule).push(Chunk(noise, RATE))
    assert [index for index, one in enumerate(whole) if one.event] == [2, 3]  # a, then b
    broken, heard = listener(rule=rule), []
    for start in range(0, len(noise), RATE * 3 // 2):  # two windows a piece: never three in a row
        heard += broken.push(Chunk(noise[start : start + RATE * 3 // 2], RATE, missing=1 if start else 0))
    assert len(heard) == 8 and not any(one.event for one in heard)


def test_gated_windows_are_silent_and_no_event():
    heard = listener(rule=Rule(on=0.5, off=0.4, smoothing=1, patience=1)).push(Chunk(np.zeros(3 * RATE, "f4"), RATE))
    assert heard and all(one.silent and one.event is None for one in heard)


def test_memory_does_not_grow_with_the_sound():
    """Of 20 minutes the samples alone take 4.8 MB; Python keeps some 100 kB of small objects to use again."""
    spec = FrontendSpec(sample_rate=1000, n_fft=64, win_length=64, hop_length=40, n_mels=8, fmin=20.0, fmax=500.0)
    heard, noise = listener(spec=spec), np.random.default_rng(0).normal(0, 0.1, 10_000).astype(np.float32)
    tracemalloc.start()
    try:
        heard.push(Chunk(noise, 1000, 0.0))
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(6 * 20):
            heard.push(Chunk(noise, 1000, 0.0))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert heard.seconds == 20 * 60 + 10
    assert after - before < 300_000


def test_the_sound_of_events_is_kept(eager, tmp_path):
    samples = sound(11, 6)
    path, view = write(tmp_path / "a.wav", samples), Kept()
    run.live(eager, run.Settings(str(path), save_hits=tmp_path / "hits"), view)
    events = [one.event for one in view.updates if one.event]
    files = sorted((tmp_path / "hits").iterdir())
    assert events and len(files) == len(events)
    for event, file in zip(events, files, strict=True):
        kept, rate = soundfile.read(file)
        end = round(event.time_seconds * RATE)
        assert rate == RATE and event.label in file.name
        assert len(kept) == pytest.approx(min(end, 2 * RATE), abs=RATE / 2)
        np.testing.assert_allclose(kept, np.clip(samples[end - len(kept) : end], -1, 1), atol=1e-4)


def test_hits_of_one_run_do_not_overwrite_those_of_another(tmp_path):
    event, paths = Event("a", 0.9, 1.0, 1.5), []
    for value in (0.1, 0.2, 0.3):
        hits = Hits(tmp_path, 1.0)
        hits.keep(Chunk(np.full(2 * RATE, value, np.float32), RATE), 2.0)
        paths.append(hits.save(event))
    assert [path.name for path in paths] == [f"0000001.50-a{end}.wav" for end in ("", "-2", "-3")]
    assert [soundfile.read(path)[0].max() for path in paths] == pytest.approx([0.1, 0.2, 0.3], abs=1e-4)


@pytest.mark.parametrize("gap", ["missing", "rate"])
def test_the_sound_of_an_event_behind_a_gap_does_not_reach_across_it(tmp_path, gap):
    hits = Hits(tmp_path, 2.0)
    hits.keep(Chunk(np.full(3 * RATE, 0.5, np.float32), RATE), 3.0)
    rate, missing = (RATE, RATE) if gap == "missing" else (2 * RATE, 0)
    begin = 3 + missing / rate
    hits.keep(Chunk(np.full(rate, 0.25, np.float32), rate, missing=missing), begin + 1)
    hits.keep(Chunk(np.full(rate, 0.25, np.float32), rate), begin + 2)
    kept, found = soundfile.read(hits.save(Event("a", 0.9, begin + 1, begin + 1.5)))
    assert (found, len(kept)) == (rate, round(1.5 * rate)) and np.allclose(kept, 0.25, atol=1e-4)


def test_hits_that_cannot_be_written_are_told_and_listening_goes_on(eager, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "hit.wav")

    monkeypatch.setattr(Hits, "save", full)
    view = Kept()
    path = write(tmp_path / "a.wav", sound(11, 6))
    state = run.live(eager, run.Settings(str(path), save_hits=tmp_path / "hits"), view)
    assert state.begun and view.words[0] == "hit.wav: not saved, No space left on device"
    assert state.seconds == pytest.approx(6)


@pytest.mark.parametrize("seconds", [0.5, 1.5, 2.0])
def test_it_stops_after_the_seconds_that_were_asked_for(model, tmp_path, seconds):
    path, view = write(tmp_path / "a.wav", sound(11, 3)), Kept()
    state = run.live(model, run.Settings(str(path), seconds=seconds), view)
    assert state.seconds == seconds and all(one.time <= seconds + 1e-9 for one in view.updates)
    assert bool(view.updates) == (seconds >= 1)


def test_fields_of_the_rule_are_overridden(eager, tmp_path):
    path = str(write(tmp_path / "a.wav", sound(11, 4)))

    def begun(**rule):
        return run.live(eager, run.Settings(path, rule=rule)).begun

    assert begun() and begun(on=None) == begun() and begun(background=bundles.LABELS) == begun(patience=1000) == 0
    assert run.live(eager, run.Settings(path, rule={"on": 0.5})).rule == replace(eager.decision.events, on=0.5, off=0.5)
    with pytest.raises(InputError, match=r"off is 0\.9: expected 0 to on, which is 0\.3"):
        begun(off=0.9)
    with pytest.raises(InputError, match="background miaow: not among the labels: bark, chirp"):
        begun(background=("miaow",))


def test_below_the_unknown_floor_no_label_is_given(eager, tmp_path):
    path = str(write(tmp_path / "a.wav", sound(11, 2)))
    named, unnamed = Kept(), Kept()
    run.live(eager, run.Settings(path), named)
    run.live(eager, run.Settings(path, rule={"unknown": 1.0}), unnamed)
    assert all(one.heard == one.top(1)[0][0] for one in named.updates)
    assert unnamed.updates and all(one.heard is None and one.probabilities.max() > 0 for one in unnamed.updates)


@pytest.mark.skipif(sys.platform == "win32", reason="no signals of this kind")
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_stopped_it_leaves_cleanly_with_hits_and_a_summary(eager, tmp_path, sent, code):
    codes = (sound(11, 3) * 32767).astype("<i2").tobytes()
    words = ["live", str(eager.folder), "--input", "-", "--json", "--save-hits", str(tmp_path / "hits")]
    process = subprocess.Popen(
        [sys.executable, "-c", "from edgeq.cli import main; main()", *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    process.stdin.write(codes)
    process.stdin.flush()
    heard = [json.loads(process.stdout.readline()) for _ in range(5)]
    process.send_signal(sent)
    process.stdin.flush()
    said = process.stderr.read().decode()
    assert process.wait(20) == code
    events = [value["event"]["label"] for value in heard if "event" in value]
    assert len(list((tmp_path / "hits").iterdir())) == len(events) > 0
    assert f"edgeq: 3.0 s of sound, 5 windows, {len(events)} events ({events[0]} 1" in said and "latency p50" in said
    assert ("interrupted" in said) == (code == 130)


def edgeq(*arguments, standard_input=b""):
    """In a process of its own, whose stdin is a pipe: exit code, lines, and what it says on stderr."""
    done = subprocess.run(
        [sys.executable, "-c", "from edgeq.cli import main; main()", "live", *map(str, arguments)],
        input=standard_input, capture_output=True,
    )  # fmt: skip
    return done.returncode, done.stdout.decode().splitlines(), done.stderr.decode()


def test_json_lines_have_the_contract_s_keys(eager, tmp_path):
    path = write(tmp_path / "a.wav", sound(11, 3))
    result = CliRunner().invoke(cli.commands, ["live", str(eager.folder), "--input", str(path), "--json", "--top", "9"])
    values = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 0 and len(values) == 5
    for value in values:
        assert list(value) == [
            "time",
            "top",
            "heard",
            *(["event"] if "event" in value else []),
            "latency_ms",
            "dropped",
            "silent",
        ]
        assert len(value["top"]) == 4 and [list(one) for one in value["top"]] == [["label", "score"]] * 4
    event = next(value["event"] for value in values if "event" in value)
    assert list(event) == ["label", "score", "start_seconds", "time_seconds"]


def test_a_pipe_is_heard_and_its_faults_are_said_beside_the_lines(model):
    codes = (sound(11, 3) * 32767).astype("<i2").tobytes() + bytes(2 * 8 * RATE)
    code, heard, said = edgeq(model.folder, "--input", "-", "--json", standard_input=codes)
    assert code == 0 and [json.loads(line)["dropped"] for line in heard] == [0] * len(heard) and len(heard) == 21
    assert "nothing but zeros" in said and "11.0 s of sound, 21 windows" in said
    code, heard, said = edgeq(model.folder, "--input", "-", standard_input=codes + b"\1")
    assert code == 2 and len(heard) == 21 and said.splitlines()[-1].startswith("edgeq: stdin: ended inside a sample")
    assert heard[-1] == "    11.00 s  (silence)"
    assert "on 0.6, off 0.4: a first guess; fit them: edgeq tune-threshold" in said


def test_the_summary_counts_one_of_a_thing_and_what_it_does_not_name():
    state = run.State("m", "s", tuple("abcdefg"), bundles.FRONTEND, seconds=2.0, windows=1)
    assert lines.summary(state, live=False) == "2.0 s of sound, 1 window, 0 events"
    state.counts.update({"a": 1})
    assert lines.summary(state, live=False) == "2.0 s of sound, 1 window, 1 event (a 1)"
    state.counts.update({"b": 9, "c": 8, "d": 7, "e": 6, "f": 5, "g": 2})
    assert lines.summary(state, live=False).endswith(", 38 events (b 9, c 8, d 7, e 6, f 5, others 3)")


def test_a_folder_for_hits_that_is_none_is_told_with_what_live_can_do(model, tmp_path):
    path = write(tmp_path / "a.wav", sound(11, 1))
    code, _, said = edgeq(model.folder, "--input", path, "--save-hits", path)
    assert code == 2 and said == f"edgeq: {path}: File exists; expected a folder; choose another place\n"


def test_of_sound_that_came_late_in_one_piece_each_part_is_judged_for_itself(eager, monkeypatch):
    """Ten seconds at once: three of noise, NaN for a moment, the rest zeros."""
    samples = np.concatenate([sound(11, 3), np.zeros(7 * RATE, np.float32)])
    samples[round(2.5 * RATE)] = np.nan
    late = [Chunk(samples, RATE, heard=100.0, missing=0)]
    monkeypatch.setattr(run.sources, "piped", lambda *_: iter_closing(late))
    view = Kept()
    state = run.live(eager, run.Settings(run.STDIN), view)
    assert state.dropped == RATE // 4 and state.seconds == 10
    assert sum("NaN" in words for words in view.words) == sum("zeros" in words for words in view.words) == 1
    assert {one.time for one in view.updates} >= {1.0, 1.5, 2.0, 2.5, 3.75, 9.75}


def test_the_level_falls_where_nothing_comes_any_more(model, monkeypatch):
    samples = sound(11, 2)
    chunks = [Chunk(samples, RATE, heard=2.0), Chunk(samples[:0], RATE, heard=2.0)]
    monkeypatch.setattr(run.sources, "piped", lambda *_: iter_closing(chunks))
    levels = []

    class Meter(Kept):
        def refresh(self, state):
            levels.append(state.peak_db)

    run.live(model, run.Settings(run.STDIN), Meter())
    assert min(levels[:-1]) > -60 and levels[-1] == FLOOR_DB


def iter_closing(chunks):
    yield from chunks


def test_a_recording_in_real_time_loses_nothing(model, tmp_path):
    path, view = write(tmp_path / "a.wav", sound(11, 1.6)), Kept()
    state = run.live(model, run.Settings(str(path), real_time=True), view)
    assert (state.dropped, state.windows) == (0, 2)
    assert "latency p50" in lines.summary(state, live=True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no-such-model", "--input", "x.wav"], "no-such-model"),
        (["{model}", "--input", "none.wav"], "none.wav: no such file"),
        ([], "Missing argument"),
        (["{model}", "--input", "x.wav", "--device", "1"], "--device goes with a microphone"),
        (["{model}", "--real-time"], "--real-time goes with --input FILE"),
        (["{model}", "--input", "x.wav", "--rate", "8000"], "--rate goes with --input -"),
        (["{model}", "--input", "x.wav", "--off", "0.7"], "off is 0.7: expected 0 to on, which is 0.6"),
        (["{model}", "--input", "-"], "ended before the first sample"),
    ],
)
def test_wrong_usage_is_a_line_and_exit_code_2(model, arguments, words):
    code, heard, said = edgeq(*(one.format(model=model.folder) for one in arguments))
    assert (code, heard, said.count("\n")) == (2, [], 1) and words in said


def test_sound_too_short_for_anything_is_refused_as_by_classify(model, tmp_path):
    path = write(tmp_path / "odd.wav", np.full(100, 0.1))
    with pytest.raises(InputError, match=r"odd\.wav: waveform of 100 samples"):
        run.live(model, run.Settings(str(path)), Kept())


def test_nothing_but_the_core_is_imported(model, tmp_path):
    path = write(tmp_path / "a.wav", sound(11, 1.5))
    script = (
        f"import sys; from edgeq.live import run, lines; run.live({str(model.folder)!r}, "
        f"run.Settings({str(path)!r}), lines.JsonLines(1)); print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    heavy = {"torch", "onnx", "tensorflow", "librosa", "scipy", "sounddevice", "edgeq.training", "edgeq.export"}
    assert not heavy & set(done.stderr.split())
