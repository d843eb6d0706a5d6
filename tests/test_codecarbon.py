"""codecarbon, where it is installed: a model, and said to be one."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from edgeq.bench import energy


def test_it_is_never_called_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("codecarbon")
    monkeypatch.chdir(tmp_path)
    meter = energy.meter("codecarbon")
    assert meter is not None
    assert not meter.measured
    for seconds in (1.0, 2.0):
        meter.start()
        time.sleep(seconds)
        reading = meter.stop()
        assert reading.joules is not None and 0.5 < reading.joules / reading.seconds < 2000
        assert seconds <= reading.seconds < seconds + 5
        assert not reading.measured
        assert reading.source.startswith("codecarbon ") and "model" in reading.source
    assert not list(tmp_path.iterdir())  # it writes emissions.csv if one lets it
