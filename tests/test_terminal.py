"""The picture of `edgeq live` fits 80 x 24 and shows what is heard."""

from __future__ import annotations

import io
import os
import sys
from collections import Counter

import bundles
import numpy as np
import pytest
import soundfile
from rich.console import Console

from edgeq.decision import Event
from edgeq.live.level import FLOOR_DB
from edgeq.live.listener import Update
from edgeq.live.run import State
from edgeq.live.terminal import Screen

LABELS = ("dog", "rain [wet]", "a label that is far too long for its column", *(f"class {i}" for i in range(40)))


def state(model, source, **fields):
    return State(model, source, LABELS, bundles.FRONTEND, **fields)


def console(encoding="utf-8"):
    return Console(file=io.TextIOWrapper(io.BytesIO(), encoding), width=80, height=24, force_terminal=True)


def picture(now, update=None, encoding="utf-8"):
    """Its lines."""
    made = console(encoding)
    screen = Screen(made)
    if update is not None:
        screen.update(update, now)
    with made.capture() as captured:
        made.print(screen.picture(now))
    return captured.get().splitlines()


def update(probabilities, silent=False, active=()):
    scores = np.asarray(probabilities, np.float32)
    return Update(1.0, LABELS[: len(scores)], scores, None, active, 20.0, 0, silent)


@pytest.mark.parametrize("classes", [1, 4, 10, 43])
def test_it_fits_80_by_24_whatever_there_is_to_show(classes):
    now = state(
        "m" * 90,
        "s" * 90,
        words="w" * 300,
        seconds=4e5,
        dropped=10**9,
        load=1.5,
        counts=Counter({LABELS[2]: 200}),
        peak_db=0.0,
    )
    now.events.extend(Event(LABELS[2], 0.9, index, index) for index in range(100))
    now.latencies.extend([1e4] * 50)
    for lines in (picture(now), picture(now, update(np.full(classes, 1 / classes)))):
        assert len(lines) < 24
    plain = Console(file=io.StringIO(), width=80, color_system=None)
    screen = Screen(plain)
    screen.update(update(np.full(classes, 1 / classes)), state)
    with plain.capture() as captured:
        plain.print(screen.picture(now))
    assert max(map(len, captured.get().splitlines())) <= 80


def test_it_shows_classes_events_costs_and_words():
    now = state(
        "model", "USB Mic", seconds=3725.0, load=0.07, dropped=12, counts=Counter({"dog": 7}), words="the sound clips"
    )
    now.events.append(Event("rain [wet]", 0.91, 60.0, 61.0))
    now.latencies.extend([10.0, 20.0, 30.0])
    shown = "\n".join(picture(now, update([0.25, 0.75], active=("dog",))))
    for words in ("model hears USB Mic", "25%", "75%", "rain [wet]", "0:01:01", "events: 7", "1:02:05", "p50 20 ms"):
        assert words in shown
    assert "7% of a core" in shown and "12 samples lost" in shown and "the sound clips" in shown
    assert shown.count("█") == round(0.25 * 30) + round(0.75 * 30)


def test_of_many_classes_the_best_are_shown_in_their_own_order():
    scores = np.linspace(0, 0.04, 43)
    shown = "\n".join(picture(state("m", "s"), update(scores)))
    places = [shown.find(label) for label in LABELS[-10:]]
    assert min(places) > 0 and places == sorted(places) and LABELS[20] not in shown


def test_a_terminal_without_blocks_gets_signs_it_has():
    shown = "\n".join(picture(state("m", "s"), update([0.5, 0.5]), encoding="ascii"))
    assert "█" not in shown and shown.count("#") == 30


def test_the_meter_rises_at_once_and_falls_slowly(monkeypatch):
    screen, now = Screen(console()), [0.0]
    monkeypatch.setattr("edgeq.live.terminal.time.monotonic", lambda: now[0])
    levels = []
    for peak in (-6.0, FLOOR_DB, FLOOR_DB):
        now[0] += 1
        screen.refresh(state("m", "s", peak_db=peak))
        levels.append(screen._level)
    assert levels[0] == -6.0 and levels[0] > levels[1] > levels[2] > -20


@pytest.mark.skipif(sys.platform == "win32", reason="no terminals of one's own")
def test_on_a_terminal_it_is_a_picture_and_a_line_at_the_end(tmp_path):
    import pty

    noise = np.random.default_rng(0).normal(0, 0.1, 64_000)
    soundfile.write(tmp_path / "a.wav", noise, 32_000)
    process, terminal = pty.fork()
    if process == 0:
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
        script = "from edgeq.cli import main; main()"
        command = [sys.executable, "-c", script, "live", "esc10-qnano", "--input", str(tmp_path / "a.wav")]
        os.execve(sys.executable, command, environment)
    shown = b""
    try:
        while more := os.read(terminal, 1 << 16):
            shown += more
    except OSError:  # how a terminal ends on Linux
        pass
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    assert b"esc10-qnano in onnxruntime hears" in shown and b"edgeq: 2.0 s of sound, 5 windows" in shown
