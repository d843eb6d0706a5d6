"""What a listener gives beside its windows: the frames that pictures are drawn from."""

from __future__ import annotations

import bundles
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeq.audio.frontend import logmel
from edgeq.decision import Rule
from edgeq.live.capture import Chunk
from edgeq.live.listener import Listener

SPEC = bundles.FRONTEND
RATE = SPEC.sample_rate


class Stub:
    """A runtime that is always half sure of two labels."""

    name, classes, int8, input_shape, metadata = "stub", 2, False, (1, 16, 50), {}

    def predict(self, features):
        return np.full((len(features), 2), 0.5, np.float32)


def listener(spec=SPEC):
    return Listener(("a", "b"), spec, Stub(), Rule(), lambda: 0.0)


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
