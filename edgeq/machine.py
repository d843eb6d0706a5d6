"""The machine that a figure was measured on, and what went on there meanwhile."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PROCESSORS = Path("/sys/devices/system/cpu")
_BOARD = Path("/proc/device-tree/model")
_RASPBERRY = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")

_BUSY = 0.1
"""Part of the processors from which other work, or the host of a virtual machine, is worth a warning."""


def describe() -> dict[str, str | int | None]:
    """What a measured figure has to say about where it was measured: processor, cores, system, python."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def gpus() -> list[str]:
    """The NVIDIA GPUs of this machine, each with its memory and driver; none where there is no driver."""
    query = "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"
    try:
        said = subprocess.run(["nvidia-smi", *query], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in said.splitlines() if line.strip()]


def conditions() -> dict[str, Any]:
    """What may disturb a measurement, at this moment; None where the system does not say.

    seconds: a clock. own_seconds: of processors that this process has had, and those that it started and waited for.
    busy_seconds, stolen_seconds: of processors that all processes together have had, and that a virtual machine's host
    has kept. load_average: of the last minute.
    governors: of frequencies, each once. throttled: times that processors were slowed for heat so far. throttling:
    whether a Raspberry Pi is being slowed, for heat or want of power.
    """
    busy, stolen = _processor_seconds()
    return {
        "seconds": time.monotonic(),
        "own_seconds": time.process_time() + sum(os.times()[2:4]),
        "busy_seconds": busy,
        "stolen_seconds": stolen,
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "governors": sorted(set(_read_each("cpufreq/scaling_governor"))) or None,
        "throttled": _throttled(),
        "throttling": _throttling(),
    }


def disturbances(before: Mapping[str, Any], after: Mapping[str, Any], cores: int) -> list[str]:
    """What may have disturbed work between two `conditions` on a machine of so many cores, a line each, with its mend.

    Other work is all processors' time less this process's own.
    """
    found = []
    span = max(after["seconds"] - before["seconds"], 1e-9) * max(cores, 1)
    if before["busy_seconds"] is not None and after["busy_seconds"] is not None:
        own = after["own_seconds"] - before["own_seconds"]
        others = (after["busy_seconds"] - before["busy_seconds"] - own) / span
        if others > _BUSY:
            found.append(f"other work took {min(others, 1):.0%} of the processors meanwhile: close it and run again")
        stolen = (after["stolen_seconds"] - before["stolen_seconds"]) / span
        if stolen > _BUSY:
            found.append(f"the host of this virtual machine kept {stolen:.0%} of its processors from it; run again")
    if "powersave" in (after["governors"] or ()):
        found.append("governor powersave: clocks may be low; set: sudo cpupower frequency-set -g performance")
    slowed = (after["throttled"] or 0) > (before["throttled"] or 0)
    if slowed or before["throttling"] or after["throttling"]:
        found.append("the processor was slowed for heat or want of power meanwhile: cool it and run again")
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # only Linux lists its processor there
        lines = []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    processor = next(named, platform.processor() or platform.machine())
    try:
        board = _BOARD.read_text().rstrip("\0")
    except OSError:  # a PC
        return processor
    return f"{board}, {processor}"


def _processor_seconds() -> tuple[float | None, float | None]:
    """Busy and stolen, of all processors since the system began."""
    try:
        first = Path("/proc/stat").read_text().splitlines()[0].split()
        user, nice, system, _, _, irq, softirq, stolen = map(int, first[1:9])
    except (OSError, IndexError, ValueError):  # no Linux
        return None, None
    tick = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / tick, stolen / tick


def _throttled() -> int | None:
    counts = [int(text) for text in _read_each("thermal_throttle/core_throttle_count") if text.isdecimal()]
    return sum(counts) if counts else None


def _throttling() -> bool | None:
    try:
        return bool(int(_RASPBERRY.read_text(), 16) & 0xF)  # higher bits say that it ever was
    except (OSError, ValueError):
        return None


def _read_each(name: str) -> list[str]:
    """The content of a file of each processor, where there is one."""
    found = []
    for path in sorted(_PROCESSORS.glob(f"cpu[0-9]*/{name}")):
        try:
            found.append(path.read_text().strip())
        except OSError:  # a processor that is switched off
            continue
    return found
