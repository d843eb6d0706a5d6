"""Energy of a board at a Nordic Power Profiler Kit II, over its serial port."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgeq.bench.energy.face import Reading
from edgeq.bench.energy.repeating import Repeating
from edgeq.errors import InputError

# The protocol, samples and their conversion: Nordic's own application, pc-nrfconnect-ppk (src/constants.ts,
# src/device/serialDevice.ts). Only metadata and samples are answered; every other command is silent.
_AVERAGE_START, _AVERAGE_STOP, _DEVICE_RUNNING, _REGULATOR, _POWER_MODE, _METADATA = 0x06, 0x07, 0x0C, 0x0D, 0x11, 0x19
_MODES = {"ampere": 1, "source": 2}
_USB = (0x1915, 0xC00A)

_SECONDS_PER_SAMPLE = 1e-5
_RANGES = 5
_SHORTEST = 0.01
_LOST = 0.01
"""Share of lost samples above which the rest does not stand for the whole."""

_LATENCY = 0.05
"""Seconds that a command may take to the PPK2."""

_ANSWER = 2.0
_QUIET = 0.1
"""Seconds: in which metadata comes; after which, when nothing came, nothing more will."""

Calibration = dict[str, np.ndarray]
"""Nordic's names of a calibration's terms to their values, one a range."""


def meter(options: str) -> Ppk2:
    """A PPK2 in one of its modes, the board connected.

    options: source=VOLTS, where the PPK2 feeds the board with that (0.8 to 5.0), or ampere=VOLTS, where the board's own
    supply of that voltage goes through the PPK2; with ",port=PORT" where several PPK2 are plugged in. It measures
    current, from 500 nA to 1 A, 100,000 times a second; energy is that times the voltage that is said here. The board
    stays on afterwards.
    Raises InputError where options say anything else, pyserial is missing, or no PPK2 answers.
    """
    mode, volts, port = _options(options)
    try:
        import serial
        import serial.tools.list_ports
    except ImportError as error:
        raise InputError("PPK2: pyserial is not installed; run: pip install 'edgeq[energy]'") from error
    failures = []
    for place in [port] if port else _plugged_in(serial.tools.list_ports.comports()):
        try:
            opened = serial.Serial(place, timeout=0.05, write_timeout=2, exclusive=True)
        except (OSError, ValueError) as error:
            mend = "on Linux, your user in the group dialout; no other program at it"
            failures.append(
                f"{place} does not open ({' '.join(str(error).split())}): expected a PPK2's port, and {mend}"
            )
            continue
        try:
            return Ppk2(f"ppk2:{options}", place, opened, mode, volts)
        except InputError as error:
            opened.close()
            failures.append(str(error))
    raise InputError(f"PPK2: {'; '.join(failures)}")


class Ppk2:
    """Takes samples of current while it runs."""

    measured = True

    def __init__(self, name: str, place: str, port: Any, mode: str, volts: float) -> None:
        """Set the mode and voltage, and switch the board on. Raises InputError where no PPK2 answers."""
        self.name, self._place, self._port, self._volts = name, place, port, volts
        supply = f"feeding {volts:g} V" if mode == "source" else f"as ampere meter, at {volts:g} V as stated"
        self.source = f"Nordic PPK2 at {place}, {supply}"
        self._send(_AVERAGE_STOP)
        self._rest()
        self._send(_METADATA)
        self._calibration = calibration(self._answer())
        millivolts = round(volts * 1000)
        self._send(_POWER_MODE, _MODES[mode])
        self._send(_REGULATOR, millivolts >> 8, millivolts & 0xFF)
        self._send(_DEVICE_RUNNING, 1)

    def start(self) -> None:
        """Begin. Raises InputError where the PPK2 is gone."""
        self._rest()
        self._bytes = bytearray()
        self._send(_AVERAGE_START)
        self._began = time.perf_counter()
        self._taking = Repeating(lambda: self._bytes.extend(self._received()), 0.001)

    def stop(self) -> Reading:
        """End. Raises InputError where the PPK2 is gone, or no sample came."""
        elapsed = time.perf_counter() - self._began
        try:
            self._send(_AVERAGE_STOP)
        finally:
            self._taking.stop()
        self._bytes += self._rest()
        taken = samples(bytes(self._bytes), self._calibration, self._volts)
        if not len(taken.amperes):
            raise InputError(f"PPK2: {self._place} sent no sample: unplug it, plug it in, and try again")
        seconds = (len(taken.amperes) + taken.lost) * _SECONDS_PER_SAMPLE
        if seconds < _SHORTEST:
            told = f"{self.source}: {seconds:.3g} s is too short, expected {_SHORTEST} s or more"
            return Reading(None, seconds, told, measured=True)
        # The counter of 6 bits tells of no more than 63 lost in a row; this machine's clock tells of long gaps.
        missing = max(taken.lost * _SECONDS_PER_SAMPLE, elapsed - seconds - _LATENCY)
        if missing > _LOST * seconds:
            told = f"{self.source}: samples of {missing:.3g} s of {max(elapsed, seconds):.3g} s were lost"
            return Reading(None, seconds, f"{told}: is this machine too busy?", measured=True)
        return Reading(float(taken.amperes.mean()) * self._volts * seconds, seconds, self.source, measured=True)

    def _send(self, *command: int) -> None:
        try:
            self._port.write(bytes(command))
        except OSError as error:  # pyserial's are these as well
            raise self._gone(error) from error

    def _received(self) -> bytes:
        try:
            return bytes(self._port.read(max(1, self._port.in_waiting)))
        except (OSError, TypeError) as error:  # the latter where the port is closed meanwhile
            raise self._gone(error) from error

    def _rest(self) -> bytes:
        """What comes until nothing comes any more."""
        rest, end = bytearray(), time.monotonic() + _ANSWER
        quiet = time.monotonic() + _QUIET
        while time.monotonic() < min(end, quiet):
            if received := self._received():
                rest += received
                quiet = time.monotonic() + _QUIET
        return bytes(rest)

    def _answer(self) -> str:
        answer, end = bytearray(), time.monotonic() + _ANSWER
        while b"END" not in answer:
            if time.monotonic() > end:
                raise InputError(
                    f"{self._place}: {len(answer)} bytes came, expected a PPK2's metadata: is it another port of the "
                    "same device, or another device? Name the PPK2's, or unplug it and plug it in"
                )
            answer += self._received()
        return answer.decode("ascii", "replace")

    def _gone(self, error: Exception) -> InputError:
        return InputError(f"PPK2: {self._place} is gone ({' '.join(str(error).split())}): plug it in again")


@dataclass(frozen=True)
class Samples:
    """amperes: float64, every 10 microseconds but for those lost in between."""

    amperes: np.ndarray
    lost: int


def calibration(metadata: str) -> Calibration:
    """The terms of a device's metadata, one a range; Nordic's defaults for those that are missing, zero or NaN."""
    defaults = {"r": [1031.64, 101.65, 10.15, 0.94, 0.043], "gs": [1.0] * 5, "gi": [1.0] * 5, "ug": [1.0] * 5}
    terms = {name: np.array(defaults.get(name, [0.0] * 5)) for name in ("r", "gs", "gi", "o", "s", "i", "ug")}
    for name, place, value in re.findall(
        r"^([A-Z]+)([0-4]): *([-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?) *\r?$", metadata, re.MULTILINE
    ):
        if name.lower() in terms and float(value) != 0:
            terms[name.lower()][int(place)] = float(value)
    return terms


def samples(data: bytes, terms: Calibration, volts: float) -> Samples:
    """Currents of a stream of samples.

    A sample is 32 bits, little-endian: 14 of the converter, 3 of the range, 6 of a counter, 8 of digital inputs, which
    are left alone here. Readings just after a change of range are replaced by a running average.
    """
    words = np.frombuffer(data[: len(data) // 4 * 4], "<u4")
    ranges = np.minimum(words >> 14 & 7, _RANGES - 1).astype(np.intp)
    of = {name: values[ranges] for name, values in terms.items()}
    raw = ((words & 0x3FFF) * 4.0 - of["o"]) * (1.8 / 163840 / of["r"])
    amperes = of["ug"] * (raw * (of["gs"] * raw + of["gi"]) + of["s"] * volts + of["i"])
    counters = (words >> 18 & 0x3F).astype(np.int64)
    lost = int(((np.diff(counters) - 1) & 0x3F).sum())
    if (ranges != ranges[:1]).any():
        amperes = np.array(_settled(amperes.tolist(), ranges.tolist()))
    return Samples(amperes, lost)


_AFTER = 3
"""Samples that are replaced after a change of range."""

_SHARE, _SHARE_HIGHEST = 0.18, 0.06
"""What a sample adds to the running averages: the one that stands in for lower ranges, and for the highest."""


@dataclass
class _Averages:
    usual: float
    highest: float = field(init=False)

    def __post_init__(self) -> None:
        self.highest = self.usual

    def take(self, ampere: float) -> None:
        self.usual += _SHARE * (ampere - self.usual)
        self.highest += _SHARE_HIGHEST * (ampere - self.highest)


def _settled(amperes: Sequence[float], ranges: Sequence[int]) -> list[float]:
    """The first two samples in the highest range, where it overshoots most, don't even enter the averages."""
    averages, settled = _Averages(amperes[0]), []
    since, before = _AFTER, ranges[0]
    for ampere, at in zip(amperes, ranges, strict=True):
        since = 0 if at != before else since + 1
        before = at
        if since >= _AFTER:
            averages.take(ampere)
            settled.append(ampere)
            continue
        if at != _RANGES - 1 or since >= 2:
            averages.take(ampere)
        settled.append(averages.highest if at == _RANGES - 1 else averages.usual)
    return settled


