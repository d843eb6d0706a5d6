"""`edgeq live`: a source, a listener, and somebody to show it to."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgeq import classify, quiet
from edgeq.audio.frontend import FrontendSpec
from edgeq.bundle import Bundle
from edgeq.decision import Event, Rule
from edgeq.errors import naming
from edgeq.live import sources
from edgeq.live.capture import Chunk, finite
from edgeq.live.hits import Hits
from edgeq.live.level import FLOOR_DB, Level
from edgeq.live.listener import Listener, Update

STDIN = "-"

_LATENCIES = 1000
_LOAD_SECONDS = 2.0
_PATIENCE_SECONDS = 1.0
_PIECE_SECONDS = 0.25
_KEPT_EVENTS = 100
_GUESSED = "on {on:g}, off {off:g}: a first guess; fit them: edgeq tune-threshold MODEL --data DIR"


@dataclass(frozen=True)
class Settings:
    """What to listen to, and how.

    input: a recording, "-" for stdin, or None for a microphone. real_time: play a recording at its own pace. rate (Hz),
    channels: of raw PCM on stdin; the model's rate where it is None. device: as `microphone.find` takes it. seconds:
    when to stop. save_hits: a folder for the sound of events. runtime, int8: as `classify` takes them. rule: fields of
    `Rule` that are to be other than the model's.
    """

    input: str | None = None
    real_time: bool = False
    rate: int | None = None
    channels: int = 1
    device: str | None = None
    seconds: float | None = None
    save_hits: Path | None = None
    runtime: str | None = None
    int8: bool = False
    rule: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class State:
    """How the listening goes, as of now.

    labels, frontend, rule: what the model listens with. seconds: of sound. peak_db: of the last chunk, in dB of full
    scale; FLOOR_DB where nothing came. load, mean_load: processor time of this process over time that passed, 1 is one
    core, in the last seconds and since the beginning. latencies: of the last windows, in ms. inference_ms: what the
    last window took to compute, front end and network. counts: events so far, by label; events: the last of them.
    words: what was said last of source or disk. interrupted: whether Ctrl-C ended it.
    """

    model: str
    source: str
    labels: tuple[str, ...]
    frontend: FrontendSpec
    seconds: float = 0.0
    peak_db: float = FLOOR_DB
    load: float = 0.0
    mean_load: float = 0.0
    dropped: int = 0
    windows: int = 0
    inference_ms: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=_LATENCIES))
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=_KEPT_EVENTS))
    words: str = ""
    rule: Rule = field(default_factory=Rule)
    interrupted: bool = False

    @property
    def begun(self) -> int:
        """Events so far."""
        return self.counts.total()

    def latency(self, percent: int) -> float:
        """That percentile of the latencies, in ms; 0 before the first."""
        return float(np.percentile(self.latencies, percent)) if self.latencies else 0.0


class View(Protocol):
    """Who is shown what is heard: of each chunk first its frames, then its windows, then the state."""

    def hear(self, frames: np.ndarray, state: State) -> None:
        """Sound was heard: its new log-mel frames, float32 (n_mels, n), n from 1, lowest mel first, oldest frame
        first, in the front end's dB or nepers."""

    def update(self, update: Update, state: State) -> None:
        """A window was heard."""

    def refresh(self, state: State) -> None:
        """Some time passed."""

    def say(self, words: str) -> None:
        """Something happened that is no sound."""


