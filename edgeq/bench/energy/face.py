"""One reading of energy, whatever the sensor, and from it what one inference takes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from edgeq.errors import InputError


@dataclass(frozen=True)
class Reading:
    """Energy over a stretch of time.

    joules: None where the sensor could not tell; `source` then says why. seconds: that it lasted. source: one line, the
    sensor and how it was read. measured: by a sensor; otherwise estimated, and never to be called measured.
    """

    joules: float | None
    seconds: float
    source: str
    measured: bool


class Closed(InputError):
    """A sensor is there, and something has to be done before it is read."""


class Meter(Protocol):
    """Something that tells energy.

    name: as `energy.meter` takes it. source: one line, which sensor. measured: whether it is one, or a model.
    """

    @property
    def name(self) -> str: ...

    @property
    def source(self) -> str: ...

    @property
    def measured(self) -> bool: ...

    def start(self) -> None:
        """Begin a stretch of time. Raises InputError where the sensor is gone."""
        ...

    def stop(self) -> Reading:
        """End it. Raises InputError where the sensor is gone."""
        ...


def per_inference(meter: Meter, run: Callable[[], int], idle_seconds: float) -> Reading:
    """Energy of one inference, less what the machine takes anyway.

    run: makes inferences and returns how many. First nothing runs for `idle_seconds`: the power of that time, over the
    time of `run`, is subtracted. Joules and seconds of the result are of one inference; joules is None where either
    stretch was too short for the sensor, or running took no more than idling.
    Raises InputError where idle_seconds is not above 0, `run` made no inference, or the sensor is gone.
    """
    if idle_seconds <= 0:
        raise InputError(f"idle time of {idle_seconds} s: expected more than 0, to know what the machine takes anyway")
    idle, _ = _during(meter, lambda: _sleep(idle_seconds))
    busy, count = _during(meter, run)
    if count < 1:
        raise InputError(f"energy of an inference: {count} inferences were made, expected at least one")
    one = replace(busy, joules=None, seconds=busy.seconds / count)
    if busy.joules is None:
        return one
    if idle.joules is None:
        return replace(one, source=f"while idle: {idle.source}")
    watts = idle.joules / idle.seconds
    above = busy.joules - watts * busy.seconds
    taken = f"{count} inferences took {busy.joules:.4g} J in {busy.seconds:.4g} s"
    if above <= 0:
        return replace(one, source=f"{busy.source}: {taken}, no more than idle at {watts:.4g} W: run for longer")
    return replace(one, joules=above / count, source=f"{busy.source}; {taken}, less idle at {watts:.4g} W")


def _sleep(seconds: float) -> int:
    time.sleep(seconds)
    return 0


def _during(meter: Meter, action: Callable[[], int]) -> tuple[Reading, int]:
    meter.start()
    try:
        value = action()
    except BaseException:
        with contextlib.suppress(InputError):  # what went wrong first is what has to be told
            meter.stop()
        raise
    return meter.stop(), value
