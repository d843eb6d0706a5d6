"""Microphones: what is told when one cannot be used, samples lost by the clock, and the real way through PortAudio."""

from __future__ import annotations

import collections
import csv
import importlib
import json
import math
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import sound_server
import soundfile

from edgeq import classify, zoo
from edgeq.errors import InputError
from edgeq.live import microphone
from edgeq.live.microphone import Lag, Microphone


class PortAudioError(Exception):
    pass


class FakePortAudio:
    """sounddevice as far as edgeq uses it: devices by name and rate, each of which hears a rising ramp."""

    PortAudioError = PortAudioError

    def __init__(self, inputs, refuses=(), fails=None):
        self.default = SimpleNamespace(device=(1 if len(inputs) > 1 else -1, -1))
        self.inputs, self.refuses, self.fails = inputs, refuses, fails
        self.opened, self.begun, self.fails_to_begin = [], True, 0

    def query_devices(self):
        return [
            {"name": name, "max_input_channels": channels, "default_samplerate": float(rate)}
            for name, channels, rate in self.inputs
        ]

    def InputStream(self, **how):  # noqa: N802
        if how["samplerate"] in self.refuses:
            raise PortAudioError("Error opening InputStream: Invalid sample rate [PaErrorCode -9997]", -9997)
        if self.fails:
            raise PortAudioError(*self.fails)
        self.opened.append(FakeStream(how))
        return self.opened[-1]

    def _initialize(self):
        if self.fails_to_begin:
            self.fails_to_begin -= 1
            raise PortAudioError("Error initializing PortAudio [PaErrorCode -9999]", -9999)
        self.begun = True

    def _terminate(self):
        if not self.begun:
            raise PortAudioError("Error terminating PortAudio: not initialized [PaErrorCode -10000]", -10000)
        self.begun = False

    def _exit_handler(self):
        pass


NOT_KNOWN = SimpleNamespace(currentTime=0.0, inputBufferAdcTime=0.0)


class FakeStream:
    def __init__(self, how):
        self.how, self.running = how, threading.Event()

    def start(self):
        def play():
            block = np.full((self.how["blocksize"], self.how["channels"]), 0.25, np.float32)
            while not self.running.wait(0.02):
                self.how["callback"](block, len(block), NOT_KNOWN, None)

        threading.Thread(target=play, daemon=True).start()

    def abort(self):
        self.running.set()

    close = abort

    def vanish(self):
        self.running.set()
        self.how["finished_callback"]()


INPUTS = (("USB Mic", 1, 16000), ("HDA Intel", 2, 48000), ("HDA Loopback", 32, 44100), ("Speaker", 0, 48000))


@pytest.fixture
def portaudio(monkeypatch):
    def use(*arguments, **options):
        fake = FakePortAudio(*arguments, **options)
        monkeypatch.setitem(sys.modules, "sounddevice", fake)
        return fake

    return use


def heard(opened, seconds):
    """Chunks of that much sound."""
    chunks = []
    for chunk in opened:
        chunks.append(chunk)
        if sum(len(one.samples) / one.rate for one in chunks) >= seconds:
            return chunks
    raise AssertionError("it ended")


def test_devices_are_those_with_inputs(portaudio):
    portaudio(INPUTS)
    assert [(one.number, one.name, one.default) for one in microphone.devices()] == [
        (0, "USB Mic", False), (1, "HDA Intel", True), (2, "HDA Loopback", False),
    ]  # fmt: skip


@pytest.mark.parametrize(("wanted", "number"), [(None, 1), ("0", 0), ("usb", 0), ("HDA Intel", 1), ("loop", 2)])
def test_a_device_is_found_by_number_or_name(portaudio, wanted, number):
    portaudio(INPUTS)
    assert microphone.find(wanted).number == number


@pytest.mark.parametrize(
    ("inputs", "wanted", "words"),
    [
        (INPUTS, "9", "'9': no such input: 0 USB Mic; 1 HDA Intel"),
        (INPUTS, "3", "no such input"),
        (INPUTS, "hda", "several have it in their name: 1 HDA Intel; 2 HDA Loopback"),
        (INPUTS[3:], None, "finds no input"),
    ],
)
def test_a_device_that_is_not_there_is_told_with_those_that_are(portaudio, inputs, wanted, words):
    portaudio(inputs)
    with pytest.raises(InputError, match=words):
        Microphone(wanted, print)


