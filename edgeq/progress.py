"""How far long work has come, on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

PATIENCE = 3.0
"""Seconds that work may take before it says how far it is."""

LOGGED_EVERY = 60.0
"""Seconds between two lines where stderr is a file, in which no bar can move."""


class Advance(Protocol):
    def __call__(self, count: float, note: str = "") -> None: ...


@contextmanager
def progress(what: str, total: int, patience: float | None = None) -> Iterator[Advance]:
    """Show a bar while the block lasts, once it has lasted `patience` seconds (PATIENCE); what is quick shows nothing.

    Where stderr is no terminal, as in a job on a cluster, the bar is a line every LOGGED_EVERY seconds and at the end.
    Yields a function that is told how many of `total` were done since it was last called, and what to say beside them.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    shortest = PATIENCE if patience is None else patience
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    bar = Progress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True))
    task = bar.add_task(what, total=total, note="")
    started = logged = time.monotonic()
    done = 0.0

    def show() -> None:
        if time.monotonic() - started >= shortest:
            bar.start()

    def advance(count: float, note: str = "") -> None:
        nonlocal done, logged
        done = round(done + count, 9)  # parts of one have to add up to it
        bar.update(task, completed=done, note=note)
        show()
        in_a_file = bar.live.is_started and not bar.console.is_terminal
        if in_a_file and not bar.finished and time.monotonic() - logged >= LOGGED_EVERY:
            bar.console.print(bar.get_renderable())
            logged = time.monotonic()

    show()
    try:
        yield advance
    finally:
        if bar.live.is_started:
            bar.stop()