def _options(options: str) -> tuple[str, float, str]:
    expected = "ppk2:source=VOLTS where it feeds the board, ppk2:ampere=VOLTS where the board has its own supply"
    said = [part.partition("=") for part in options.split(",")]
    named = {name.strip(): value.strip() for name, _, value in said}
    modes = [name for name in named if name in _MODES]
    if len(modes) != 1 or len(named) != len(said) or set(named) - {*_MODES, "port"}:
        raise InputError(f"energy meter ppk2:{options}: expected {expected}, and perhaps ,port=PORT")
    try:
        volts = float(named[modes[0]])
    except ValueError:
        volts = float("nan")
    if not 0.8 <= volts <= 5.0:
        raise InputError(f"energy meter ppk2:{options}: {named[modes[0]] or 'no'} volts, expected 0.8 to 5.0")
    return modes[0], volts, named.get("port", "")


def _plugged_in(ports: Sequence[Any]) -> list[str]:
    """Ports of the only PPK2 there is: newer ones have two, of which one answers."""
    found = [port for port in ports if (port.vid, port.pid) == _USB or port.product == "PPK2"]
    if not found:
        others = ", ".join(port.device for port in ports) or "none"
        raise InputError(
            f"PPK2: not found; serial ports here: {others}. Plug its USB DATA/POWER socket in and switch it on, or "
            "name its port: ppk2:source=VOLTS,port=PORT"
        )
    if len({port.serial_number for port in found}) > 1:
        several = ", ".join(f"{port.device} ({port.serial_number})" for port in found)
        raise InputError(f"PPK2: several are plugged in: {several}; say which: ppk2:source=VOLTS,port=PORT")
    return [port.device for port in found]
