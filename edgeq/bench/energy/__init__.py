"""What energy an inference takes: one reading, from whichever sensor there is, and how it was come by."""

from __future__ import annotations

from collections.abc import Callable

from edgeq.bench.energy import codecarbon, nvml, ppk2, rapl
from edgeq.bench.energy.face import Closed, Meter, Reading, per_inference
from edgeq.bench.energy.stated import stated
from edgeq.errors import InputError

__all__ = ["Meter", "Reading", "closed", "meter", "per_inference", "stated"]

_METERS: dict[str, Callable[[str], Meter]] = {
    "rapl": rapl.meter,
    "nvml": nvml.meter,
    "ppk2": ppk2.meter,
    "codecarbon": codecarbon.meter,
}
_BEST = {"cpu": "rapl", "gpu": "nvml"}


def meter(name: str | None = None, device: str = "cpu") -> Meter | None:
    """The meter of a name, or the one that measures what computes.

    name: rapl (the processor), nvml or nvml:INDEX (an NVIDIA GPU), ppk2:source=VOLTS or ppk2:ampere=VOLTS (a board at a
    Nordic PPK2), codecarbon (a model, never called measured). None: the sensor of `device`, "cpu" or "gpu", or no meter
    where it does not work; `closed` says whether there is one.
    Raises InputError where there is no such name, or a named meter does not work here: what is missing, and the mend.
    """
    if name is None:
        try:
            return meter(_BEST[device])
        except InputError:
            return None
    kind, _, options = name.partition(":")
    if kind not in _METERS:
        raise InputError(f"energy meter {name!r}: expected one of {', '.join(_METERS)}")
    return _METERS[kind](options)


def closed(device: str = "cpu") -> str | None:
    """Of a sensor of `device` that is there and not yet to be read: one line with what opens it."""
    try:
        meter(_BEST[device])
    except Closed as error:
        return str(error)
    except InputError:
        return None
    return None
