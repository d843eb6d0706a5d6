"""What a model is timed on: real windows, synthetic sounds or noise; and what its front end takes to make them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgeq import bundle, goldens
from edgeq.audio.frontend import FrontendSpec, features
from edgeq.audio.stream import WindowStream
from edgeq.bench.worker import Job
from edgeq.errors import InputError
from edgeq.runtime import Runtime, embedded
from edgeq.runtime.face import check_features

_WINDOWS = 8
"""Inputs that calls go through in turn."""

_MOST_BYTES = 1 << 26
"""Of all batches together: of large ones there are fewer."""

_LEAST_FRONTENDS = 5


def frontend(path: str, ready: Runtime) -> FrontendSpec | None:
    """Of a bundle, or of a file that says what it is; None of others."""
    if Path(path).is_dir():
        return bundle.read(path).frontend
    try:
        spec = embedded.read(ready.metadata, path).frontend
    except InputError:
        return None
    return spec if spec.input_shape == ready.input_shape else None


def windows(file: str | None, ready: Runtime, spec: FrontendSpec | None, seed: int) -> np.ndarray:
    """Those of a file, of synthetic sounds, or noise where there is no front end: float32 (n, *input_shape), n from 1.

    Raises InputError where the file holds none, or others than the model takes.
    """
    if file is None:
        if spec is not None:
            return goldens.inputs(range(seed, seed + _WINDOWS), spec)
        return np.random.default_rng(seed).standard_normal((_WINDOWS, *ready.input_shape), np.float32)
    found: np.ndarray = np.load(file, allow_pickle=False)
    check_features(found, ready.input_shape)
    if not len(found):
        raise InputError(f"{file}: holds no windows, expected at least one")
    return found


def batches(windows: np.ndarray, job: Job) -> list[np.ndarray]:
    """The batches that calls go through in turn: each begins a window further on, round and round."""
    size = job["batch"]
    count = max(1, min(len(windows), _MOST_BYTES // (size * windows[:1].nbytes)))
    return [np.take(windows, np.arange(first, first + size), axis=0, mode="wrap") for first in range(count)]


def frontend_nanoseconds(spec: FrontendSpec, seconds: float) -> Iterator[int]:
    """Of one window after another, on noise: taking the samples since the last one, and giving features.

    The first window takes more and is left out.
    """
    hop = round(spec.window_hop_seconds * spec.sample_rate)
    samples = np.random.default_rng(0).normal(0, 0.1, hop).astype(np.float32)
    stream = WindowStream(spec)
    stream.push(np.resize(samples, spec.window_samples))
    end, found, spent = time.monotonic() + seconds, 0, 0
    while found < _LEAST_FRONTENDS or time.monotonic() < end:
        begin = time.perf_counter_ns()
        heard = features(stream.push(samples), spec)
        spent += time.perf_counter_ns() - begin
        if len(heard):
            yield spent // len(heard)
            found, spent = found + 1, 0
