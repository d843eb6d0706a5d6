"""A front end's log-mel in decibels, as spectrograms in terminals and on pages show it."""

from __future__ import annotations

import math

from edgeq.audio.frontend import FrontendSpec

_ABOVE_GATE_DB, _ABOVE_FLOOR_DB = 30.0, 60.0


def unit(spec: FrontendSpec) -> float:
    """Decibels that a unit of log-mel stands for: ten times the amplitude are 20 dB, whatever it is counted in."""
    return 2 / spec.power * (10 / math.log(10) if spec.log == "ln" else 1)


def loud(spec: FrontendSpec) -> float:
    """What a spectrogram shows as its loudest at least, in dB, so that silence looks like silence.

    It is 30 dB above the front end's gate; without one, 60 dB above the least value that it gives.
    """
    if spec.gate is not None:
        return unit(spec) * spec.gate + _ABOVE_GATE_DB
    return 2 / spec.power * 10 * math.log10(spec.floor) + _ABOVE_FLOOR_DB
