"""A small corpus of sounds: one folder a class, or a table with folds; every recording its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

RATE = 8000
FRONTEND = {"sample_rate": RATE, "n_fft": 256, "win_length": 256, "hop_length": 128, "n_mels": 16, "fmin": 50.0,
            "fmax": 4000.0, "window_seconds": 0.25}  # fmt: skip


def sound(seed: int, seconds: float = 0.3, rate: int = RATE, channels: int = 1) -> np.ndarray:
    """A tone in noise, both of the seed's own."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    tone = 0.4 * np.sin(2 * np.pi * rng.uniform(100, 3000) * time)
    return (tone[:, None] + rng.normal(0, 0.05, (len(time), channels))).astype(np.float32)


def folders(root: Path, clips: int = 24, classes: int = 3) -> Path:
    """`clips` recordings in turn in `classes` folders, of different lengths."""
    for number in range(clips):
        path = root / f"class{number % classes}" / f"clip{number:03d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sound(number, 0.2 + 0.05 * (number % 5)), RATE, "PCM_16")
    return root
