"""What is said of a source whose sound is silent, still, clipped or too quiet."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.live.capture import Chunk
from edgeq.live.level import FLOOR_DB, Level

RATE = 1000


def said(level, samples, size=100):
    """What is said while the samples come in chunks, with the second at which it is."""
    return [
        (start / RATE, words)
        for start in range(0, len(samples), size)
        for words in level.hear(Chunk(samples[start : start + size].astype(np.float32), RATE, 0.0))
    ]


def tone(seconds, amplitude=0.3):
    return amplitude * np.sin(np.arange(round(seconds * RATE)))


@pytest.mark.parametrize(
    ("samples", "words", "after"),
    [
        (np.zeros(3 * RATE), "nothing but zeros", 2),
        (np.full(3 * RATE, 0.25), "every sample is 0.25", 2),
        (np.clip(tone(3, 5), -1, 1), "clips", 2),
        (tone(12, 0.0005), "at most -66 dB", 10),
        (np.where(np.arange(500) == 200, np.nan, 0.1), "NaN", 0.2),
    ],
)
def test_each_fault_is_said_once_when_it_shows(samples, words, after):
    level = Level()
    heard = said(level, samples)
    assert len(heard) == 1 and words in heard[0][1] and "\n" not in heard[0][1]
    assert heard[0][0] == pytest.approx(after, abs=0.15)


def test_good_sound_is_not_commented_and_has_its_level():
    level = Level()
    quiet_begin = np.concatenate([tone(5, 0.0005), tone(5), tone(5, 0.0005), tone(5)])
    assert said(level, quiet_begin) == []
    assert level.peak_db == pytest.approx(20 * np.log10(0.3), abs=0.1)
    said(level, np.zeros(100))
    assert level.peak_db == FLOOR_DB


def test_a_fault_that_stays_is_said_again_after_a_minute_and_one_that_returns_at_once():
    level = Level()
    assert [round(when) for when, _ in said(level, np.zeros(70 * RATE))] == [2, 62]
    assert said(level, tone(4)) == []
    assert len(said(level, np.zeros(4 * RATE))) == 1


def test_chunks_without_samples_say_nothing():
    assert Level().hear(Chunk(np.zeros(0, np.float32), RATE, 0.0)) == []
