"""The picture of `edgeq live`, as a terminal emulator shows it."""

from __future__ import annotations

import io
import os
import re
import sys
from collections import Counter
from dataclasses import replace

import bundles
import numpy as np
import pyte
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from edgeq.audio.frontend import mel_centres
from edgeq.decision import Event, Rule
from edgeq.live.level import FLOOR_DB
from edgeq.live.listener import Update
from edgeq.live.run import State
from edgeq.live.spectrogram import Spectrogram
from edgeq.live.terminal import Picture, Screen

LABELS = ("dog", "rain [wet]", "雨 and a label that is far too long for its column", *(f"class {i}" for i in range(40)))
SPEC = bundles.FRONTEND
RATE = SPEC.sample_rate / SPEC.hop_length
ESCAPE = re.compile(r"\x1b\[[?\d;]*[A-Za-z]")


def state(model="m", source="s", labels=LABELS, **fields):
    return State(model, source, labels, SPEC, **fields)


def console(width=80, height=24, encoding="utf-8", **how):
    file = io.TextIOWrapper(io.BytesIO(), encoding, write_through=True)
    how = {"color_system": "truecolor", "force_terminal": True, "legacy_windows": False, **how}
    return Console(file=file, width=width, height=height, **how)


def update(probabilities, silent=False, active=()):
    scores = np.asarray(probabilities, np.float32)
    return Update(1.0, LABELS[: len(scores)], np.zeros_like(scores), scores, None, active, 20.0, 0, silent)


def frames(seconds, mel=None, loud=10.0):
    """Quiet log-mel, in which one mel is loud."""
    values = np.full((SPEC.n_mels, round(seconds * RATE)), -60.0, np.float32)
    if mel is not None:
        values[mel] = loud
    return values


def text(now, given=None, width=80, height=24, encoding="utf-8", **how):
    """The picture's lines without their escape sequences."""
    picture = Picture(now, console(width, height, encoding, **how))
    picture.update = given
    picture.spectrogram.add(frames(20, 3), now.seconds)
    return [ESCAPE.sub("", line) for line in picture.lines(now, width, height, 0.0)]


def emulated(written, width=80, height=24):
    screen = pyte.Screen(width, height)
    pyte.Stream(screen).feed(written)
    return screen


def written(made):
    return made.file.buffer.getvalue().decode(made.encoding)


@given(
    width=st.integers(1, 220),
    height=st.integers(1, 70),
    classes=st.sampled_from([1, 2, 4, 10, 43]),
    heard=st.booleans(),
    encoding=st.sampled_from(["utf-8", "ascii"]),
)
@settings(deadline=None, max_examples=60)
def test_it_fits_any_terminal_whatever_there_is_to_show(width, height, classes, heard, encoding):
    now = state("m" * 90, "s" * 90, LABELS[:classes], words="w " * 150, seconds=4e5, dropped=10**9, load=1.5,
                counts=Counter({LABELS[2]: 200}), peak_db=0.0)  # fmt: skip
    now.events.extend(Event(LABELS[2], 0.9, index, 4e5 - 100 + index) for index in range(100))
    now.latencies.extend([1e4] * 50)
    lines = text(now, update(np.full(classes, 1 / classes)) if heard else None, width, height, encoding)
    assert len(lines) <= height
    assert {cell_len(line) for line in lines} == {width}


@pytest.mark.parametrize("width", [60, 80, 200])
def test_it_shows_classes_events_costs_and_words(width):
    now = state("model", "USB Mic", ("dog", "rain [wet]"), seconds=3725.0, load=0.07, dropped=12,
                counts=Counter({"dog": 7}), words="the sound clips", rule=Rule(on=0.8))  # fmt: skip
    now.events.extend([Event("dog", 0.8, 50.0, 51.0), Event("rain [wet]", 0.91, 60.0, 61.0)])
    now.latencies.extend([10.0, 20.0, 30.0])
    lines = text(now, update([0.25, 0.75], active=("dog",)), width)
    shown = "\n".join(lines)
    for words in ("model hears USB Mic", "25%", "75%", "0:01:01  rain [wet]", "7 events", "1:02:05", "latency 20 ms"):
        assert words in shown
    assert "threshold 80%" in shown and "7% of a core" in shown and "the sound clips" in shown
    assert ("12 samples lost" in shown) == (width >= 80)
    dog, rain = (next(line for line in lines if line.startswith(label)) for label in ("dog", "rain"))
    assert rain.count("━") == pytest.approx(3 * dog.count("━"), abs=3) and dog.count("━") > 3
    assert shown.index("0:01:01") < shown.index("0:00:51")  # the newest first
    left, right = (line.index(sign) for line, sign in ((dog, "━"), (dog, "%")))
    assert (dog.index("┊") - left) / (right - 4 - left) == pytest.approx(0.8, abs=0.05)  # the threshold
    assert "mean of the last 3 windows" in shown and "mean of" not in "".join(text(state(rule=Rule(smoothing=1))))


