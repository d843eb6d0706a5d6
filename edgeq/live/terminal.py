"""What is heard as a picture in a terminal: spectrogram, level, classes, events, latency and load."""

from __future__ import annotations

import contextlib
import textwrap
import time
from collections.abc import Iterable
from types import TracebackType

import numpy as np
from rich.cells import cell_len, set_cell_size
from rich.console import Console

from edgeq.decision import Event
from edgeq.live.level import FLOOR_DB
from edgeq.live.listener import Update
from edgeq.live.run import State
from edgeq.live.spectrogram import COLOURS, Spectrogram

_REFRESH_SECONDS = 0.1
_REPAINT_SECONDS = 2.0
"""After which everything is drawn anew, whatever other programs did to the screen."""
_FRESH_SECONDS = 10.0
_HELD_SECONDS = 2.0
_FALL_DB = 1.5
"""By which the meter falls in a refresh, so that an eye can follow a peak."""

_METER_DB = -60.0
"""At the left end of the meter."""
_LOUD_DB, _CLIPPING_DB = -12.0, -1.0
_CLASSES = 10
_LABEL, _BAR = 18, 60
_EVENTS_WIDTH = 30
_GUTTER = 6
_SILENCE = " silence "
_LEAST_SPECTROGRAM = 3
_LEAST_EVENTS = 5
_NARROW = 30
"""Columns below which names and bars are all there is room for."""
_HIGH = 17
"""Lines for spectrogram, classes and events below which the classes are the best few."""
_ROOMY = 28
"""Lines from which on the picture has some to spare."""

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[0m\x1b[?25h\x1b[?1049l"
_BEGIN, _END = "\x1b[?2026h", "\x1b[?2026l"  # shown at once, where a terminal knows it
_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}

Piece = tuple[str, str]
"""Some characters and their style: words of _STYLES."""


class Screen:
    """The picture, at most ten times a second; a context, which gives the terminal back as it was.

    note: a line that stays in it, such as where else to look.
    """

    def __init__(self, console: Console | None = None, note: str = "") -> None:
        self._console = console or Console()
        self._note = note
        self._picture: Picture | None = None
        self._shown: list[str] = []
        self._size = (0, 0)
        self._next = self._repaint = 0.0

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        if self._picture is not None:
            with contextlib.suppress(OSError):  # a terminal that is gone
                self._write(_LEAVE)

    def hear(self, frames: np.ndarray, state: State) -> None:
        self._of(state).spectrogram.add(frames, state.seconds)

    def update(self, update: Update, state: State) -> None:
        self._of(state).update = update

    def refresh(self, state: State) -> None:
        picture, now = self._of(state), time.monotonic()
        picture.peak_db = max(picture.peak_db, state.peak_db)
        if now < self._next:
            return
        self._next = now + _REFRESH_SECONDS
        size = self._console.size
        if (size.width, size.height) != self._size or now >= self._repaint:
            self._size, self._shown, self._repaint = (size.width, size.height), [], now + _REPAINT_SECONDS
        lines = picture.lines(state, *self._size, now)
        self._write(_changes(self._shown, lines))
        self._shown = lines

    def say(self, words: str) -> None:
        """Nothing: the picture has a line for it."""

    def _of(self, state: State) -> Picture:
        if self._picture is None:
            self._picture = Picture(state, self._console, self._note)
            self._write(_ENTER)
        return self._picture

    def _write(self, text: str) -> None:
        self._console.file.write(text)
        self._console.file.flush()


class Picture:
    """What is on the screen, as lines.

    update: the last window. peak_db: the loudest since the last picture.
    """

    def __init__(self, state: State, console: Console, note: str = "") -> None:
        self.spectrogram = Spectrogram(state.frontend)
        self.update: Update | None = None
        self.peak_db = FLOOR_DB
        self._encoding = console.encoding
        self._blocks = self._encoding.startswith("utf")
        colours = None if console.no_color else console.color_system
        self._colours = colours if colours in COLOURS else "standard" if colours else "none"
        self._level = self._held = FLOOR_DB
        self._held_until = 0.0
        self._note = note
        self._words, self._said = "", 0.0

    def lines(self, state: State, width: int, height: int, now: float) -> list[str]:
        """At most `height` lines of at most `width` characters, with escape sequences. now: a clock, in seconds."""
        self._move(state, now)
        words = [self._line([(self._fit(self._note, width), "dim")], width)] if self._note else []
        words += self._told(width, now)
        head, level, costs = self._head(state, width), self._meter(width), self._costs(state, width)
        most = max(len(state.labels), _LEAST_EVENTS + 1)
        room = height - len(words) - 3  # head, level and costs
        spaces = 2 if height >= _ROOMY else 1
        wanted = max(_CLASSES if room >= _HIGH else _LEAST_EVENTS, room // 3)
        over = room - min(most, wanted) - spaces - 1  # marks above the spectrogram
        spectrogram = min(over, self.spectrogram.most_rows) if over >= _LEAST_SPECTROGRAM and width >= _NARROW else 0
        listed = room - spectrogram - spaces - 1 if spectrogram else max(1, room)
        above = self._drawn(state, width, spectrogram) if spectrogram else []
        of = [self._line([(self._of(state), "dim")], width)] if spectrogram else []
        rows = self._panels(state, width, listed)
        space = [" " * width] if spectrogram and spaces == 2 else []
        return [head, *above, level, *of, *rows, *space, costs, *words][:height]

    def _move(self, state: State, now: float) -> None:
        self._level = max(self.peak_db, self._level - _FALL_DB)
        if self.peak_db >= self._held or now >= self._held_until:
            self._held, self._held_until = self.peak_db, now + _HELD_SECONDS
        self.peak_db = FLOOR_DB
        if state.words != self._words:
            self._words, self._said = state.words, now

    def _of(self, state: State) -> str:
        """What the classes' scores are, where they are more than a window's probabilities."""
        return f"mean of the last {state.rule.smoothing} windows" if state.rule.smoothing > 1 else ""

    def _head(self, state: State, width: int) -> str:
        clock = _clock(state.seconds)
        what = f"{state.model} hears {state.source}"
        if width < _NARROW:
            return self._line([(what, "bold")], width)
        room = width - len(clock) - 1
        return self._line([(self._fit(what, room), "bold"), (f" {clock}", "")], width)

    def _drawn(self, state: State, width: int, height: int) -> list[str]:
        """The spectrogram with its frequencies and, above it, the events where they began."""
        wide = width - _GUTTER
        marks = [" "] * wide
        free = wide
        for event in reversed(state.events):
            behind = (self.spectrogram.end_seconds - event.time_seconds) / self.spectrogram.column_seconds
            place = wide - 1 - round(behind)
            if place < 0:
                break
            text = self._clean(("▾" if self._blocks else "|") + event.label)
            if place >= free:
                continue
            text = set_cell_size(text, min(cell_len(text), free - place))
            marks[place : place + cell_len(text)] = [text] + [""] * (cell_len(text) - 1)
            free = place - 1
        lines = [self._line([("Hz".rjust(_GUTTER - 1) + " ", "dim"), ("".join(marks), "cyan")], width)]
        beside = self.spectrogram.hertz(height)
        drawn = self.spectrogram.lines(wide, height, self._colours, self._blocks)
        return lines + [
            self._styled([(hertz.rjust(_GUTTER - 1) + " ", "dim")]) + line
            for hertz, line in zip(beside, drawn, strict=True)
        ]

    def _meter(self, width: int) -> str:
        figure = f" {self._level:4.0f} dB" if self._level > FLOOR_DB else " -inf dB"
        wide = max(1, width - _GUTTER - len(figure))
        end, loud, clipping, held = (
            round(self._share(one) * wide) for one in (self._level, _LOUD_DB, _CLIPPING_DB, self._held)
        )
        solid, track, peak = "━─╸" if self._blocks else "=-|"
        cells = [
            (solid, "green" if at < loud else "yellow" if at < clipping else "red") if at < end else (track, "dim")
            for at in range(wide)
        ]
        if end < held:
            cells[held - 1] = peak, "green" if held <= loud else "yellow" if held <= clipping else "red"
        if self.update and self.update.silent and wide - end > len(_SILENCE):
            cells[-len(_SILENCE) :] = [(_SILENCE, "")]
        return self._line([("level ", "dim"), *cells, (figure, "")], width)

    @staticmethod
    def _share(decibels: float) -> float:
        return min(1.0, max(0.0, 1 - decibels / _METER_DB))

    def _panels(self, state: State, width: int, count: int) -> list[str]:
        """Classes at the left, events at the right where there is room for both."""
        if width < 50:
            return [self._line(row, width) for row in self._classes(state, width, count)]
        right = max(22, min(_EVENTS_WIDTH, width * 2 // 5))
        left = min(width - right - 3, _LABEL + _BAR + 7)
        right = width - left - 3
        rows = zip(self._classes(state, left, count), self._events(state, right, count), strict=True)
        bar = ("│" if self._blocks else "|", "dim")
        return [self._line([*one, (" ", ""), bar, (" ", ""), *other], width) for one, other in rows]

    def _classes(self, state: State, width: int, count: int) -> list[list[Piece]]:
        """So many rows. The labels in their own order, so that bars don't jump; of too many, the best."""
        name = min(_LABEL, max(cell_len(label) for label in state.labels), width // 2)
        wide = width - name - 6
        scores = np.zeros(len(state.labels)) if self.update is None else self.update.scores
        active = self.update.active if self.update else ()
        best = int(scores.argmax()) if self.update and not self.update.silent else -1
        rows: list[list[Piece]] = []
        for index in np.sort(np.argsort(-scores, kind="stable")[:count]):
            label, score = state.labels[index], float(scores[index])
            style = "bold green" if label in active else "bold" if index == best else ""
            style = "dim" if self.update is None or self.update.silent else style
            text = f"{score:5.0%}" if self.update else "     "
            bar = self._bar(score, state.rule.on, wide, style)
            rows.append([(self._fit(label, name), style), (" ", ""), *bar, (text, style)])
        return rows + [[(" " * width, "")]] * (count - len(rows))

    def _bar(self, share: float, threshold: float, width: int, style: str) -> list[Piece]:
        """To half a character, where the terminal has such lines; with the threshold, until the bar reaches it."""
        halves = round(2 * width * share) if self._blocks else 2 * round(width * share)
        bar = ("━" if self._blocks else "=") * (halves // 2) + "╸" * (halves % 2)
        rest = [" "] * (width - len(bar))
        at = round(width * threshold) - 1 - len(bar)
        if 0 <= at < len(rest):
            rest[at] = "┊" if self._blocks else ":"
        return [(bar, style or "cyan"), ("".join(rest), "dim")]

    def _events(self, state: State, width: int, count: int) -> list[list[Piece]]:
        """So many rows, the newest event first."""
        rule = f"threshold {state.rule.on:.0%}"
        title = f"{state.begun:,} event{'' if state.begun == 1 else 's'}"
        rows: list[list[Piece]] = [
            [(title, "bold"), (rule.rjust(width - len(title)) if len(rule) + len(title) < width else "", "dim")]
        ]
        active = list(self.update.active) if self.update else []
        for event in list(state.events)[:-count:-1]:
            lasting = event.label in active
            if lasting:
                active.remove(event.label)
            rows.append(self._event(event, width, lasting))
        return rows + [[]] * (count - len(rows))

    def _event(self, event: Event, width: int, lasting: bool) -> list[Piece]:
        clock, score = _clock(event.time_seconds), f"{event.score:5.0%}"
        label = self._fit(event.label, width - len(clock) - len(score) - 2)
        return [(f"{clock}  ", "dim"), (label, "bold green" if lasting else ""), (score, "dim")]

    def _costs(self, state: State, width: int) -> str:
        lost = f"{state.dropped:,} samples lost"
        parts: list[Piece] = [
            (f"latency {state.latency(50):.0f} ms, p95 {state.latency(95):.0f} ms", "dim"),
            (f"load {state.load:.0%} of a core", "dim"),
            (lost, "red" if state.dropped else "dim"),
            (f"{state.inference_ms:.1f} ms a window", "dim"),
        ]
        line: list[Piece] = []
        for text, style in parts:
            if sum(cell_len(one) for one, _ in line) + 3 + len(text) > width and line:
                break
            line += [(" · " if self._blocks else " - ", "dim")] * bool(line) + [(text, style)]
        return self._line(line, width)

    def _told(self, width: int, now: float) -> list[str]:
        """What was said last, in one line or two."""
        waits = "" if self.update else "waiting for the first window"
        style = "dim" if now - self._said > _FRESH_SECONDS or not self._words else "yellow"
        text, more = self._clean(self._words or waits), " …" if self._blocks else " ..."
        found = textwrap.wrap(text, max(10, width), max_lines=2, placeholder=more, break_on_hyphens=False)
        return [self._line([(line, style)], width) for line in found or [""]]

    def _fit(self, text: str, width: int) -> str:
        """Cut with an ellipsis, or filled up with spaces."""
        text = self._clean(text)
        if cell_len(text) > width:
            text = set_cell_size(text, max(0, width - 1)) + ("…" if self._blocks else "~")
        return set_cell_size(text, max(0, width))

    def _clean(self, text: str) -> str:
        """Without what the terminal would obey or cannot show."""
        text = "".join(sign if sign.isprintable() else " " for sign in text)
        return text.encode(self._encoding, "replace").decode(self._encoding)

    def _line(self, pieces: Iterable[Piece], width: int) -> str:
        """Pieces with their escape sequences, cut at the width or filled up to it."""
        kept: list[Piece] = []
        for text, style in pieces:
            room = width - sum(cell_len(one) for one, _ in kept)
            if room <= 0:
                break
            kept.append((text if cell_len(text) <= room else set_cell_size(text, room), style))
        kept.append((" " * (width - sum(cell_len(one) for one, _ in kept)), ""))
        return self._styled(kept)

    def _styled(self, pieces: Iterable[Piece]) -> str:
        result, before = [], ""
        for text, style in pieces:
            if style != before and (text.strip() or before):
                codes = [_STYLES[word] for word in style.split() if self._colours != "none" or word in ("bold", "dim")]
                result.append("\x1b[" + ";".join(["0", *codes]) + "m")
                before = style
            result.append(text)
        return "".join(result) + ("\x1b[0m" if before else "")


def _changes(before: list[str], after: list[str]) -> str:
    """What turns a screen with some lines into one with others; all of it, where there were none before."""
    drawn = [
        f"\x1b[{row};1H{line}"
        for row, line in enumerate(after, start=1)
        if not before[row - 1 : row] or before[row - 1] != line
    ]
    emptied = (
        "" if before and len(before) <= len(after) else "\x1b[2J" if not before else f"\x1b[{len(after) + 1};1H\x1b[J"
    )
    return _BEGIN + emptied + "".join(drawn) + _END


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
