"""What is heard as a picture in a terminal of 80 x 24: level, classes, events, latency and load."""

from __future__ import annotations

import time
from types import TracebackType

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from edgeq.live.level import FLOOR_DB
from edgeq.live.listener import Update
from edgeq.live.run import State

_REFRESH_SECONDS = 0.1
_CLASSES = 10
_EVENTS = 5
_BAR = 30
_LOUD_DB, _CLIPPING_DB = -12.0, -1.0
_FALL_DB = 1.5
"""By which the meter falls in a refresh, so that an eye can follow a peak."""


class Screen:
    """The picture; a context, in which the terminal is its own."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._level = self._peak = FLOOR_DB
        self._update: Update | None = None
        self._block = "█" if self._console.encoding.startswith("utf") else "#"
        self._shown = 0.0
        self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)

    def __enter__(self) -> Screen:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        self._live.stop()

    def hear(self, frames: np.ndarray, state: State) -> None:
        """Nothing: the picture shows windows."""

    def update(self, update: Update, state: State) -> None:
        self._update = update

    def refresh(self, state: State) -> None:
        self._peak = max(self._peak, state.peak_db)
        if time.monotonic() - self._shown < _REFRESH_SECONDS:
            return
        self._shown = time.monotonic()
        self._level, self._peak = max(self._peak, self._level - _FALL_DB), FLOOR_DB
        self._live.update(self.picture(state), refresh=True)

    def say(self, words: str) -> None:
        """Nothing: the picture has a line for it."""

    def picture(self, state: State) -> RenderableType:
        """The whole of it, as of now."""
        head = Text(f"{state.model} hears {state.source}", style="bold", no_wrap=True, overflow="ellipsis")
        words = Text(state.words, style="yellow", no_wrap=True, overflow="ellipsis")
        below = *self._events(state), Text(), _costs(state), words
        return Group(head, self._meter(), Text(), self._classes(), Text(), *below)

    def _meter(self) -> Text:
        share = 1 - self._level / FLOOR_DB
        colour = "red" if self._level >= _CLIPPING_DB else "yellow" if self._level >= _LOUD_DB else "green"
        return Text("level ").append(self._bar(share), style=colour).append(f" {self._level:4.0f} dB of full scale")

    def _classes(self) -> Table:
        table = Table.grid(padding=(0, 1))
        table.add_column(width=18, no_wrap=True, overflow="ellipsis")
        table.add_column(width=_BAR)
        table.add_column(justify="right", width=5)
        rows = self._update.probabilities if self._update else np.zeros(0)
        labels = self._update.labels if self._update else ()
        # In their own order, so that bars don't jump; of many classes, the best.
        shown = np.sort(np.argsort(-rows, kind="stable")[:_CLASSES])
        for index in shown:
            assert self._update is not None
            active, score = labels[index] in self._update.active, float(rows[index])
            style = "dim" if self._update.silent else "bold green" if active else "bold" if score == rows.max() else ""
            table.add_row(
                Text(labels[index], style), Text(self._bar(score).rstrip(), style), Text(f"{score:.0%}", style)
            )
        for _ in range(min(_CLASSES, max(1, len(labels))) - len(shown)):
            table.add_row()
        return table

    def _events(self, state: State) -> list[Text]:
        lines = [
            Text.from_markup(f"[dim]{_clock(event.time_seconds)}[/]  {escape(event.label)}  [dim]{event.score:.0%}[/]")
            for event in list(state.events)[-_EVENTS:]
        ]
        return [Text(f"events: {state.begun}", style="bold"), *lines, *[Text()] * (_EVENTS - len(lines))]

    def _bar(self, share: float) -> str:
        return (self._block * round(_BAR * min(1.0, max(0.0, share)))).ljust(_BAR)


def _costs(state: State) -> Text:
    latency = f"latency p50 {state.latency(50):.0f} ms, p95 {state.latency(95):.0f} ms"
    words = f"{_clock(state.seconds)}  {latency}  {state.load:.0%} of a core  {state.dropped:,} samples lost"
    return Text(words, "dim", no_wrap=True, overflow="ellipsis")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