def test_without_portaudio_the_package_to_install_is_named(monkeypatch):
    def fail(name):
        raise OSError("PortAudio library not found")

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(InputError, match=r"apt install libportaudio2.*--input -"):
        microphone.devices()


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (("Error opening InputStream: Device unavailable [PaErrorCode -9985]", -9985), "HDA Intel: busy, another"),
        (("Error opening InputStream:\nno [PaErrorCode -9999]", -9999), "cannot be opened .*no .PaErrorCode"),
    ],
)
def test_a_device_that_does_not_open_is_told_in_a_line(portaudio, failure, words):
    portaudio(INPUTS, fails=failure)
    with pytest.raises(InputError, match=words) as caught:
        Microphone(None, print)
    assert "\n" not in str(caught.value)


def test_a_refused_rate_leads_to_another_and_all_refused_to_a_line(portaudio):
    portaudio(INPUTS, refuses=(48000, 44100))
    with Microphone(None, print) as opened:
        assert heard(opened, 0.1)[-1].rate == 32000
    portaudio(INPUTS, refuses=(48000, 44100, 32000, 16000))
    with pytest.raises(InputError, match="HDA Intel: refuses 48,000, 44,100, 32,000, 16,000 Hz"):
        Microphone(None, print)


def test_a_device_is_opened_at_its_own_rate_in_blocks_of_20_ms_with_two_channels_at_most(portaudio):
    fake = portaudio(INPUTS)
    with Microphone("loop", print) as opened:
        chunks = heard(opened, 0.2)
    how = fake.opened[0].how
    assert (how["samplerate"], how["blocksize"], how["channels"], how["dtype"]) == (44100, 882, 2, "float32")
    assert np.all(np.concatenate([one.samples for one in chunks]) == 0.25)


@pytest.mark.parametrize("rate", [16000, 8000])
def test_a_device_that_vanishes_is_opened_again_and_the_gap_counted(portaudio, monkeypatch, rate):
    monkeypatch.setattr(microphone, "_RETRY_SECONDS", 0.05)
    fake, words = portaudio(INPUTS), []
    with Microphone("USB", words.append) as opened:
        sound = iter(opened)
        begun = time.monotonic()
        heard(sound, 0.1)
        gone, fake.inputs = fake.inputs, ()
        fake.opened[0].vanish()
        threading.Timer(0.4, lambda: setattr(fake, "inputs", [("USB Mic", 1, rate), *gone[1:]])).start()
        chunks = heard(sound, 0.2)
    lost = sum(one.missing for one in chunks) / rate
    assert 0.2 < lost <= time.monotonic() - begun
    assert chunks[-1].rate == rate
    assert ["gone" in words[0], "back" in words[-1], len(words)] == [True, True, 2]


def test_a_device_that_stands_still_is_opened_again(portaudio, monkeypatch):
    monkeypatch.setattr(microphone, "LOST_SECONDS", 0.3)
    fake, words = portaudio(INPUTS), []
    with Microphone("USB", words.append) as opened:
        heard(opened, 0.1)
        fake.opened[0].running.set()
        heard(opened, 0.1)
    assert len(fake.opened) == 2 and "gone, or stands still" in words[0]


def test_a_gap_is_told_of_a_device_that_is_back_at_once(portaudio, monkeypatch):
    """Between the last block read and the first of the new stream may lie no time that a clock can see."""
    monkeypatch.setattr(microphone, "time", SimpleNamespace(monotonic=lambda: 5.0, sleep=time.sleep))
    fake = portaudio(INPUTS)
    with Microphone("USB", print) as opened:
        sound = iter(opened)
        heard(sound, 0.1)
        fake.opened[0].vanish()
        chunks = [next(sound)]
        while len(fake.opened) < 2:
            chunks.append(next(sound))
        assert sum(one.missing for one in [*chunks, *heard(sound, 0.2)]) >= 1


def test_a_portaudio_that_failed_to_begin_is_begun_again(portaudio, monkeypatch):
    monkeypatch.setattr(microphone, "_RETRY_SECONDS", 0.05)
    fake = portaudio(INPUTS)
    with Microphone("USB", print) as opened:
        sound = iter(opened)
        heard(sound, 0.1)
        fake.fails_to_begin = 2
        fake.opened[0].vanish()
        heard(sound, 0.3)
    assert len(fake.opened) == 2 and fake.fails_to_begin == 0


