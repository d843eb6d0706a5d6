"""The streaming front end against the whole-file one, for any size of push."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.audio.frontend import PRESETS, FrontendSpec, cut, logmel, pad, with_derivatives
from edgeq.audio.stream import LogMelStream, WindowStream
from edgeq.errors import InputError

SMALL = FrontendSpec(
    sample_rate=4_000,
    n_fft=128,
    win_length=100,
    hop_length=40,
    n_mels=8,
    fmin=100.0,
    fmax=2_000.0,
    window_seconds=0.2,
    window_hop_seconds=0.1,
)
VARIANTS = {
    **PRESETS,
    "overlap": SMALL,
    "not centred": replace(SMALL, centre=False),
    "window longer than half an FFT": replace(SMALL, win_length=128),
    "frames side by side": replace(SMALL, hop_length=128),
    "windows with gaps": replace(SMALL, window_hop_seconds=0.5),
    "repeated": replace(SMALL, pad="repeat", window_seconds=0.7),
    "end frame": replace(SMALL, end_frame=True),
    "deltas over bins": with_derivatives(replace(SMALL, floor=1e-6), "power-frequency"),
}


def noise(samples: int) -> np.ndarray:
    return (np.random.default_rng(samples).standard_normal(samples) * 0.1).astype(np.float32)


def pieces(waveform: np.ndarray, sizes: list[int]) -> Iterator[np.ndarray]:
    """The waveform cut into pieces of those sizes, over and over."""
    start = turn = 0
    while start < len(waveform):
        size = sizes[turn % len(sizes)]
        yield waveform[start : start + size]
        start, turn = start + size, turn + 1


def streamed_logmel(waveform: np.ndarray, spec: FrontendSpec, sizes: list[int]) -> np.ndarray:
    stream = LogMelStream(spec)
    return np.concatenate([*(stream.push(piece) for piece in pieces(waveform, sizes)), stream.finish()], axis=1)


def streamed_windows(waveform: np.ndarray, spec: FrontendSpec, sizes: list[int]) -> np.ndarray:
    stream = WindowStream(spec)
    return np.concatenate([*(stream.push(piece) for piece in pieces(waveform, sizes)), stream.finish()])


def assert_equal_to_whole(waveform: np.ndarray, spec: FrontendSpec, sizes: list[int]) -> None:
    if len(waveform) >= spec.least_samples:
        found, whole = streamed_logmel(waveform, spec, sizes), logmel(waveform, spec)
        assert found.dtype == np.float32
        assert found.shape == whole.shape
        np.testing.assert_allclose(found, whole, rtol=0, atol=1e-5)
    windows, expected = streamed_windows(waveform, spec, sizes), cut(logmel(pad(waveform, spec), spec), spec)
    assert windows.shape == expected.shape
    np.testing.assert_allclose(windows, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("sizes", [[1 << 30], [1_000, 0, 7], [65_536]], ids=["at once", "uneven", "blocks"])
def test_stream_equals_whole_file(name: str, sizes: list[int]) -> None:
    spec = VARIANTS[name]
    for samples in (spec.win_length, spec.least_samples, spec.window_samples - 1, 2 * spec.window_samples + 321):
        assert_equal_to_whole(noise(samples), spec, sizes)


@pytest.mark.parametrize("name", ["overlap", "not centred", "frames side by side", "windows with gaps", "repeated"])
def test_sample_by_sample(name: str) -> None:
    assert_equal_to_whole(noise(2_345), VARIANTS[name], [1])


@given(
    variant=st.sampled_from([SMALL, *(VARIANTS[name] for name in VARIANTS if name not in PRESETS)]),
    samples=st.integers(128, 5_000),
    sizes=st.lists(st.integers(0, 700), min_size=1, max_size=6).filter(any),
)
def test_any_pushes_equal_whole_file(variant: FrontendSpec, samples: int, sizes: list[int]) -> None:
    assert_equal_to_whole(noise(samples), variant, sizes)


def test_frames_and_windows_come_as_soon_as_their_samples() -> None:
    stream, windows = LogMelStream(SMALL), WindowStream(SMALL)
    waveform = noise(2_000)
    frames = [stream.push(waveform[index : index + 1]).shape[1] for index in range(2_000)]
    # Frame k looks half an FFT past k hops; the first waits for one STFT window.
    assert np.cumsum(frames).tolist() == [
        0 if n < SMALL.least_samples else 1 + (n - SMALL.n_fft // 2) // SMALL.hop_length for n in range(1, 2_001)
    ]
    # The last frame of the first window, the twentieth, ends at sample 19 * 40 + 64; of the third, 40 hops later.
    assert [len(windows.push(piece)) for piece in pieces(waveform, [823, 1, 799, 1])] == [0, 1, 1, 1, 0]


def test_stream_holds_little_however_much_it_is_given() -> None:
    stream, windows = LogMelStream(SMALL), WindowStream(SMALL)
    for piece in pieces(noise(200_000), [3_331]):
        stream.push(piece)
        windows.push(piece)
        kept = {**vars(stream), **{f"windows {name}": value for name, value in vars(windows).items() if name != "came"}}
        held = sum(value.nbytes for value in kept.values() if isinstance(value, np.ndarray))
        assert held <= 4 * (SMALL.n_fft + SMALL.n_mels * SMALL.window_frames)


@pytest.mark.parametrize("kind", [LogMelStream, WindowStream])
def test_misuse_is_refused(kind: type[LogMelStream] | type[WindowStream]) -> None:
    for bad in (np.zeros((2, 10), np.float32), np.zeros(10, np.int16), np.array([0.0, np.nan], np.float32)):
        with pytest.raises(InputError, match="waveform"):
            kind(SMALL).push(bad)
    too_short = kind(SMALL)
    too_short.push(noise(99))
    with pytest.raises(InputError, match="99 samples"):
        too_short.finish()
    with pytest.raises(InputError, match="0 samples"):
        kind(SMALL).finish()
    finished = kind(SMALL)
    finished.push(noise(1_000))
    finished.finish()
    with pytest.raises(InputError, match="new stream"):
        finished.finish()
    with pytest.raises(InputError, match="new stream"):
        finished.push(noise(10))