@pytest.mark.parametrize(("score", "marked"), [(0.0, True), (0.5, True), (0.75, True), (0.9, False), (1.0, False)])
def test_the_threshold_is_marked_until_a_bar_reaches_it(score, marked):
    shown = "".join(text(state(labels=("dog",), rule=Rule(on=0.8)), update([score])))
    assert ("┊" in shown) == marked


def test_of_many_classes_the_best_are_shown_in_their_own_order():
    scores = np.linspace(0, 0.04, 43)
    shown = "\n".join(text(state(seconds=20.0), update(scores)))
    places = [shown.find(label) for label in LABELS[-10:]]
    assert min(places) > 0 and places == sorted(places) and LABELS[20] not in shown


def test_a_sound_is_bright_at_its_frequency_and_its_time():
    mel, made = 12, console()
    with Screen(made) as screen:
        for second in range(1, 6):
            screen.hear(frames(1, mel if second == 4 else None), state(seconds=float(second)))
        screen.refresh(state(seconds=5.0))
        seen = emulated(written(made))
    rows = [row for row in range(24) if seen.buffer[row][79].data == "▀"]
    upper, lower = (
        np.array([[brightness(getattr(seen.buffer[row][x], part)) for x in range(6, 80)] for row in rows])
        for part in ("fg", "bg")
    )
    pixels = np.stack([upper, lower], axis=1).reshape(2 * len(rows), -1)[::-1]
    loud = pixels > 128
    assert np.flatnonzero(loud.any(axis=1)).tolist() == [mel * len(pixels) // SPEC.n_mels]
    columns = np.flatnonzero(loud.any(axis=0))
    assert (columns[0], columns[-1]) == (74 - 20, 74 - 11)  # from 2 s to 1 s ago, ten columns a second


def brightness(colour):
    """Of one of pyte's colours: six hexadecimal digits, or a name where there is none."""
    return 0 if colour in ("default", "black") else sum(int(colour[at : at + 2], 16) for at in (0, 2, 4)) / 3


@pytest.mark.parametrize("hertz", [200, 1000, 2000])
def test_frequencies_stand_beside_the_lines_they_lie_in(hertz):
    beside = Spectrogram(SPEC).hertz(8)
    row = beside.index(f"{hertz // 1000}k" if hertz >= 1000 else str(hertz))
    centres = mel_centres(SPEC)
    mels = [15 - 2 * row, 14 - 2 * row]  # of this line
    nearest = int(np.abs(centres - hertz).argmin())
    assert min(abs(nearest - mel) for mel in mels) <= 1


def test_silence_is_dark_and_where_sound_is_missing_there_is_nothing():
    spectrogram = Spectrogram(SPEC)
    spectrogram.add(np.full((16, 100), -100.0, np.float32), 2.0)
    assert set("".join(spectrogram.lines(20, 4, "none", True))) == {" "}
    spectrogram.add(frames(1, mel=3), 3.0)
    spectrogram.add(frames(1, mel=3), 6.0)  # two seconds of it are missing
    row = next(line for line in spectrogram.lines(40, 8, "none", False) if "@" in line)
    assert row == "@" * 10 + " " * 20 + "@" * 10


def test_nepers_and_decibels_look_alike():
    decibels, nepers = Spectrogram(SPEC), Spectrogram(replace(SPEC, log="ln", gate=SPEC.gate / 10 * np.log(10)))
    sound = np.random.default_rng(0).normal(-30, 15, (16, 500)).astype(np.float32)
    decibels.add(sound, 10.0)
    nepers.add(sound / 10 * np.log(10).astype(np.float32), 10.0)
    assert decibels.lines(70, 8, "truecolor", True) == nepers.lines(70, 8, "truecolor", True)


def test_events_are_marked_where_they_began():
    now = state(seconds=20.0)
    now.events.extend([Event("dog", 0.9, 14.5, 15.0), Event("rain [wet]", 0.9, 19.5, 20.0)])
    line = next(line for line in text(now) if "▾" in line)
    assert line.index("▾dog") == 79 - 50 and line.index("▾") == 79 - 50 and line.endswith("▾")


@pytest.mark.parametrize(
    ("how", "signs", "colours"),
    [
        ({"color_system": "truecolor"}, "▀", {"38;2", "48;2"}),
        ({"color_system": "256"}, "▀", {"38;5", "48;5"}),
        ({"color_system": "standard"}, "▀", {"3", "4"}),
        ({"color_system": None}, "█", set()),
        ({"no_color": True}, "█", set()),
        ({"encoding": "ascii"}, "@", {"32", "33", "36"}),
    ],
)
def test_poor_terminals_get_what_they_have(how, signs, colours):
    made = console(**how)
    with Screen(made) as screen:
        screen.hear(frames(9, 3), state(seconds=9.0))
        screen.update(update([0.2, 0.8]), state(seconds=9.0))
        screen.refresh(state(seconds=9.0, peak_db=-6.0, words="…"))
        drawn = written(made)
    assert signs in drawn
    used = {code for sequence in re.findall(r"\x1b\[([\d;]*)m", drawn) for code in [sequence] if code}
    if not colours:
        assert all(set(one.split(";")) <= {"0", "1", "2"} for one in used)
    for colour in colours:
        assert any(one.startswith(colour) or f";{colour}" in one for one in used)
    if "encoding" in how:
        assert drawn.isascii()


def test_what_a_name_holds_is_no_order_to_the_terminal():
    now = state("a\x1b[31mb\r\n", "\x07\x9b2Jc", ("one\x1b]0;title\x07", "two"), words="\x1b[2J")
    shown = "".join(text(now, update([0.5, 0.5])))
    assert shown.isprintable()


def test_only_what_changed_is_drawn_and_at_most_ten_times_a_second(monkeypatch):
    made, clock = console(), [0.0]
    monkeypatch.setattr("edgeq.live.terminal.time.monotonic", lambda: clock[0])
    sizes = []
    with Screen(made) as screen:
        for _ in range(50):  # of 20 ms
            clock[0] += 0.02
            before = len(written(made))
            screen.refresh(state(seconds=3.0))
            sizes.append(len(written(made)) - before)
    drawn = [size for size in sizes if size]
    assert 9 <= len(drawn) <= 10 and drawn[0] > 1000 and max(drawn[1:]) < 50


def test_another_size_is_drawn_anew_and_leaves_nothing_behind(monkeypatch):
    made, clock = console(), [0.0]
    monkeypatch.setattr("edgeq.live.terminal.time.monotonic", lambda: clock[0])
    seen = pyte.Screen(80, 24)
    stream = pyte.Stream(seen)
    fed = 0
    with Screen(made) as screen:
        for width, height in ((80, 24), (60, 20), (120, 40)):
            clock[0] += 0.2
            made.width, made.height = width, height
            seen.resize(height, width)
            screen.hear(frames(1, 3), state(seconds=clock[0]))
            screen.update(update([0.3, 0.7]), state())
            screen.refresh(state("model", "mic", ("dog", "rain [wet]"), seconds=clock[0]))
            stream.feed(written(made)[fed:])
            fed = len(written(made))
            picture = screen._picture
            expected = picture.lines(state("model", "mic", ("dog", "rain [wet]"), seconds=clock[0]), width, height, 0.0)
            assert [line[:5] for line in seen.display] == [ESCAPE.sub("", line)[:5] for line in expected] + [
                " " * 5
            ] * (height - len(expected))
            assert sum("model hears mic" in line for line in seen.display) == 1


def test_the_meter_rises_at_once_and_falls_slowly_and_holds_its_peak():
    picture = Picture(state(), console(color_system=None))
    lengths, lines = [], []
    for now, peak in enumerate((-6.0, FLOOR_DB, FLOOR_DB, FLOOR_DB)):
        picture.peak_db = peak
        lines.append(next(line for line in picture.lines(state(), 80, 24, now / 10) if "level" in line))
        lengths.append(lines[-1].count("━"))
    assert lengths[0] == round(0.9 * 66) and lengths == sorted(lengths, reverse=True) and lengths[-1] > 50
    assert all("╸" in line for line in lines[1:])


def test_silence_is_said():
    assert any("silence" in line for line in text(state(seconds=20.0), update([0.5, 0.5], silent=True)))
    assert not any("silence" in line for line in text(state(seconds=20.0), update([0.5, 0.5])))


@pytest.mark.skipif(sys.platform == "win32", reason="no terminals of one's own")
def test_on_a_terminal_it_is_a_picture_and_a_line_at_the_end(tmp_path):
    import pty

    noise = np.random.default_rng(0).normal(0, 0.1, 64_000)
    soundfile.write(tmp_path / "a.wav", noise, 32_000)
    process, terminal = pty.fork()
    if process == 0:
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "24", "NO_COLOR": ""}
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
    picture, after = shown.decode().split("\x1b[?1049l")
    seen = emulated(picture.split("\x1b[?1049h")[1], 100).display
    assert seen[0].startswith("esc10-qnano in onnxruntime hears") and any("▀" in line for line in seen)
    assert any("clock_tick" in line for line in seen) and "\x1b[?25h" in picture
    assert after.strip().startswith("edgeq: 2.0 s of sound, 5 windows")