def test_of_devices_with_one_name_the_one_of_the_same_number_is_opened_again(portaudio, monkeypatch):
    monkeypatch.setattr(microphone, "_RETRY_SECONDS", 0.05)
    fake = portaudio([("Twin", 1, 16000), ("Other", 1, 16000), ("Twin", 1, 16000)])
    with Microphone("2", print) as opened:
        sound = iter(opened)
        heard(sound, 0.1)
        fake.opened[0].vanish()
        heard(sound, 0.3)
    assert [one.how["device"] for one in fake.opened] == [2, 2]


def test_time_in_which_the_whole_process_stood_still_is_no_loss(portaudio, monkeypatch):
    """After a long halt the watch may run before the device's thread does: it has to wait for what is still to come."""
    portaudio(INPUTS)
    now = [0.0]
    monkeypatch.setattr(microphone, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=time.sleep))
    stream = microphone._Stream(microphone.find("USB"))
    stream.wait()
    stream._stream.abort()
    time.sleep(0.1)  # a block that was under way
    assert not stream.lost()
    now[0] += 100
    assert not stream.lost()
    for _ in range(int(microphone.LOST_SECONDS / 0.05) + 2):
        now[0] += 0.05
        gone = stream.lost()
    assert gone


def test_a_device_that_gives_nothing_is_told(portaudio, monkeypatch):
    monkeypatch.setattr(microphone, "START_SECONDS", 0.2)
    monkeypatch.setattr(FakeStream, "start", lambda self: None)
    portaudio(INPUTS)
    with pytest.raises(InputError, match="gives no samples"):
        Microphone(None, print)


@pytest.mark.parametrize(("where", "within"), [("query_devices", 0.1), ("InputStream", 0.4)])
def test_a_sound_system_that_hangs_is_told(portaudio, monkeypatch, where, within):
    """Where it does so in listing its devices sooner than where a device does not open, which may take long."""
    for name, seconds in (("LISTING_SECONDS", 0.1), ("START_SECONDS", 0.2), ("LOST_SECONDS", 0.1)):
        monkeypatch.setattr(microphone, name, seconds)
    fake, free = portaudio(INPUTS), threading.Event()
    monkeypatch.setattr(fake, where, lambda *_, **__: free.wait(10) and [])
    with pytest.raises(InputError, match=rf"does not answer within {within:g} s; restart"):
        Microphone(None, print)
    free.set()


def lost(gaps, rate=1000, late=lambda second: 0.0, held=lambda second: 0.0, drift=0.0, seconds=60):
    """What is noticed of a device that gives 20-ms blocks: gaps, {second: samples lost}; late and held, by second.

    Returns (when, samples) of each.
    """
    lag, captured, noticed = Lag(rate), 0, []
    gaps = dict(gaps)
    for index in range(seconds * 50):
        second = index / 50
        captured += rate // 50 - sum(gaps.pop(one) for one in [one for one in gaps if one <= second])
        if missing := lag.lost(second * (1 + drift) + late(second), captured, held(second)):
            noticed.append((second, missing))
    return noticed


@pytest.mark.parametrize("held", [lambda second: 0.0, lambda second: 0.03 * (second % 1), lambda second: 0.4])
def test_lost_samples_are_noticed_by_the_clock(held):
    (noticed,) = lost({20: 300}, held=held)
    assert noticed[1] == pytest.approx(300, abs=1) and 20 < noticed[0] < 20 + 2 * 4 + 0.1


def test_late_samples_are_not_lost_nor_is_a_clock_that_is_not_ours():
    generator = np.random.default_rng(0)
    assert lost({}, late=lambda second: generator.uniform(0, 0.5)) == []
    assert lost({}, late=lambda second: 1.5 if 20 < second < 21.5 else 0) == []
    for drift in (-0.005, 0.005):
        assert lost({}, drift=drift) == []


def test_samples_that_the_driver_holds_are_not_lost_however_long_nobody_fetches_them():
    def behind(second):
        return min(1.0, max(0.0, second - 20) / 10) if second < 45 else 0.0

    assert lost({}, late=behind) != []  # without the driver's word nobody could tell
    assert lost({}, late=behind, held=behind) == []
    ((_, samples),) = lost({33: 400}, late=behind, held=behind)
    assert samples == pytest.approx(400, abs=100)


def test_a_driver_that_changes_its_word_loses_nothing():
    """PulseAudio's does, when a stream begins and its latency settles."""
    assert lost({}, held=lambda second: 0.39 if second < 3 else 0.007) == []
    assert lost({}, held=lambda second: 0.0 if second < 30 else 0.3) == []