def live(model: str | Path | Bundle, settings: Settings, *views: View) -> State:
    """Listen until the sound, or `settings.seconds` of it, is over, and show it to each of the views in turn. Returns
    how it went, after a KeyboardInterrupt too.

    model: as `classify` takes it. Raises InputError where model, source or rule are not usable, naming them.
    """
    about, ready = classify.prepare(model, settings.runtime, settings.int8)
    rule = (about.decision.events or Rule()).overridden(**settings.rule)
    listener = Listener(about.labels, about.frontend, ready, rule)
    windows = rule.smoothing + rule.patience - 1  # of which an event is made
    longest = about.frontend.window_seconds + windows * about.frontend.window_hop_seconds
    hits = None if settings.save_hits is None else Hits(settings.save_hits, longest)
    name = about.name if isinstance(about, Bundle) else Path(str(model)).name
    titled = f"{name}{' INT8' if ready.int8 else ''} in {ready.name}"
    state = State(titled, _named(settings), listener.labels, about.frontend, rule=rule)

    def say(words: str) -> None:
        state.words = words
        for view in views:
            view.say(words)

    def show(updates: list[Update]) -> None:
        frames = listener.frames()
        for view in views if frames.shape[1] else ():
            view.hear(frames, state)
        for update in updates:
            state.windows += 1
            state.latencies.append(update.latency_ms)
            if update.event:
                state.counts[update.event.label] += 1
                state.events.append(update.event)
                if hits:
                    try:
                        hits.save(update.event)
                    except OSError as error:  # a full disk is no reason to stop listening
                        say(f"{error.filename or settings.save_hits}: not saved, {error.strerror}")
            for view in views:
                view.update(update, state)

    level, load, began = Level(), _Load(), None
    try:
        with naming(state.source), _chunks(settings, about.frontend.sample_rate, state, say) as chunks:
            if about.decision.events is None and settings.rule.get("on") is None:
                say(_GUESSED.format(on=rule.on, off=rule.off))
            for chunk in chain.from_iterable(map(_pieces, chunks)):
                faults = level.hear(chunk)
                for words in faults if settings.input in (None, STDIN) else ():
                    say(words)
                taken = finite(_within(chunk, listener.seconds, settings.seconds))
                before = time.monotonic()
                updates = listener.push(taken)
                if updates:
                    state.inference_ms = 1000 * (time.monotonic() - before) / len(updates)
                if hits:
                    hits.keep(taken, listener.seconds)
                state.seconds, state.dropped = listener.seconds, listener.dropped
                state.peak_db = level.peak_db if len(chunk.samples) else FLOOR_DB
                state.load, state.mean_load = load.measured()
                show(updates)
                for view in views:
                    view.refresh(state)
                began = time.monotonic() if began is None and len(chunk.samples) else began
                if settings.seconds is not None and began is not None and _over(settings.seconds, state, began, chunk):
                    return state
            show(listener.finish())
    except KeyboardInterrupt:
        state.interrupted = True
    return state


def _named(settings: Settings) -> str:
    return {None: "microphone", STDIN: "stdin"}.get(settings.input, str(settings.input))


@contextmanager
def _chunks(settings: Settings, rate: int, state: State, say: Callable[[str], None]) -> Iterator[Iterator[Chunk]]:
    """The sound that the settings ask for, which ends with the block."""
    if settings.input is None:
        from edgeq.live.microphone import Microphone

        with quiet.only_python_on_stderr(), Microphone(settings.device, say) as microphone:
            state.source = microphone.device.name
            yield iter(microphone)
    elif settings.input == STDIN:
        with closing(sources.piped(0, settings.rate or rate, settings.channels)) as chunks:
            yield chunks
    else:
        play = sources.played if settings.real_time else sources.recording
        with closing(play(settings.input, rate)) as chunks:
            yield chunks


def _pieces(chunk: Chunk) -> Iterator[Chunk]:
    """A chunk that was captured, in pieces: of a long one, that came late, each part is looked at for itself."""
    size = round(_PIECE_SECONDS * chunk.rate)
    if chunk.heard is None or len(chunk.samples) <= size:
        yield chunk
        return
    for start in range(0, len(chunk.samples), size):
        samples = chunk.samples[start : start + size]
        heard = chunk.heard - (len(chunk.samples) - start - len(samples)) / chunk.rate
        yield Chunk(samples, chunk.rate, heard, 0 if start else chunk.missing)


def _within(chunk: Chunk, begin: float, limit: float | None) -> Chunk:
    """What of a chunk lies before the end that was asked for."""
    if limit is None:
        return chunk
    most = max(0, round((limit - begin) * chunk.rate) - chunk.missing)
    return Chunk(chunk.samples[:most], chunk.rate, chunk.heard, chunk.missing)


def _over(limit: float, state: State, began: float, chunk: Chunk) -> bool:
    """Whether that many seconds are over: of sound, or where it is captured and fails to come, by the clock."""
    late = chunk.heard is not None and time.monotonic() - began > limit + _PATIENCE_SECONDS
    return state.seconds >= limit - 0.5 / chunk.rate or late


class _Load:
    """Processor time of this process over time that passed: in the last seconds, and since the beginning."""

    def __init__(self) -> None:
        self._begun = self._since = time.monotonic(), time.process_time()
        self._last: float | None = None

    def measured(self) -> tuple[float, float]:
        now = time.monotonic(), time.process_time()
        whole = _share(self._begun, now)
        if now[0] - self._since[0] >= _LOAD_SECONDS:
            self._last, self._since = _share(self._since, now), now
        return (whole if self._last is None else self._last), whole


def _share(before: tuple[float, float], now: tuple[float, float]) -> float:
    return (now[1] - before[1]) / max(now[0] - before[0], 1e-9)
