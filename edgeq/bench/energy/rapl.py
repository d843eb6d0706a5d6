"""Energy of the processor: RAPL's counters (Intel, and AMD since Zen), as Linux shows them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from edgeq.bench.energy.face import Closed, Reading
from edgeq.bench.energy.repeating import Repeating
from edgeq.errors import InputError

POWERCAP = Path("/sys/class/powercap")

_SHORTEST = 0.1
"""Seconds: the counters move a thousand times a second, so less than this is told to worse than 1 %."""

_WATCH = 30.0
"""Seconds between readings of a counter that goes on for longer: one wraps around after minutes under load."""

_ALIVE = 0.3
"""Seconds in which a counter that works has moved."""


def meter(options: str = "", folder: Path | None = None) -> Rapl:
    """The processor's packages: cores, caches and what else is on the chip, without memory.

    folder: another than POWERCAP. Raises InputError where there are no packages or they stand still, and Closed where
    they may not be read.
    Source: Linux kernel, Documentation/power/powercap/powercap.rst.
    """
    if options:
        raise InputError(f"energy meter rapl:{options}: expected rapl alone, it reads every package")
    folder = folder or POWERCAP
    packages = _packages(folder, "intel-rapl") or _packages(folder, "intel-rapl-mmio")
    if not packages:
        raise InputError(
            f"RAPL: {folder} has no processor package: expected Linux on an Intel or AMD processor, and neither a "
            "virtual machine nor a container; there run: sudo modprobe intel_rapl_msr; elsewhere state the power with "
            "--watts"
        )
    ready = Rapl(packages)
    ready.check()
    return ready


@dataclass(frozen=True)
class Package:
    """A processor's counter. counter: file of microjoules. wrap: microjoules at which it begins again at 0."""

    name: str
    counter: Path
    wrap: int

    def microjoules(self) -> int:
        """What the counter says. Raises OSError."""
        return int(self.counter.read_text())


class Rapl:
    """Reads packages, wherever their counters wrap around."""

    name = "rapl"
    measured = True

    def __init__(self, packages: tuple[Package, ...]) -> None:
        """packages: one or more."""
        self._packages = packages
        self.source = f"RAPL, {' and '.join(package.name for package in packages)}, without memory"

    def check(self) -> None:
        """Raises InputError where a counter may not be read, or none of them moves."""
        first, end = self._read(), time.monotonic() + _ALIVE
        while self._read() == first:
            if time.monotonic() > end:
                raise InputError(
                    f"{self.source}: {self._packages[0].counter} stands still at {first[0]} microjoules: expected a "
                    "counter that moves; a virtual machine may not have one: measure outside it, or state the power "
                    "with --watts"
                )
            time.sleep(0.01)

    def start(self) -> None:
        """Begin. Raises InputError where a counter may not be read."""
        self._total = 0
        self._last, self._began = self._read(), time.perf_counter()
        self._watch = Repeating(self._count, _WATCH)

    def stop(self) -> Reading:
        """End. Raises InputError where a counter may not be read any more."""
        self._watch.stop()
        self._count()
        seconds = time.perf_counter() - self._began
        if seconds < _SHORTEST:
            too_short = f"{self.source}: {seconds:.3g} s is too short for it, expected {_SHORTEST} s or more"
            return Reading(None, seconds, too_short, measured=True)
        return Reading(self._total / 1e6, seconds, self.source, measured=True)

    def _count(self) -> None:
        now = self._read()
        for package, before, after in zip(self._packages, self._last, now, strict=True):
            self._total += after - before + (package.wrap if after < before else 0)
        self._last = now

    def _read(self) -> tuple[int, ...]:
        try:
            return tuple(package.microjoules() for package in self._packages)
        except PermissionError as error:
            counters = " ".join(str(package.counter) for package in self._packages)
            raise Closed(
                f"RAPL: {error.filename} may be read by root alone (against side channels, CVE-2020-8694); to let "
                f"every user of this machine read it until the next boot, run: sudo chmod a+r {counters}"
            ) from error
        except (OSError, ValueError) as error:
            raise InputError(f"RAPL: {error}: expected a counter of microjoules; is the driver gone?") from error


def _packages(folder: Path, driver: str) -> tuple[Package, ...]:
    """Without a package's parts, which it includes, and without `psys`, which includes it."""
    found = []
    for place in sorted(folder.glob(f"{driver}:*")):
        try:
            name = (place / "name").read_text().strip()
            if name.startswith("package"):
                found.append(Package(name, place / "energy_uj", int((place / "max_energy_range_uj").read_text())))
        except (OSError, ValueError) as error:
            raise InputError(f"RAPL: {place}: {error}: expected a name and a range in microjoules") from error
    return tuple(found)