needs_server = pytest.mark.skipif(
    bool(sound_server.missing()), reason=f"not installed: {', '.join(sound_server.missing())} (make system-tools)"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with sound_server.running(tmp_path_factory.mktemp("sound"), rate=32000) as running:
        yield running


class Live:
    """`edgeq live` on one of the server's microphones, in a process of its own, once it hears."""

    def __init__(self, server, *arguments, model="esc10-qnano", device=sound_server.MICROPHONE):
        script = "from edgeq.cli import main; main()"
        command = [sys.executable, "-c", script, "live", model, "--int8", "--json", "--top", "10"]
        self.process = subprocess.Popen(
            [*command, "--device", device, *arguments],
            env=server.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.updates, self._said = [], []
        self._readers = [
            threading.Thread(target=read) for read in (self._hear, lambda: self._said.extend(self.process.stderr))
        ]
        for reader in self._readers:
            reader.start()
        while not self.updates:
            assert any(reader.is_alive() for reader in self._readers), self._said
            time.sleep(0.01)

    def _hear(self):
        for line in self.process.stdout:
            update = json.loads(line)
            # When the zeroth sample was captured, if nothing but what is counted was lost.
            update["begun"] = time.monotonic() - update["latency_ms"] / 1000 - update["time"]
            self.updates.append(update)

    def end(self):
        """The rest of its lines, what it said, and its exit code."""
        code = self.process.wait(timeout=180)
        for reader in self._readers:
            reader.join()
        return self.updates, "".join(self._said), code


MICROPHONES = tuple(sound_server.MICROPHONE + letter for letter in "ABCDEF")
SILENCE, MARK = 0.75, 0.5  # seconds


def chosen(esc10, count):
    """So many clips of every class, spread over its files; one of each class in turn."""
    with (esc10 / "meta.csv").open() as table:
        rows = sorted((row["category"], row["file"]) for row in csv.DictReader(table))
    files = [[file for name, file in rows if name == label] for label in sorted({name for name, _ in rows})]
    return [esc10 / "audio" / of_class[index * len(of_class) // count] for index in range(count) for of_class in files]


def tape(clips, path):
    """Write their sound with silence between, behind a mark; 44.1 kHz, as they are.

    Returns from where to where each lasts, in seconds behind the beginning of the mark.
    """
    silence = np.zeros(round(SILENCE * 44100), np.float32)
    mark = np.random.default_rng(0).normal(0, 0.2, round(MARK * 44100)).astype(np.float32)
    parts, spans, length = [silence, mark, silence], [], len(mark) + len(silence)
    for clip in clips:
        samples, rate = soundfile.read(clip, dtype="float32")
        assert rate == 44100
        spans.append((length / rate, (length + len(samples)) / rate))
        parts += [samples, silence]
        length += len(samples) + len(silence)
    soundfile.write(path, np.concatenate(parts), 44100)
    return spans


def mark_begins(updates, hop):
    """At which second of what was heard a tape's mark begins, give or take half a hop."""
    # The first window that hears it ends up to a hop behind that.
    return next((one["time"] for one in updates if not one["silent"]), math.inf) - hop / 2


def labels_heard(updates, spans, window, hop):
    """The best label of the mean of the ungated windows that lie inside each of a tape's clips."""
    begins, labels = mark_begins(updates, hop), []
    for start, end in spans:
        inside = [
            one for one in updates
            if start - hop / 2 <= one["time"] - window - begins and one["time"] - begins <= end + hop / 2
            and not one["silent"]
        ]  # fmt: skip
        scores = collections.Counter()
        for one in inside:
            scores.update({entry["label"]: entry["score"] / len(inside) for entry in one["top"]})
        labels.append(max(scores, key=scores.__getitem__) if inside else None)
    return labels


@needs_server
@pytest.mark.slow
def test_clips_through_the_microphone_have_the_labels_that_classify_gives(esc10, tmp_path):
    """60 of them, on six microphones side by side, each at its own pace as everywhere in this world."""
    clips = chosen(esc10, 6)
    expected = [clip.top[0].label for clip in classify.classify("esc10-qtiny", clips, int8=True)]
    spec = zoo.find("esc10-qtiny").frontend
    hop = spec.window_hop_seconds
    each, dropped = len(clips) // len(MICROPHONES), []

    def through(server, turn):
        device, path = MICROPHONES[turn], tmp_path / f"{turn}.wav"
        spans = tape(clips[turn * each : (turn + 1) * each], path)
        live = Live(server, model="esc10-qtiny", device=device)
        server.play(path, device)
        until = time.monotonic() + 30
        while (
            live.updates[-1]["time"] - mark_begins(live.updates, hop) < spans[-1][1] + hop and time.monotonic() < until
        ):
            time.sleep(0.1)
        live.process.terminate()
        updates, said, code = live.end()
        assert code == 0, said
        dropped.append(updates[-1]["dropped"])
        return labels_heard(updates, spans, spec.window_seconds, hop)

    with sound_server.running(tmp_path / "server", rate=44100, microphones=MICROPHONES) as server:
        with ThreadPoolExecutor(len(MICROPHONES)) as pool:
            heard = [
                label for labels in pool.map(partial(through, server), range(len(MICROPHONES))) for label in labels
            ]
    equal = sum(left == right for left, right in zip(heard, expected, strict=True))
    print(f"{equal} of {len(clips)} clips have the label that classify gives")
    assert equal >= 0.95 * len(clips) == 57, [
        dropped,
        *((clip.name, *both) for clip, *both in zip(clips, heard, expected, strict=True) if both[0] != both[1]),
    ]


@needs_server
@pytest.mark.slow
def test_a_suspended_device_is_opened_again_and_time_goes_on_as_the_clock_does(server, tmp_path):
    mark = tmp_path / "mark.wav"
    soundfile.write(mark, np.random.default_rng(0).normal(0, 0.2, 44100), 44100)
    live = Live(server, "--seconds", "14")
    server.play(mark)
    server.control("suspend-source", sound_server.MICROPHONE, "1")
    time.sleep(microphone.LOST_SECONDS + 1)
    server.control("suspend-source", sound_server.MICROPHONE, "0")
    back = len(live.updates)
    while len(live.updates) < back + 4 and live.process.poll() is None:
        time.sleep(0.05)
    server.play(mark)
    updates, said, code = live.end()
    assert code == 0 and "gone, or stands still" in said and "back, at" in said
    gaps = [index for index in range(1, len(updates)) if updates[index]["dropped"] > updates[index - 1]["dropped"]]
    before, after = updates[: gaps[0]], updates[gaps[-1] :]
    # No window spans the gap, and it is as long as the samples that are counted as lost.
    lost = after[0]["dropped"] / 44100
    assert after[0]["time"] - before[-1]["time"] >= lost + 1.0 > 2.0
    # Lines may be late, never early.
    earliest = [min(one["begun"] for one in part) for part in (before, after)]
    assert earliest[1] == pytest.approx(earliest[0], abs=0.3)
    # What is played is heard, before and after, and silence is silence.
    for part in (before, after):
        assert {one["silent"] for one in part} == {False, True}


@needs_server
@pytest.mark.slow
def test_a_server_that_dies_and_comes_back_is_heard_again(tmp_path):
    with sound_server.running(tmp_path / "server", rate=44100) as mortal:
        live = Live(mortal, "--seconds", "8")
        mortal.end()
        time.sleep(1)
        mortal.begin_again()
        updates, said, code = live.end()
    assert code == 0 and "gone" in said and "back, at 44,100 Hz" in said
    last = updates[-1]
    assert last["dropped"] > 0.9 * 44100 and last["time"] - last["dropped"] / 44100 > 2
    assert np.all(np.diff([one["time"] for one in updates]) > 0)


@needs_server
@pytest.mark.slow
def test_a_process_that_is_halted_for_seconds_loses_nothing(server):
    """As on a computer that is too busy: the driver and PortAudio hold what comes meanwhile."""
    live = Live(server, "--seconds", "12")
    live.process.send_signal(signal.SIGSTOP)
    time.sleep(3)
    live.process.send_signal(signal.SIGCONT)
    updates, said, code = live.end()
    hops = np.diff([one["time"] for one in updates])
    assert code == 0 and "0 samples lost" in said and updates[-1]["dropped"] == 0
    assert np.ptp(hops) < 1e-4 and "gone" not in said


@needs_server
@pytest.mark.slow
def test_a_frozen_server_ends_neither_in_a_crash_nor_in_a_hang(tmp_path):
    with sound_server.running(tmp_path / "server", rate=32000) as frozen:
        live = Live(frozen, "--seconds", "6")
        frozen.process.send_signal(signal.SIGSTOP)
        _, said, code = live.end()
        frozen.process.send_signal(signal.SIGCONT)
    assert code == 0 and "gone, or stands still" in said and "samples lost" in said
