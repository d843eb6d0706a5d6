"""From chunks of sound to what a model makes of each window, with the time it took."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import soxr

from edgeq.audio.frontend import FrontendSpec, features, gated
from edgeq.audio.stream import WindowStream
from edgeq.batches import MOST
from edgeq.decision import Detector, Event, Rule
from edgeq.errors import InputError
from edgeq.live.capture import Chunk
from edgeq.runtime import Runtime

_FRAMES_SECONDS = 4.0


@dataclass(frozen=True, eq=False)
class Update:
    """What one window was heard as.

    time: of the window's end, in seconds of sound since the beginning, with what was lost. probabilities: (classes,),
    the network's. scores: (classes,), the rule's, which events follow: the mean of the last windows, silent ones
    counted as 0. event: the one that begins here. active: labels whose event goes on. latency_ms: from the capture of
    the last sample that the window needs to this answer; the window itself comes on top, and what device and driver
    held before they handed the sample on. dropped: samples of the source that were lost so far. silent: the window is
    below the front end's gate. heard: the label of the best smoothed score, None below the rule's `unknown` and where
    nothing was heard.
    """

    time: float
    labels: tuple[str, ...]
    probabilities: np.ndarray
    scores: np.ndarray
    event: Event | None
    active: tuple[str, ...]
    latency_ms: float
    dropped: int
    silent: bool
    heard: str | None = None

    def top(self, count: int) -> list[tuple[str, float]]:
        """The best labels with their probabilities, best first."""
        best = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self.labels[index], float(self.probabilities[index])) for index in best]

    def to_json(self, count: int) -> dict[str, Any]:
        """The contract's keys, with so many labels, and whether there was anything to hear."""
        values: dict[str, Any] = {
            "time": round(self.time, 6),
            "top": [{"label": label, "score": score} for label, score in self.top(count)],
            "heard": self.heard,
        }
        if self.event:
            values["event"] = self.event.to_json()
        return values | {"latency_ms": round(self.latency_ms, 3), "dropped": self.dropped, "silent": self.silent}


class Listener:
    """A model that listens to one source; its memory does not grow.

    Windows are those that `classify` has of the same sound. Where samples are missing it begins anew behind them: no
    window and no event joins what did not follow on each other.
    """

    def __init__(
        self,
        labels: Sequence[str],
        frontend: FrontendSpec,
        ready: Runtime,
        rule: Rule,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.labels = tuple(labels)
        self.frontend = frontend
        self.dropped = 0
        """Samples of the source that were lost so far."""
        self._ready = ready
        self._clock = clock
        self._detector = Detector(rule, labels)
        self._stretch: _Stretch | None = None
        self._seconds = 0.0  # of sound before the stretch
        self._frames: deque[np.ndarray] = deque(maxlen=_frames_kept(frontend))

    @property
    def seconds(self) -> float:
        """Seconds of sound so far, with what was lost."""
        return self._seconds + (self._stretch.seconds if self._stretch else 0.0)

    def frames(self) -> np.ndarray:
        """Log-mel frames that came since the last call, each once and at most the last seconds of them.

        Returns float32 (n_mels, n), before derivatives and normalisation.
        """
        frames = np.array(self._frames, np.float32).reshape(-1, self.frontend.n_mels).T
        self._frames.clear()
        return frames

    def push(self, chunk: Chunk) -> list[Update]:
        """Take in a chunk: what its windows are heard as.

        Raises InputError where the samples or the model's scores hold NaN or infinity.
        """
        if chunk.missing or (self._stretch and self._stretch.rate != chunk.rate):
            self._seconds = self.seconds + chunk.missing / chunk.rate
            self.dropped += chunk.missing
            self._stretch = None
        if not len(chunk.samples):
            return []
        if self._stretch is None:
            self._detector.reset()
            self._stretch = _Stretch(chunk.rate, self.frontend)
        return self._updates(self._stretch.push(chunk.samples), chunk.heard)

    def finish(self) -> list[Update]:
        """End the sound: what its last windows are heard as.

        Raises InputError where there was less sound than one STFT window, as `classify` does.
        """
        if self._stretch is None:
            self._stretch = _Stretch(self.frontend.sample_rate, self.frontend)
        try:
            return self._updates(self._stretch.finish(), None)
        except InputError:
            if self._seconds:  # a short end behind a gap is no reason to fail
                return []
            raise

    def _updates(self, windows: np.ndarray, heard: float | None) -> list[Update]:
        assert self._stretch is not None
        self._frames.extend(self._stretch.came[: self.frontend.n_mels].T)
        taken = self._clock()
        updates = []
        for start in range(0, len(windows), MOST):
            some = windows[start : start + MOST]
            probabilities = self._ready.predict(features(some, self.frontend))
            silent = gated(some, self.frontend)
            known = self._clock()
            updates += [
                self._update(one, bool(quiet), known, heard, taken)
                for one, quiet in zip(probabilities, silent, strict=True)
            ]
        return updates

    def _update(
        self, probabilities: np.ndarray, silent: bool, known: float, heard: float | None, taken: float
    ) -> Update:
        assert self._stretch is not None
        end, complete = self._stretch.next_window()
        captured = taken if heard is None else heard - max(0.0, self._stretch.seconds - complete)
        event = self._detector.update(self._seconds + end, probabilities, silent)
        return Update(
            time=self._seconds + end,
            labels=self.labels,
            probabilities=probabilities,
            scores=self._detector.scores,
            event=event,
            active=self._detector.active,
            latency_ms=1000 * (known - captured),
            dropped=self.dropped,
            silent=silent,
            heard=self._detector.heard,
        )


class _Stretch:
    """Sound without a gap: resampled as one stream, then cut into windows."""

    def __init__(self, rate: int, spec: FrontendSpec) -> None:
        self.rate = rate
        self._spec = spec
        self._taken = self._windows = 0
        self._stream = WindowStream(spec)
        self.came = self._stream.came
        """Frames that the last push or finish completed."""
        self._resampler = None if rate == spec.sample_rate else soxr.ResampleStream(rate, spec.sample_rate, 1)

    @property
    def seconds(self) -> float:
        return self._taken / self.rate

    def push(self, samples: np.ndarray) -> np.ndarray:
        self._taken += len(samples)
        windows = self._stream.push(self._resampler.resample_chunk(samples) if self._resampler else samples)
        self.came = self._stream.came
        return windows

    def finish(self) -> np.ndarray:
        held = np.zeros(0, np.float32)
        if self._resampler:
            held = self._resampler.resample_chunk(held, last=True)
        windows, frames = self._stream.push(held), self._stream.came
        windows = np.concatenate([windows, self._stream.finish()])
        self.came = np.concatenate([frames, self._stream.came], axis=1)
        return windows

    def next_window(self) -> tuple[float, float]:
        """Of the next window, in seconds of the stretch: where it ends, and the last sample that it needs."""
        spec = self._spec
        start = self._windows * spec.window_hop_frames * spec.hop_length
        last_frame = start + (spec.window_frames - 1) * spec.hop_length
        needed = last_frame + (spec.n_fft // 2 if spec.centre else spec.n_fft)
        self._windows += 1
        return start / spec.sample_rate + spec.window_seconds, needed / spec.sample_rate


def _frames_kept(spec: FrontendSpec) -> int:
    return max(1, round(_FRAMES_SECONDS * spec.sample_rate / spec.hop_length))
