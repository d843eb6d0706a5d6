"""What a model hears in hours of recordings, kept as audio: to be listened to, or learnt from."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from edgeq import atomic, classify, corpora
from edgeq.audio import decode
from edgeq.audio.frontend import FrontendSpec, features, gated
from edgeq.audio.stream import WindowStream
from edgeq.bundle import WEIGHTS, Bundle
from edgeq.decision import Detector, Event, Rule
from edgeq.errors import InputError, naming
from edgeq.progress import progress
from edgeq.runtime import Runtime
from edgeq.runtime.embedded import Embedded

LIST, FINISHED, SETTINGS = "hits.jsonl", "finished.jsonl", "settings.json"
_NAMES = {
    "model": "model",
    "sha256": "model",
    "int8": "stage",
    "folder": "folder of recordings",
    "mistakes": "choice of hits (--mistakes)",
    "rule": "rule",
}
MARGIN_SECONDS = 0.5
"""Kept before the first window of an event and after its last."""
LONGEST_SECONDS = 30.0
"""Longest audio of one event that is kept."""
_BLOCK_SECONDS = 10.0
_BATCH = 64


@dataclass(frozen=True)
class Hit:
    """One stretch of audio that was kept.

    file: its name in the folder of hits. recording: below the folder of recordings. kind: "detection", an event where
    nothing is known of the recording; "false alarm", an event of another label than `expected`; "missed", the window of
    the highest score for `expected` in a recording where no event of that label began. score: smoothed, of `label`,
    where the event began. time_seconds: in the recording, when the event was told of; start_seconds, end_seconds: what
    was kept.
    """

    file: str
    recording: str
    kind: str
    label: str
    expected: str | None
    score: float
    time_seconds: float
    start_seconds: float
    end_seconds: float

    @property
    def identity(self) -> tuple[str, str, str, float]:
        return self.recording, self.kind, self.label, self.time_seconds


@dataclass(frozen=True)
class Mined:
    """The hits of this run and of those before it; warnings: what to know beside them, a line each."""

    folder: Path
    hits: tuple[Hit, ...]
    recordings: int
    seconds: float
    warnings: tuple[str, ...]

    def to_json(self) -> list[dict[str, Any]]:
        """The contract's list of hits."""
        return [asdict(hit) for hit in self.hits]

    def summary(self) -> dict[str, Any]:
        """Plain values: the hits, and all that is known beside them."""
        return {
            "folder": str(self.folder),
            "hits": self.to_json(),
            "recordings": self.recordings,
            "seconds": self.seconds,
            "warnings": list(self.warnings),
        }


def mine(
    model: Bundle | str | Path,
    folder: Path | str,
    output: Path | str | None = None,
    *,
    mistakes: bool = False,
    on: float | None = None,
    off: float | None = None,
    smoothing: int | None = None,
    patience: int | None = None,
    cooldown: int | None = None,
    background: Sequence[str] | None = None,
    runtime: str | None = None,
    int8: bool = False,
) -> Mined:
    """Keep the audio of every event that a model hears in a folder of recordings, or of its mistakes alone.

    model, runtime, int8: as `classify.classify` takes them. mistakes: the folder has one label a recording, as
    `corpora.open` takes it; kept are events of other labels, and recordings in which none of their own began. on to
    background: instead of what the model's rule says, which is the first guess of `Rule` where none was fitted.
    output: by default build/<name>-mined: WAV files at the front end's rate, and hits.jsonl, a line each.
    A run that was stopped goes on where it stood, at the recording it was in; files that are there are never
    overwritten. Memory does not grow with the recordings. Recordings that cannot be decoded are passed over and told.
    Raises InputError where the model or folder is none, none of the recordings can be decoded, or `output` holds
    something else, or hits of another model, rule or folder.
    """
    about, ready = classify.prepare(model, runtime, int8)
    name = about.name if isinstance(about, Bundle) else Path(str(model)).stem
    rule = (about.decision.events or Rule()).overridden(
        on,
        off,
        smoothing=smoothing,
        patience=patience,
        cooldown=cooldown,
        background=None if background is None else tuple(background),
    )
    Detector(rule, about.labels)  # a background that is no label speaks before the work
    folder, place = Path(folder), Path(output) if output else Path("build") / f"{name}-mined"
    recordings = _recordings(folder, mistakes)
    if place.resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"{place}: lies in the folder of recordings, and would be mined itself; choose another with -o"
        )
    settings = {
        "model": name,
        "sha256": _identity(model, about),
        "int8": int8,
        "folder": str(folder.resolve()),
        "mistakes": mistakes,
        "rule": rule.to_json(),
    }
    kept = _Kept(place, settings)
    unreadable = []
    seconds = 0.0
    with progress(f"{name}: recordings", len(recordings)) as advance:
        for path, label in recordings:
            listed = path.relative_to(folder).as_posix()
            if listed in kept.finished:
                seconds += kept.finished[listed]
            else:
                try:
                    lasted = _listen(about, ready, rule, path, label, _Keeper(kept, listed, label))
                    kept.finish(listed, lasted)
                    seconds += lasted
                except InputError as error:
                    if not str(error).startswith(f"{path}:"):  # about the model, not about the recording
                        raise
                    unreadable.append(str(error))
            advance(1, f"{len(kept.hits)} hits")
    if len(unreadable) == len(recordings):
        raise InputError(
            f"{folder}: none of the {len(recordings)} recordings can be decoded; the first: {unreadable[0]}"
        )
    warnings = []
    if about.decision.events is None and on is None:
        warnings.append(f"no thresholds were fitted to {name}: on {rule.on:g}, off {rule.off:g} are a first guess")
    if unreadable:
        warnings.append(f"{len(unreadable)} recordings cannot be decoded; the first: {unreadable[0]}")
    return Mined(place, tuple(kept.hits), len(recordings) - len(unreadable), seconds, tuple(warnings))


