"""Microphones: what is told when one cannot be used, samples lost by the clock, and the real way through PortAudio."""

from __future__ import annotations

import importlib
import json
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import sound_server
import soundfile

from edgeq import classify
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
        self.opened = []

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
        pass

    _terminate = _exit_handler = _initialize


class FakeStream:
    def __init__(self, how):
        self.how, self.running = how, threading.Event()

    def start(self):
        def play():
            block = np.full((self.how["blocksize"], self.how["channels"]), 0.25, np.float32)
            while not self.running.wait(0.02):
                self.how["callback"](block, len(block), None, None)

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


def test_a_device_that_gives_nothing_is_told(portaudio, monkeypatch):
    monkeypatch.setattr(microphone, "START_SECONDS", 0.2)
    monkeypatch.setattr(FakeStream, "start", lambda self: None)
    portaudio(INPUTS)
    with pytest.raises(InputError, match="gives no samples"):
        Microphone(None, print)


def test_a_sound_system_that_hangs_is_told(portaudio, monkeypatch):
    for name in ("START_SECONDS", "LOST_SECONDS"):
        monkeypatch.setattr(microphone, name, 0.1)
    fake, free = portaudio(INPUTS), threading.Event()
    monkeypatch.setattr(fake, "query_devices", lambda: free.wait(10) and [])
    with pytest.raises(InputError, match="does not answer"):
        Microphone(None, print)
    free.set()


def lost(gaps, rate=1000, late=lambda index: 0.0, drift=0.0, seconds=60):
    """What is noticed of a device that gives 20-ms blocks: gaps, {second: samples lost}; late, by block."""
    lag, captured, noticed = Lag(rate), 0, []
    gaps = dict(gaps)
    for index in range(seconds * 50):
        now = index / 50 * (1 + drift)
        count = rate // 50
        for second in [second for second in gaps if second <= index / 50]:
            count -= gaps.pop(second)
        captured += count
        if missing := lag.lost(now + late(index), captured):
            noticed.append((now, missing))
    return noticed


def test_lost_samples_are_noticed_by_the_clock():
    (noticed,) = lost({20: 300})
    assert noticed[1] == pytest.approx(300, abs=1) and 20 < noticed[0] < 20 + 2 * 4 + 0.1


def test_late_samples_are_not_lost_nor_is_a_clock_that_is_not_ours():
    generator = np.random.default_rng(0)
    assert lost({}, late=lambda index: generator.uniform(0, 0.5)) == []
    assert lost({}, late=lambda index: 1.5 if 1000 < index < 1075 else 0) == []
    for drift in (-0.005, 0.005):
        assert lost({}, drift=drift) == []


needs_server = pytest.mark.skipif(
    bool(sound_server.missing()), reason=f"not installed: {', '.join(sound_server.missing())} (make system-tools)"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with sound_server.running(tmp_path_factory.mktemp("sound"), rate=32000) as running:
        yield running


class Live:
    """`edgeq live` on the server's microphone, in a process of its own, once it hears."""

    def __init__(self, server, *arguments):
        script = "from edgeq.cli import main; main()"
        command = [sys.executable, "-c", script, "live", "esc10-qnano", "--int8", "--json", "--top", "10"]
        self.process = subprocess.Popen(
            [*command, "--device", sound_server.MICROPHONE, *arguments],
            env=server.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.first = json.loads(self.process.stdout.readline())

    def end(self):
        """The rest of its lines, what it said, and its exit code."""
        out, said = self.process.communicate(timeout=120)
        return [self.first, *map(json.loads, out.splitlines())], said, self.process.returncode


@needs_server
@pytest.mark.slow
def test_a_clip_through_the_microphone_has_the_label_that_classify_gives(server, esc10, tmp_path):
    """The mean of the windows over its span; the span is where the sound is."""
    clips = classify.classify("esc10-qnano", sorted(esc10.rglob("*.ogg"))[:5], int8=True)
    expected = max(clips, key=lambda clip: clip.top[0].score)
    path = tmp_path / "clip.wav"
    soundfile.write(path, *soundfile.read(expected.file, dtype="float32"))
    live = Live(server, "--seconds", "12")
    server.play(path)
    updates, said, code = live.end()
    spoken = [one for one in updates if not one["silent"]]
    scores: dict[str, float] = {}
    for one in spoken:
        for entry in one["top"]:
            scores[entry["label"]] = scores.get(entry["label"], 0) + entry["score"] / len(spoken)
    assert code == 0 and updates[-1]["dropped"] == 0, said
    assert max(scores, key=scores.__getitem__) == expected.top[0].label
    assert "0 samples lost" in said


@needs_server
@pytest.mark.slow
def test_a_suspended_device_is_opened_again(server):
    live = Live(server, "--seconds", "9")
    server.control("suspend-source", sound_server.MICROPHONE, "1")
    time.sleep(microphone.LOST_SECONDS + 1)
    server.control("suspend-source", sound_server.MICROPHONE, "0")
    updates, said, code = live.end()
    assert code == 0 and "gone, or stands still" in said and "back, at" in said
    assert updates[-1]["dropped"] > 44100 and updates[-1]["time"] > 7


@needs_server
@pytest.mark.slow
def test_a_frozen_server_ends_neither_in_a_crash_nor_in_a_hang(tmp_path):
    with sound_server.running(tmp_path / "server", rate=32000) as frozen:
        live = Live(frozen, "--seconds", "6")
        frozen.process.send_signal(signal.SIGSTOP)
        _, said, code = live.end()
        frozen.process.send_signal(signal.SIGCONT)
    assert code == 0 and "gone, or stands still" in said and "samples lost" in said
