"""Synthesise five seconds of a ticking clock, so that the demo has a recording where there is no data.

python tools/synthesise_clock.py build/clock.wav
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile

SAMPLE_RATE = 44100
SECONDS = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description="synthesise a ticking clock")
    parser.add_argument("output", type=Path)
    write(parser.parse_args().output)


def write(path: Path) -> None:
    """Write the recording: mono, 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, clock(), SAMPLE_RATE, subtype="PCM_16")


def clock() -> np.ndarray:
    """Two ticks a second over a quiet room: float64 (samples,), full scale +-1.

    A tick is a few decaying resonances of a small metal case, struck by a click; tick and tock differ in pitch.
    """
    rng = np.random.default_rng(1)
    sound = 2e-4 * rng.standard_normal(round(SAMPLE_RATE * SECONDS))
    for number in range(round(2 * SECONDS)):
        start = round(SAMPLE_RATE * (0.1 + 0.5 * number))
        tick = _tick(rng, pitch=1.0 if number % 2 else 0.9)[: len(sound) - start]
        sound[start : start + len(tick)] += tick
    return sound


def _tick(rng: np.random.Generator, pitch: float) -> np.ndarray:
    seconds = np.arange(round(0.06 * SAMPLE_RATE)) / SAMPLE_RATE
    ring = sum(
        level * np.sin(2 * np.pi * pitch * hertz * seconds) * np.exp(-seconds / decay)
        for hertz, level, decay in ((2300, 0.1, 0.008), (4100, 0.15, 0.005), (6800, 0.1, 0.004), (9700, 0.05, 0.003))
    )
    click = 0.2 * rng.standard_normal(len(seconds)) * np.exp(-seconds / 0.001)
    return ring + click


if __name__ == "__main__":
    main()
