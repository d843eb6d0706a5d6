"""Energy of an NVIDIA GPU, as its driver tells it."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from edgeq.bench.energy.face import Closed, Reading
from edgeq.bench.energy.repeating import Repeating
from edgeq.errors import InputError

_SHORTEST = 1.0
"""Seconds: counters and power readings of a GPU are renewed some ten times a second."""

_SAMPLE = 0.02
"""Seconds between samples of power, where there is no counter of energy."""


def meter(options: str = "") -> Counter | Power:
    """A GPU's counter of energy, or where it has none (before Volta), its power, sampled.

    options: the GPU's index or UUID as nvidia-smi has it; where left out, the only one there is, or the only one in
    CUDA_VISIBLE_DEVICES. The whole board counts: memory, and whatever else runs on it.
    Raises InputError where the driver or the GPU is missing, and Closed where nvidia-ml-py is, or where it is not said
    which one of several GPUs.
    Source: NVML API reference, nvmlDeviceGetTotalEnergyConsumption and nvmlDeviceGetPowerUsage.
    """
    try:
        import pynvml
    except ImportError as error:
        raise Closed("NVML: nvidia-ml-py is not installed; run: pip install 'edgeq[energy]'") from error
    try:
        pynvml.nvmlInit()
        handle, called = _gpu(pynvml, options)
    except pynvml.NVMLError as error:
        raise InputError(
            f"NVML: {error}: expected an NVIDIA GPU and its driver, such that nvidia-smi lists it"
        ) from error
    name = f"nvml:{options}" if options else "nvml"
    if _tells(pynvml, lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)):
        return Counter(name, called, pynvml, handle)
    if _tells(pynvml, lambda: pynvml.nvmlDeviceGetPowerUsage(handle)):
        return Power(name, called, pynvml, handle)
    raise InputError(f"NVML: {called} tells neither energy nor power; state the power with --watts")


class Counter:
    """Reads a GPU's counter of energy."""

    measured = True

    def __init__(self, name: str, called: str, pynvml: Any, handle: Any) -> None:
        """called: index and name of the GPU. handle: NVML's."""
        self.name, self.source = name, f"NVML, counter of energy of {called}"
        self._pynvml, self._handle = pynvml, handle

    def start(self) -> None:
        """Begin. Raises InputError where the GPU is gone."""
        self._first, self._began = self._millijoules(), time.perf_counter()

    def stop(self) -> Reading:
        """End. Raises InputError where the GPU is gone."""
        taken, seconds = self._millijoules() - self._first, time.perf_counter() - self._began
        if seconds < _SHORTEST:
            return _too_short(self.source, seconds)
        if taken <= 0:
            return Reading(None, seconds, f"{self.source}: stood still for {seconds:.3g} s", measured=True)
        return Reading(taken / 1e3, seconds, self.source, measured=True)

    def _millijoules(self) -> int:
        return _asked(self._pynvml, lambda: self._pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))


class Power:
    """Samples a GPU's power, and integrates over time (trapezoids)."""

    measured = True

    def __init__(self, name: str, called: str, pynvml: Any, handle: Any) -> None:
        """called: index and name of the GPU. handle: NVML's."""
        self.name, self.source = name, f"NVML, power of {called} sampled every {_SAMPLE * 1e3:.0f} ms"
        self._pynvml, self._handle = pynvml, handle

    def start(self) -> None:
        """Begin. Raises InputError where the GPU is gone."""
        self._samples: list[tuple[float, float]] = []
        self._sample()
        self._sampling = Repeating(self._sample, _SAMPLE)

    def stop(self) -> Reading:
        """End. Raises InputError where the GPU is gone."""
        self._sampling.stop()
        self._sample()
        seconds = self._samples[-1][0] - self._samples[0][0]
        if seconds < _SHORTEST:
            return _too_short(self.source, seconds)
        pairs = itertools.pairwise(self._samples)
        joules = sum((end - begin) * (before + after) / 2 for (begin, before), (end, after) in pairs)
        return Reading(joules, seconds, self.source, measured=True)

    def _sample(self) -> None:
        milliwatts = _asked(self._pynvml, lambda: self._pynvml.nvmlDeviceGetPowerUsage(self._handle))
        self._samples.append((time.perf_counter(), milliwatts / 1e3))


def _gpu(pynvml: Any, options: str) -> tuple[Any, str]:
    """NVML's handle of a GPU, and its index or UUID with its name."""
    count = pynvml.nvmlDeviceGetCount()
    if count == 0:
        raise InputError("NVML: the driver lists no GPU: expected one")
    handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
    names = [pynvml.nvmlDeviceGetName(handle) for handle in handles]
    named = [f"GPU {index}, {name}" for index, name in enumerate(names)]
    which = options or ("0" if count == 1 else _visible(names))
    if which.startswith("GPU-"):
        handle = pynvml.nvmlDeviceGetHandleByUUID(which)
        return handle, f"{which}, {pynvml.nvmlDeviceGetName(handle)}"
    if not which.isdecimal() or int(which) >= count:
        asked = f"nvml:{options}" if options else "nvml"
        raise Closed(
            f"energy meter {asked}: expected one GPU: "
            + "; ".join(f"nvml:{i} ({name})" for i, name in enumerate(named))
        )
    return handles[int(which)], named[int(which)]


def _visible(names: Sequence[str]) -> str:
    """The only one that CUDA sees. It counts the fastest first, NVML by bus: of unlike GPUs an index is not enough."""
    which = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    alike = len(set(names)) == 1 or os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    return which if alike or not which.isdecimal() else ""


def _tells(pynvml: Any, question: Callable[[], int]) -> bool:
    try:
        question()
    except pynvml.NVMLError:
        return False
    return True


def _asked(pynvml: Any, question: Callable[[], int]) -> int:
    try:
        return question()
    except pynvml.NVMLError as error:
        raise InputError(f"NVML: {error}: the GPU answered before; does nvidia-smi still list it?") from error


def _too_short(source: str, seconds: float) -> Reading:
    told = f"{source}: {seconds:.3g} s is too short for it, expected {_SHORTEST:g} s or more"
    return Reading(None, seconds, told, measured=True)