def _recordings(folder: Path, mistakes: bool) -> list[tuple[Path, str | None]]:
    if mistakes:
        return [(clip.path, clip.label) for clip in corpora.open(folder).clips]
    return [(path, None) for path in decode.recordings(folder)]


def _identity(model: Bundle | str | Path, about: Bundle | Embedded) -> str:
    if isinstance(about, Bundle):
        return about.files[WEIGHTS].sha256
    return hashlib.sha256(Path(str(model)).read_bytes()).hexdigest()


class _Kept:
    """The folder of hits, and what it held before."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self._folder = folder
        if not (folder / SETTINGS).is_file():
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise InputError(f"{folder}: holds something that is no hits; choose an empty or a new folder with -o")
            atomic.write_text(folder / SETTINGS, json.dumps(settings, indent=1) + "\n")
        with naming(folder / SETTINGS):
            before = _parsed((folder / SETTINGS).read_text())
        if before != settings:
            changed = {
                _NAMES[key] for key in settings if not isinstance(before, dict) or before.get(key) != settings[key]
            }
            raise InputError(
                f"{folder}: holds hits of a run with another {' and another '.join(sorted(changed)) or 'setting'}; "
                "choose another folder with -o"
            )
        self.hits = [Hit(**line) for line in _lines(folder / LIST)]
        self.finished = {line["recording"]: line["seconds"] for line in _lines(folder / FINISHED)}
        self._known = {hit.identity for hit in self.hits}

    def keep(self, hit: Hit, audio: np.ndarray, rate: int) -> None:
        """Write a hit that is not there yet; its `file` is the name wanted."""
        if hit.identity in self._known:
            return
        content = io.BytesIO()
        soundfile.write(content, audio, rate, format="WAV", subtype="PCM_16")
        name = self._write(hit.file, content.getvalue())
        hit = Hit(**{**asdict(hit), "file": name})
        _append(self._folder / LIST, asdict(hit))
        self.hits.append(hit)
        self._known.add(hit.identity)

    def finish(self, recording: str, seconds: float) -> None:
        _append(self._folder / FINISHED, {"recording": recording, "seconds": seconds})
        self.finished[recording] = seconds

    def _write(self, wanted: str, content: bytes) -> str:
        number = 1
        while True:
            name = f"{wanted}.wav" if number == 1 else f"{wanted}-{number}.wav"
            place = self._folder / name
            if not place.exists():
                atomic.write_bytes(place, content)
                return name
            # Written, but not listed, by a run that was stopped in between.
            if place.read_bytes() == content and all(hit.file != name for hit in self.hits):
                return name
            number += 1


@dataclass
class _Keeper:
    """Hits of one recording on their way to the folder."""

    kept: _Kept
    recording: str
    expected: str | None

    def keep(self, kind: str, heard: Event, audio: np.ndarray, start: int, rate: int) -> None:
        stem = re.sub(r"[^\w.-]+", "_", str(Path(self.recording).with_suffix("")), flags=re.ASCII)[-120:]
        label = re.sub(r"[^\w.-]+", "_", heard.label, flags=re.ASCII)[:60]
        hit = Hit(
            file=f"{stem}-{start / rate:.2f}s-{kind.replace(' ', '-')}-{label}",
            recording=self.recording,
            kind=kind,
            label=heard.label,
            expected=self.expected,
            score=heard.score,
            time_seconds=heard.time_seconds,
            start_seconds=start / rate,
            end_seconds=(start + len(audio)) / rate,
        )
        self.kept.keep(hit, audio, rate)


@dataclass
class _Tape:
    """The last samples of a recording: enough for the longest hit."""

    rate: int
    most: int
    end: int = 0
    _blocks: deque[np.ndarray] = field(default_factory=deque)
    _held: int = 0

    def add(self, block: np.ndarray) -> None:
        self._blocks.append(block)
        self._held += len(block)
        self.end += len(block)
        while self._held - len(self._blocks[0]) >= self.most:
            self._held -= len(self._blocks.popleft())

    def cut(self, start: int, stop: int) -> np.ndarray:
        """Samples from start to stop, or to the end where that comes first."""
        first = self.end - self._held
        return np.concatenate(self._blocks)[start - first : stop - first]


@dataclass
class _Stretch:
    """What is to be kept: from which sample, to which once that is known, and the audio once it is there."""

    event: Event
    start: int
    stop: int | None = None
    audio: np.ndarray | None = None


def _listen(
    about: Bundle | Embedded, ready: Runtime, rule: Rule, path: Path, label: str | None, keeper: _Keeper
) -> float:
    """Run a model over a recording and keep its hits. Returns the recording's seconds."""
    heard = _Heard(about.frontend, Detector(rule, about.labels), label, keeper)
    for logmels in _logmels(path, about.frontend, heard.tape):
        heard.add(ready, logmels)
    heard.finish()
    return heard.tape.end / heard.tape.rate


