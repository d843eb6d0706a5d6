"""Frames and windows of a listener against the whole recording, at any rate and in any pieces; hours leave no trace."""

from __future__ import annotations

from collections import deque

import bundles
import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.audio.frontend import cut, features, logmel
from edgeq.decision import Rule
from edgeq.live.capture import Chunk
from edgeq.live.listener import Listener

SPEC = bundles.FRONTEND
RATE = SPEC.sample_rate


class Stub:
    """A runtime that is always half sure of two labels."""

    name, classes, int8, input_shape, metadata = "stub", 2, False, (1, 16, 50), {}

    def __init__(self):
        self.given = [np.zeros((0, *SPEC.input_shape), np.float32)]

    def predict(self, features):
        self.given.append(features)
        return np.full((len(features), 2), 0.5, np.float32)


def listener(ready=None):
    return Listener(("a", "b"), SPEC, ready or Stub(), Rule(), lambda: 0.0)


def noise(samples):
    return (np.random.default_rng(samples).standard_normal(samples) * 0.1).astype(np.float32)


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=12), st.integers(1, 3))
def test_frames_are_those_of_the_whole_each_once_from_the_first_on(sizes, every):
    """Pushed in these sizes, asked for after every few pushes."""
    samples, heard, found, start = noise(sum(sizes) + SPEC.win_length), listener(), [], 0
    for turn, size in enumerate(sizes):
        heard.push(Chunk(samples[start : start + size], RATE))
        start += size
        if turn % every == 0:
            found.append(heard.frames())
    heard.push(Chunk(samples[start:], RATE))
    found = np.concatenate([*found, heard.frames()], axis=1)
    assert found.dtype == np.float32 and heard.frames().shape == (SPEC.n_mels, 0)
    whole = logmel(samples, SPEC)
    # The last ones look past the end: they wait for what comes there.
    assert whole.shape[1] - found.shape[1] <= 1 + SPEC.n_fft // 2 // SPEC.hop_length
    np.testing.assert_allclose(found, whole[:, : found.shape[1]], rtol=0, atol=1e-5)


def test_who_asks_for_no_frames_is_kept_the_last_seconds_of_them():
    heard, samples = listener(), noise(12 * RATE)
    for start in range(0, len(samples), 1600):
        heard.push(Chunk(samples[start : start + 1600], RATE))
    whole, found = logmel(samples, SPEC), heard.frames()
    count = round(4 * RATE / SPEC.hop_length)
    last = whole.shape[1] - 1 - (SPEC.n_fft // 2 - 1) // SPEC.hop_length
    np.testing.assert_allclose(found, whole[:, last - count : last], rtol=0, atol=1e-5)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 48000])
@given(sizes=st.lists(st.integers(0, 9000), min_size=1, max_size=8).filter(any), seconds=st.floats(1.5, 4.0))
@settings(max_examples=25)
def test_what_the_network_is_given_is_of_the_whole_recording_at_any_rate_in_any_pieces(rate, sizes, seconds):
    """The whole resampled at once by soxr, cut and normalised at once, to float rounding: 1e-4 dB is its step there."""
    samples, ready = noise(round(seconds * rate)), Stub()
    heard, start, turn = listener(ready), 0, 0
    while start < len(samples):
        size = sizes[turn % len(sizes)]
        heard.push(Chunk(samples[start : start + size], rate))
        start, turn = start + size, turn + 1
    heard.finish()
    whole = samples if rate == RATE else soxr.resample(samples, rate, RATE)
    expected = features(cut(logmel(whole, SPEC), SPEC), SPEC)
    found = np.concatenate(ready.given)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 / SPEC.std[0])


def test_minutes_of_sound_lose_no_frame_and_no_sample_of_time_and_fill_nothing():
    """A quarter of an hour at a rate that has to be resampled, in pieces of any size."""
    rate, minutes, generator = 11_025, 15, np.random.default_rng(0)
    heard, sound, frames, updates, taken = listener(), noise(rate * 60), 0, [], 0
    held = []
    for _ in range(minutes):
        start = 0
        while start < len(sound):
            size = int(generator.integers(1, 3 * rate))
            updates += heard.push(Chunk(sound[start : start + size], rate))
            frames += heard.frames().shape[1]
            start += size
        taken += len(sound)
        held.append(arrays(heard))
    updates += heard.finish()
    frames += heard.frames().shape[1]
    seconds = taken / rate
    assert frames == 1 + round(seconds * RATE) // SPEC.hop_length
    hop = SPEC.window_hop_frames * SPEC.hop_length
    count = 1 + (frames - SPEC.window_frames) // SPEC.window_hop_frames
    expected = [RATE + hop * index for index in range(count)]
    np.testing.assert_allclose([one.time * RATE for one in updates], expected, rtol=0, atol=1e-6)
    assert heard.seconds == seconds == 60 * minutes and heard.dropped == 0
    # One window of frames, and what it takes to complete the next one; the result of the last push beside it.
    window = 4 * SPEC.logmel_rows * SPEC.window_frames
    assert max(held) <= 2 * window + 4 * SPEC.n_fft + 4 * SPEC.logmel_rows * round(4 * RATE / SPEC.hop_length)


def arrays(thing):
    """Bytes of all arrays that an object holds on to, and those that its parts do."""
    if isinstance(thing, np.ndarray):
        return thing.nbytes
    if isinstance(thing, list | tuple | deque):
        return sum(map(arrays, thing))
    return sum(map(arrays, vars(thing).values())) if type(thing).__module__.startswith("edgeq.") else 0
