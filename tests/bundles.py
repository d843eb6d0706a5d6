"""Small bundles with random weights, for tests that need one whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeq import bundle
from edgeq.audio.frontend import FrontendSpec, with_derivatives
from edgeq.bundle import Bundle
from edgeq.nets.spec import ArchitectureSpec

FRONTEND = FrontendSpec(
    sample_rate=8000, n_fft=256, win_length=256, hop_length=160, n_mels=16, fmin=50.0, fmax=4000.0,
    floor=1e-6, floor_rule="add", mean=(-20.0,), std=(15.0,), gate=-55.0,
)  # fmt: skip
"""50 frames a second of 16 mels: a window is 16 x 50."""

QUATERNION_FRONTEND = replace(with_derivatives(FRONTEND), mean=(-20.0, 0.0, 0.0, 0.0), std=(15.0, 2.0, 1.0, 1.0))

LABELS = ("bark", "chirp", "hum", "knock")


def plain(folder: Path, **changes: Any) -> Bundle:
    """A valid bundle whose weights belong to no network: for tests of the folder itself."""
    fields: dict[str, Any] = {
        "name": "small",
        "architecture": ArchitectureSpec("cnn5", (4, 4, 4, 4, 8), len(LABELS), FRONTEND.input_shape),
        "frontend": FRONTEND,
        "labels": LABELS,
        "weights": {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b.bias": np.ones(2, np.float32)},
        "ranges": {"input": (-1.0, 2.0), "conv_1": (0.0, 3.5)},
        "exports": {"onnx": b"not really onnx", "tflite-int8": b"not really tflite"},
        "provenance": {"recipe": "none", "seed": 3},
        "licence": "CC0-1.0",
        "metrics": {"accuracy": {"mean": 0.5, "low": 0.4, "high": 0.6, "seeds": 3}},
    }
    return bundle.write(folder, **{**fields, **changes})


def manifest_of(opened: Bundle) -> Mapping[str, Any]:
    return json.loads((opened.folder / "bundle.json").read_text())
