"""Log-mel in decibels, against the front end's own of sounds whose levels are known."""

from __future__ import annotations

from dataclasses import replace

import bundles
import numpy as np
import pytest

from edgeq.audio import decibels
from edgeq.audio.frontend import logmel


@pytest.mark.parametrize("log", ["db", "ln"])
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_ten_times_the_amplitude_are_20_db_and_silence_is_60_db_below_loud(log, power):
    spec = replace(bundles.FRONTEND, log=log, power=power, gate=None)
    noise = np.random.default_rng(0).normal(0, 0.05, spec.sample_rate).astype(np.float32)
    quiet, loud, nothing = (decibels.unit(spec) * logmel(sound, spec) for sound in (noise, 10 * noise, 0 * noise))
    assert np.abs(loud - quiet - 20).max() < 0.1
    assert nothing.max() == pytest.approx(decibels.loud(spec) - 60, abs=1e-3)


def test_a_gate_says_what_is_quiet():
    spec = replace(bundles.FRONTEND, log="ln", power=1.0, gate=-3.0)
    assert decibels.loud(spec) == pytest.approx(-3.0 * 20 / np.log(10) + 30)