def _logmels(path: Path, spec: FrontendSpec, tape: _Tape) -> Iterator[np.ndarray]:
    """The windows of a recording; what they are cut from is on the tape before they come."""
    stream = WindowStream(spec)
    with naming(path):
        for block in decode.blocks(path, spec.sample_rate, _BLOCK_SECONDS):
            tape.add(block)
            yield stream.push(block)
        yield stream.finish()


class _Heard:
    """A recording as its windows come: the events that wait for their audio, and the best window for its own label."""

    def __init__(self, spec: FrontendSpec, detector: Detector, label: str | None, keeper: _Keeper) -> None:
        self._spec, self._detector, self._label, self._keeper = spec, detector, label, keeper
        own = label is not None and label in detector.labels and label not in detector.rule.background
        self._own = detector.labels.index(str(label)) if own else None
        rate = spec.sample_rate
        self._hop = spec.window_hop_frames * spec.hop_length
        self._longest, self._margin = round(LONGEST_SECONDS * rate), round(MARGIN_SECONDS * rate)
        # Two blocks: the one in hand, and what a resampler gives late.
        self.tape = _Tape(rate, self._longest + spec.window_samples + round(2 * _BLOCK_SECONDS * rate))
        self._windows = 0
        self._waiting: list[_Stretch] = []
        self._missed: _Stretch | None = None

    def add(self, ready: Runtime, logmels: np.ndarray) -> None:
        """Take in windows; what they were cut from is on the tape."""
        for first in range(0, len(logmels), _BATCH):
            some = logmels[first : first + _BATCH]
            answers = ready.predict(features(some, self._spec))
            for probabilities, silent in zip(answers, gated(some, self._spec), strict=True):
                self._window(probabilities, bool(silent))
        for one in list(self._waiting):
            if self.tape.end >= (one.stop or one.start + self._longest):
                self._keep(one)
        if self._missed and self._missed.audio is None and self.tape.end >= (self._missed.stop or 0):
            self._cut(self._missed)

    def finish(self) -> None:
        """Keep what still waits: the recording is at its end."""
        for one in list(self._waiting):
            self._keep(one)
        if self._missed:
            self._cut(self._missed)
            self._write("missed", self._missed)

    def _window(self, probabilities: np.ndarray, silent: bool) -> None:
        start = self._windows * self._hop
        end = start + self._spec.window_samples
        self._windows += 1
        event = self._detector.update(end / self.tape.rate, probabilities, silent)
        for one in self._waiting:
            if one.stop is None and one.event.label not in self._detector.active:
                one.stop = min(end - self._hop + self._margin, one.start + self._longest)
        if event and event.label == self._label:
            self._own = self._missed = None
        elif event:
            begins = round(event.start_seconds * self.tape.rate) - self._spec.window_samples - self._margin
            self._waiting.append(_Stretch(event, max(0, begins, end - self._longest)))
        if self._own is not None:
            score, time = float(self._detector.scores[self._own]), end / self.tape.rate
            if self._missed is None or score > self._missed.event.score:
                best = Event(self._detector.labels[self._own], score, time, time)
                self._missed = _Stretch(best, max(0, start - self._margin), end + self._margin)

    def _keep(self, one: _Stretch) -> None:
        self._waiting.remove(one)
        one.stop = one.stop or one.start + self._longest
        self._cut(one)
        self._write("detection" if self._label is None else "false alarm", one)

    def _cut(self, one: _Stretch) -> None:
        if one.audio is None and one.stop is not None:
            one.audio = self.tape.cut(one.start, one.stop)

    def _write(self, kind: str, one: _Stretch) -> None:
        if one.audio is not None:
            self._keeper.keep(kind, one.event, one.audio, one.start, self.tape.rate)


def _append(path: Path, line: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as handle:
        handle.write(json.dumps(line) + "\n")
        handle.flush()
        os.fsync(handle.fileno())


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a list; the last one goes where a run was stopped while it wrote it."""
    if not path.is_file():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
    with naming(path):
        for line in content[:whole].decode().splitlines():
            yield _parsed(line)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(f"damaged ({error}); restore it, or choose another folder with -o") from error
