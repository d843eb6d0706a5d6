"""A folder that looks like /sys/class/powercap, and a clock that only moves when somebody sleeps."""

from __future__ import annotations

import time
from pathlib import Path

import pytest


class Powercap:
    """Counters of energy in a folder; names of domains are the driver's: intel-rapl:0, intel-rapl:0:1."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, domain: str, name: str, microjoules: int = 0, wrap: int = 262_143_328_850) -> None:
        place = self.folder / domain
        place.mkdir(parents=True)
        (place / "name").write_text(f"{name}\n")
        (place / "max_energy_range_uj").write_text(f"{wrap}\n")
        self.write(domain, microjoules)

    def write(self, domain: str, microjoules: int) -> None:
        """As one step, as the kernel does it: nobody reads half a number."""
        fresh = self.folder / domain / "fresh"
        fresh.write_text(f"{microjoules}\n")
        fresh.replace(self.folder / domain / "energy_uj")

    def read(self, domain: str) -> int:
        return int((self.folder / domain / "energy_uj").read_text())

    def draw(self, domain: str, joules: float) -> None:
        wrap = int((self.folder / domain / "max_energy_range_uj").read_text())
        self.write(domain, (self.read(domain) + round(joules * 1e6)) % wrap)


class Clock:
    """Stands still but for `sleep`; what draws power draws it meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.watts = 0.0, 0.0
        self.sources: list[tuple[Powercap, str]] = []
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for powercap, domain in self.sources:
            powercap.draw(domain, self.watts * seconds)
