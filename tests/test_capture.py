"""Rings, pipes and files played: every sample comes once and in order, or is counted as lost."""

from __future__ import annotations

import io
import os
import threading
import time

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from edgeq.errors import InputError
from edgeq.live import sources
from edgeq.live.capture import Chunk, Ring, feed, finite


def frames(start, count, channels=1):
    return np.repeat(np.arange(start, start + count, dtype=np.float32)[:, None], channels, axis=1)


@given(st.lists(st.one_of(st.integers(0, 70), st.none()), max_size=60), st.sampled_from([1, 2, 5]))
def test_a_ring_gives_every_sample_once_in_order_or_counts_it(turns, channels):
    """Numbers are written, a number of samples a turn; None reads."""
    ring, sent, position = Ring(100, seconds=1.0), 0, 0
    for turn in [*turns, None, 1, None]:
        if turn is not None:
            ring.write(frames(sent, turn, channels))
            sent += turn
            continue
        chunk = ring.read()
        position += chunk.missing
        np.testing.assert_array_equal(chunk.samples, np.arange(position, position + len(chunk.samples)))
        position += len(chunk.samples)
    assert position == sent


def test_a_full_ring_refuses_until_it_was_read_and_never_waits():
    ring = Ring(100, seconds=1.0, clock=lambda: 7.5)
    assert ring.write(frames(0, 60)) and not ring.write(frames(60, 60)) and not ring.write(frames(120, 10))
    before = ring.read()
    assert (len(before.samples), before.missing, before.heard) == (60, 0, 7.5)
    assert ring.write(frames(130, 10))
    after = ring.read()
    assert after.samples[0] == 130 and after.missing == ring.refused == 70


def test_channels_are_mixed_to_their_mean():
    ring = Ring(100)
    ring.write(np.array([[0.5, -0.5], [1.0, 0.0]], np.float32))
    np.testing.assert_array_equal(ring.read().samples, [0.0, 0.5])


def test_two_threads_lose_nothing():
    def fill(ring):
        sent = 0
        while sent < 200_000:
            if ring.room >= 700:
                ring.write(frames(sent, 700))
                sent += 700

    heard = np.concatenate([chunk.samples for chunk in feed(2_000, fill)])
    np.testing.assert_array_equal(heard, np.arange(len(heard)))
    assert len(heard) == 200_200


def test_what_a_thread_raises_comes_behind_its_last_chunk():
    def fill(ring):
        ring.write(frames(0, 10))
        raise InputError("broken")

    heard = []
    with pytest.raises(InputError, match="broken"):
        for chunk in feed(100, fill):
            heard += chunk.samples.tolist()
    assert len(heard) == 10


def test_a_chunk_with_nan_is_a_gap():
    good = Chunk(np.ones(5, np.float32), 100, 1.0, 2)
    assert finite(good) is good
    for bad in (np.nan, np.inf):
        gap = finite(Chunk(np.array([0, bad, 0], np.float32), 100, 1.0, 2))
        assert (len(gap.samples), gap.missing) == (0, 5)


def piped(content, rate=8000, channels=1, slow=False):
    """The chunks of a pipe that holds these bytes."""
    reader, writer = os.pipe()

    def write():
        with os.fdopen(writer, "wb", buffering=0) as pipe:
            for start in range(0, len(content), 1001):
                pipe.write(content[start : start + 1001])
                time.sleep(0.001 if slow else 0)

    threading.Thread(target=write, daemon=True).start()
    try:
        return [chunk for chunk in sources.piped(reader, rate, channels) if len(chunk.samples)]
    finally:
        os.close(reader)


def encoded(samples, rate, **how):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **how)
    return file.getvalue()


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_raw_pcm_is_what_was_sent_however_it_is_cut(channels):
    codes = np.random.default_rng(0).integers(-32768, 32767, (60_001, channels)).astype("<i2")
    chunks = piped(codes.tobytes(), 8000, channels)
    assert {chunk.rate for chunk in chunks} == {8000} and all(chunk.heard is not None for chunk in chunks)
    np.testing.assert_allclose(np.concatenate([one.samples for one in chunks]), codes.mean(axis=1) / 32768, atol=1e-6)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_32", "FLOAT"])
@pytest.mark.parametrize("form", ["WAV", "WAVEX"])
def test_a_wav_says_what_it_is(subtype, form):
    samples = np.random.default_rng(0).uniform(-1, 1, (5000, 2))
    content = encoded(samples, 11025, format=form, subtype=subtype)
    chunks = piped(content, 8000, 1, slow=True)
    expected, _ = soundfile.read(io.BytesIO(content), dtype="float32")
    assert chunks[0].rate == 11025
    np.testing.assert_allclose(np.concatenate([one.samples for one in chunks]), expected.mean(axis=1), atol=1e-6)


def test_a_wav_of_unknown_length_goes_on_to_its_end_and_one_of_known_length_no_further():
    content = bytearray(encoded(np.full(1000, 0.5), 8000, format="WAV", subtype="PCM_16"))
    place = content.index(b"data") + 4
    assert sum(len(one.samples) for one in piped(bytes(content) + b"LIST\0\0\0\0")) == 1000
    content[place : place + 4] = b"\xff\xff\xff\xff"
    assert sum(len(one.samples) for one in piped(bytes(content))) == 1000


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "ended before the first sample"),
        (b"\1", "inside a sample"),
        (b"\1\2" * 1000 + b"\1", "inside a sample"),
        (b"OggS" + bytes(100), "begins as Ogg"),
        (b"fLaC" + bytes(100), "begins as FLAC"),
        (b"ID3\4" + bytes(100), "begins as MP3"),
        (b"RIFF", "no WAVE"),
        (b"RIFF\0\0\0\0AVI ", "no WAVE"),
        (b"RIFF\0\0\0\0WAVE", "ends before its samples"),
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0", "before their format"),
        (b"RIFF\0\0\0\0WAVEfmt \2\0\0\0ab", "damaged header"),
        (encoded(np.zeros(100), 8000, format="WAV", subtype="PCM_24"), "24 bits"),
        (encoded(np.zeros(100), 8000, format="WAV", subtype="PCM_16")[:-7], "before its header says"),
    ],
)
def test_a_stream_that_is_none_is_told_in_a_line(content, words):
    with pytest.raises(InputError, match=words) as caught:
        piped(content)
    assert str(caught.value).startswith("stdin: ") and "\n" not in str(caught.value)


def test_a_recording_played_comes_whole_at_its_own_pace(tmp_path):
    samples = np.random.default_rng(0).uniform(-1, 1, 4000).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 8000, subtype="FLOAT")
    begun = time.monotonic()
    chunks = [one for one in sources.played(tmp_path / "a.wav", 8000) if len(one.samples)]
    assert time.monotonic() - begun >= 0.5  # it cannot come sooner
    assert sum(one.missing for one in chunks) == 0
    np.testing.assert_array_equal(np.concatenate([one.samples for one in chunks]), samples)


def test_an_unread_player_ends_when_it_is_closed(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(80_000), 8000)
    chunks = sources.played(tmp_path / "a.wav", 8000)
    next(chunks)
    chunks.close()
    assert not any(thread.name == "capture" and thread.is_alive() for thread in threading.enumerate())
