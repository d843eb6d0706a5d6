"""A corpus that is heard at once, and a recipe that learns it in seconds: for tests of whole trainings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from edgeq import corpora
from edgeq.corpora import Corpus

RECIPE = """
name = "beeps"
architecture = "qdcase22"
seed = 1
threads = 1
exclude_licences = ["secret"]
licence = "Apache-2.0"

[frontend]
floor = 1e-3
floor_rule = "add"

[fit]
epochs = 12
batch_size = 4
crop_seconds = [1.0]
learning_rate = 0.01
average_decay = 0.5
label_smoothing = 0.0
mix_probability = 0.0
speeds = [1.1]
"""


def beeps(folder: Path) -> Corpus:
    """Twelve recordings of 1.5 s in two folds: low or high tones in noise, one more under a licence to leave out."""
    random = np.random.default_rng(0)
    lines = ["file,fold,category,licence"]
    time = np.arange(66150) / 44100
    for i in range(13):
        label = ("low", "high")[i % 2]
        tone = 0.3 * np.sin(2 * np.pi * (300 if label == "low" else 5000) * (1 + 0.02 * i) * time)
        path = folder / "audio" / f"{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone + 0.001 * random.standard_normal(len(time)), 44100)
        lines.append(f"{i}.wav,{1 + i % 4 // 2},{label},{'secret' if i == 12 else 'CC0'}")
    (folder / "meta.csv").write_text("\n".join(lines))
    return corpora.open(folder)


def damaged_beeps(folder: Path) -> tuple[Path, Path]:
    """Beeps in `folder`/corpus, of which one is cut off, and a recipe of an epoch beside them: recipe, damaged file."""
    damaged = beeps(folder / "corpus").clips[4].path
    damaged.write_bytes(damaged.read_bytes()[:3000])
    recipe = folder / "beeps" / "recipe.toml"
    recipe.parent.mkdir()
    recipe.write_text(RECIPE.replace("epochs = 12", "epochs = 1").replace("[1.1]", "[]"))
    return recipe, damaged
