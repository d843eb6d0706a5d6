"""What is heard as lines: JSON for programs, words for pipes and logs. What is no sound goes to stderr."""

from __future__ import annotations

import json

import click
import numpy as np

from edgeq.live.listener import Update
from edgeq.live.run import State

_LABELS = 5


class JsonLines:
    """A JSON line a window, with so many labels."""

    def __init__(self, top: int) -> None:
        self._top = top

    def hear(self, frames: np.ndarray, state: State) -> None:
        pass

    def update(self, update: Update, state: State) -> None:
        click.echo(json.dumps(update.to_json(self._top), allow_nan=False))

    def refresh(self, state: State) -> None:
        pass

    def say(self, words: str) -> None:
        click.echo(f"edgeq: {words}", err=True)


class PlainLines(JsonLines):
    """A line a window: the second, the best labels, and the event that begins."""

    def update(self, update: Update, state: State) -> None:
        heard = "  ".join(f"{label} {score:.2f}" for label, score in update.top(self._top))
        words = "(silence)" if update.silent else heard if update.heard else f"(unknown) {heard}"
        event = f"  <- {update.event.label}" if update.event else ""
        click.echo(f"{update.time:9.2f} s  {words}{event}")


def summary(state: State, live: bool) -> str:
    """How it went, in a line; live: whether the sound was captured as it came."""
    went = f"{state.seconds:.1f} s of sound, {_counted(state.windows, 'window')}, {_counted(state.begun, 'event')}"
    if state.counts:
        went += f" ({', '.join(f'{label} {count}' for label, count in state.counts.most_common(_LABELS))}"
        rest = state.begun - sum(count for _, count in state.counts.most_common(_LABELS))
        went += f", others {rest})" if rest else ")"
    if not live or not state.windows:
        return f"{went}; {state.dropped} samples lost" if state.dropped else went
    latency = f"latency p50 {state.latency(50):.0f} ms, p95 {state.latency(95):.0f} ms"
    return f"{went}; {latency}; {state.mean_load:.0%} of a core; {state.dropped} samples lost"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
