"""Microphones are listed in a process of its own, with a PortAudio that the test makes up."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from edgeq import cli, doctor
from edgeq.errors import InputError
from edgeq.live import devices
from edgeq.live.microphone import Device

WORKS = """
class default: device = (1, -1)
def query_devices():
    inputs = ("Speaker", 0), ("USB Mic", 1), ("HDA [0]", 2)
    return [{"name": name, "max_input_channels": n, "default_samplerate": 48000.0} for name, n in inputs]
"""


@pytest.fixture
def sounddevice(tmp_path, monkeypatch):
    def use(code):
        (tmp_path / "sounddevice.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return use


def test_inputs_are_listed(sounddevice):
    sounddevice(WORKS)
    assert devices.listed() == [
        Device(1, "USB Mic", 1, 48000, True), Device(2, "HDA [0]", 2, 48000, False),
    ]  # fmt: skip
    shown = CliRunner().invoke(cli.commands, ["live", "--list-devices"]).stdout
    assert "USB Mic  (default)" in shown and "HDA [0]" in shown and "Speaker" not in shown
    check = doctor._microphone()
    assert check.ok and check.detail == "2 inputs: USB Mic, HDA [0]"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise OSError('PortAudio library not found')", r"^PortAudio is not installed; run: sudo apt install"),
        ("raise ModuleNotFoundError('sounddevice')", r"^sounddevice is not installed; run: pip install"),
        ("import os; os.abort()", r"^PortAudio cannot list the devices \(.+\); run: edgeq doctor$"),
        ("def query_devices(): raise RuntimeError('host error')", r"cannot list the devices \(.+\)"),
    ],
)
def test_a_portaudio_that_does_not_work_is_told_in_a_line(sounddevice, code, words):
    sounddevice(code)
    with pytest.raises(InputError, match=words) as caught:
        devices.listed()
    assert "\n" not in str(caught.value)


def test_a_sound_system_that_stands_still_is_told_and_left(sounddevice, monkeypatch, capsys):
    sounddevice("import time; time.sleep(600)")
    monkeypatch.setattr(devices, "LISTING_SECONDS", 0.5)
    with pytest.raises(SystemExit) as left:
        cli.main(["live", "--list-devices"])
    said = capsys.readouterr().err
    assert left.value.code == 2 and said.startswith("edgeq: the sound system does not answer within 0.5 s; restart")
    check = doctor._microphone()
    assert not check.ok and check.optional and "does not answer" in check.detail
