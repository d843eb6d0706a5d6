"""The front end sample by sample: the numbers of the whole file, whatever the size of the pushes."""

from __future__ import annotations

import numpy as np

from edgeq.audio.frontend import FrontendSpec, as_waveform, cut, logmel_frames, pad
from edgeq.errors import InputError

_STEP_FRAMES = 128


class LogMelStream:
    """Log-mel of a waveform that comes in pieces; all pieces together equal `frontend.logmel` of the whole.

    Holds at most n_fft samples and the piece in hand. A centred frame comes out as soon as its last sample is in; the
    first ones wait for spec.least_samples.
    """

    def __init__(self, spec: FrontendSpec) -> None:
        self.spec = spec
        self._half = spec.n_fft // 2 if spec.centre else 0
        self._held = np.zeros(0, np.float32)
        self._next = 0  # where in _held the next frame starts
        self._started = False
        self._finished = False

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Take the next samples, float (n,), n from 0. Returns the frames that they complete, float32 (logmel_rows, k).

        Raises InputError where samples are not one row of finite floats or the stream is finished.
        """
        if self._finished:
            raise InputError("log-mel stream: samples after finish(); open a new stream")
        samples = as_waveform(samples)
        step = _STEP_FRAMES * self.spec.hop_length
        pieces = [self._advance(samples[first : first + step]) for first in range(0, len(samples), step)]
        return np.concatenate([np.zeros((self.spec.logmel_rows, 0), np.float32), *pieces], axis=1)

    def finish(self) -> np.ndarray:
        """End the stream: the frames that look past its end, on reflected samples. Returns float32 (logmel_rows, k).

        Raises InputError where fewer than spec.least_samples came, or the stream is finished already.
        """
        if self._finished:
            raise InputError("log-mel stream: finish() called twice; open a new stream")
        if not self._started:
            raise InputError(
                f"stream of {len(self._held)} samples: expected at least {self.spec.least_samples} at "
                f"{self.spec.sample_rate} Hz, one STFT window; give a longer recording"
            )
        self._finished = True
        return self._advance(self._held[-2 : -2 - self._half : -1])

    def _advance(self, samples: np.ndarray) -> np.ndarray:
        self._held = np.concatenate([self._held, samples])
        if not self._started:
            if len(self._held) < self.spec.least_samples:
                return np.zeros((self.spec.logmel_rows, 0), np.float32)
            self._held = np.concatenate([self._held[self._half : 0 : -1], self._held])
            self._started = True
        count = 1 + (len(self._held) - self._next - self.spec.n_fft) // self.spec.hop_length
        if count < 1:
            return np.zeros((self.spec.logmel_rows, 0), np.float32)
        frames = logmel_frames(self._held[self._next :], self.spec).astype(np.float32)
        self._next += count * self.spec.hop_length
        # The end is reflected about its last sample, so that one and half a window before it stay.
        unused = max(0, min(self._next, len(self._held) - self._half - 1))
        self._held = self._held[unused:].copy()
        self._next -= unused
        return frames


class WindowStream:
    """Network windows of a waveform that comes in pieces; all together equal `cut(logmel(pad(whole)))`.

    Holds one window of samples until it is clear that the recording needs no padding, and one window of frames.
    """

    def __init__(self, spec: FrontendSpec) -> None:
        self.spec = spec
        self.came = np.zeros((spec.logmel_rows, 0), np.float32)
        """Log-mel frames that the last push or finish completed, (logmel_rows, k): all together they are the whole."""
        self._logmel = LogMelStream(spec)
        self._head: list[np.ndarray] | None = []  # None where the recording is longer than a window
        self._head_samples = 0
        self._frames = np.zeros((spec.logmel_rows, 0), np.float32)
        self._skip = 0  # frames to pass over before the next window, where windows leave gaps

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Take the next samples, float (n,), n from 0. Returns the windows that they complete.

        Returns float32 (k, logmel_rows, window_frames), log-mel before normalisation. Raises as `LogMelStream`.
        """
        self.came = self._logmel.push(samples)
        if self._head is not None:
            self._head.append(np.array(samples, np.float32))
            self._head_samples += len(samples)
            if self._head_samples >= self.spec.window_samples:
                self._head = None
        return self._cut(self.came)

    def finish(self) -> np.ndarray:
        """End the stream, padding it to one window where it was shorter. Returns the last windows, as `push` does.

        Raises InputError where the whole stream was shorter than spec.win_length samples, or is finished already.
        """
        last = []
        if self._head is not None:
            padded = pad(np.concatenate([np.zeros(0, np.float32), *self._head]), self.spec)
            last = [self._logmel.push(padded[self._head_samples :])]
            self._head = None
        self.came = np.concatenate([*last, self._logmel.finish()], axis=1)
        return self._cut(self.came)

    def _cut(self, frames: np.ndarray) -> np.ndarray:
        self._frames = np.concatenate([self._frames, frames], axis=1)
        passed = min(self._skip, self._frames.shape[1])
        self._frames, self._skip = self._frames[:, passed:], self._skip - passed
        if self._frames.shape[1] < self.spec.window_frames:
            return np.zeros((0, self.spec.logmel_rows, self.spec.window_frames), np.float32)
        windows = cut(self._frames, self.spec)
        used = len(windows) * self.spec.window_hop_frames
        self._skip = max(0, used - self._frames.shape[1])
        self._frames = self._frames[:, used:].copy()
        return windows
