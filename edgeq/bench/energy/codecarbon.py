"""Energy as codecarbon models it: never called measured."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from edgeq.bench.energy.face import Reading
from edgeq.errors import InputError

_JOULES_PER_KWH = 3.6e6


def meter(options: str = "") -> CodeCarbon:
    """codecarbon's tracker, offline, of the whole machine.

    Where it finds no sensor it multiplies a processor's stated power with its load, and always adds a constant for
    memory: so even where there is a sensor, the whole is an estimate.
    Raises InputError where codecarbon is not installed.
    """
    if options:
        raise InputError(f"energy meter codecarbon:{options}: expected codecarbon alone")
    try:
        from codecarbon import OfflineEmissionsTracker
    except ImportError as error:
        raise InputError("codecarbon is not installed; run: pip install 'edgeq[codecarbon]'") from error
    # The country is asked for CO2, which is not taken from here. Nothing is written and nothing sent.
    tracker = OfflineEmissionsTracker(
        country_iso_code="USA",
        tracking_mode="machine",
        measure_power_secs=1,
        output_methods=[],
        allow_multiple_runs=True,
        log_level="critical",
    )
    return CodeCarbon(tracker)


class CodeCarbon:
    """Runs a tracker's tasks."""

    name = "codecarbon"
    measured = False

    def __init__(self, tracker: Any) -> None:
        """tracker: codecarbon's."""
        self._tracker = tracker
        self.source = f"codecarbon {metadata.version('codecarbon')}, a model of the whole machine"

    def start(self) -> None:
        """Begin."""
        self._tracker.start_task()

    def stop(self) -> Reading:
        """End. Raises InputError where codecarbon lost track."""
        task = self._tracker.stop_task()
        if task is None:
            raise InputError(f"{self.source}: it followed nothing; try codecarbon by itself: codecarbon detect")
        return Reading(task.energy_consumed * _JOULES_PER_KWH, task.duration, self.source, measured=False)
