"""What training and packed corpora keep of a recording: its log-mel, at any speed, before anything that follows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import soxr

from edgeq.audio import frontend
from edgeq.audio.frontend import FrontendSpec


def logmel_spec(spec: FrontendSpec) -> FrontendSpec:
    """What of a front end the log-mel rests on: equal for two of them whose maps of a recording are the same.

    Normalisation, window hop, gate and derivatives over time come after the log-mel: here they are at rest.
    """
    if spec.derivatives == "time":
        spec = replace(spec, derivatives="none", mean=(0.0,), std=(1.0,))
    components = spec.components
    return replace(spec, mean=(0.0,) * components, std=(1.0,) * components, window_hop_seconds=1.0, gate=None)


def at_speed(waveform: np.ndarray, speed: float, spec: FrontendSpec) -> np.ndarray:
    """A waveform played `speed` times as fast, pitch going along, padded to at least one window.

    waveform: float32 (samples,) at spec.sample_rate. Returns float32 (about samples / speed,).
    """
    if speed != 1:
        waveform = soxr.resample(waveform, spec.sample_rate * speed, spec.sample_rate).astype(np.float32)
    return frontend.pad(waveform, spec)
