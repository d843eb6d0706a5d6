"""Energy from a power that somebody states, where there is no sensor."""

from __future__ import annotations

import math

from edgeq.bench.energy.face import Reading
from edgeq.errors import InputError


def stated(watts: float, seconds: float, source: str) -> Reading:
    """Stated power times measured time: an estimate.

    watts: while it runs, idle power not subtracted. source: who states it, for example a data sheet.
    Raises InputError where watts is not above 0, seconds is below 0, either is not finite, or no source is given.
    """
    if not (math.isfinite(watts) and watts > 0):
        raise InputError(f"stated power of {watts} W: expected more than 0")
    if not (math.isfinite(seconds) and seconds >= 0):
        raise InputError(f"time of {seconds} s: expected 0 or more")
    if not source.strip():
        raise InputError(f"stated power of {watts} W: expected its source, for example a data sheet")
    return Reading(watts * seconds, seconds, f"{watts:g} W stated ({source.strip()}) times the time", measured=False)
