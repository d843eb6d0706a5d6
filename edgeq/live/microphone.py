"""Microphones through PortAudio, at the rate of the device, reopened when it is lost."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import math
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgeq import quiet
from edgeq.errors import InputError
from edgeq.live.capture import IDLE_NAPS, NAP_SECONDS, Chunk, Ring

LISTING_SECONDS = 5.0
"""What a sound system may take to list its devices: it takes a tenth of one."""

START_SECONDS = 10.0
"""What a device may take to open, and then to give its first samples."""

LOST_SECONDS = 2.0
"""A device that gave samples and gives none for so long is lost."""

_RETRY_SECONDS = 1.0
_BLOCK_SECONDS = 0.02
_LOOK_SECONDS = 0.1
_MOST_HELD_SECONDS = 60.0
_OTHER_RATES = (48_000, 44_100, 32_000, 16_000)
_INVALID_RATE, _UNAVAILABLE = -9997, -9985  # PortAudio's numbers
_NEVER = (math.inf, math.inf)
_WITHOUT = "or do without it: arecord -f S16_LE -r 16000 -t raw | edgeq live MODEL --input - --rate 16000"

STANDING_STILL = (
    "the sound system does not answer within {seconds:g} s; restart its server (systemctl --user restart pipewire "
    f"pipewire-pulse, or pulseaudio --kill), {_WITHOUT}"
)


@dataclass(frozen=True)
class Device:
    """An input that PortAudio knows. number and name choose it; rate: its own, in Hz."""

    number: int
    name: str
    channels: int
    rate: int
    default: bool

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return asdict(self)


def devices() -> list[Device]:
    """The inputs of this machine. Raises InputError where PortAudio is not installed."""
    portaudio = _portaudio()
    chosen = portaudio.default.device[0]
    return [
        Device(number, one["name"], one["max_input_channels"], round(one["default_samplerate"]), number == chosen)
        for number, one in enumerate(portaudio.query_devices())
        if one["max_input_channels"] > 0
    ]


def find(wanted: str | None) -> Device:
    """The input of that number, or the only one with that in its name; the default where it is None.

    Raises InputError where there is none, or PortAudio is not installed.
    """
    known = devices()
    if not known:
        raise InputError(f"PortAudio finds no input; plug one in, check its permissions, {_WITHOUT}")
    if wanted is None:
        return next((one for one in known if one.default), known[0])
    exact = [one for one in known if wanted in (str(one.number), one.name)]
    found = exact or [one for one in known if wanted.lower() in one.name.lower()]
    if len(found) == 1:
        return found[0]
    listed = "; ".join(f"{one.number} {one.name}" for one in found or known)
    raise InputError(f"device {wanted!r}: {'several have it in their name' if found else 'no such input'}: {listed}")


class Microphone:
    """An input that is open; iterate over its chunks.

    All calls of PortAudio are made by a thread of their own, since any may hang when a device is gone: who iterates is
    never held up. The callback mixes and copies into a ring and does nothing else. PortAudio says neither that samples
    were lost nor that a device stands still, so both are told by the clock: see `Lag` and LOST_SECONDS. A lost device
    is opened again, by its name or as the default, until it is back.

    device: as `find` takes it. say: told in words what happens to the device.
    Raises InputError where it cannot be opened or gives no samples.
    """

    def __init__(self, device: str | None, say: Callable[[str], None]) -> None:
        self.device: Device
        self._asked = device
        self._say = say
        self._words: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._started: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._ring: Ring | None = None
        self._keeper = threading.Thread(target=self._keep, name="microphone", daemon=True)
        self._keeper.start()
        for seconds in (LISTING_SECONDS, 2 * START_SECONDS):  # to find the device, and to open it
            try:
                failure = self._started.get(timeout=seconds)
            except queue.Empty:
                self.close()
                raise InputError(STANDING_STILL.format(seconds=seconds)) from None
            if failure is not None:
                raise failure

    def __iter__(self) -> Iterator[Chunk]:
        """Chunks as they come, without samples in them now and then."""
        ring, lag, last, naps = None, None, 0.0, 0
        while not self._stopping.is_set():
            while not self._words.empty():
                self._say(self._words.get())
            current = self._ring
            assert current is not None
            if not current.waiting:
                naps += 1
                if naps % IDLE_NAPS == 0:
                    yield current.read()
                time.sleep(NAP_SECONDS)
                continue
            chunk = current.read()
            assert chunk.heard is not None
            missing = chunk.missing
            if current is not ring:
                # A device that was opened again: what was between is missing, by the clock.
                before = chunk.heard - len(chunk.samples) / chunk.rate
                missing += max(1, round((before - last) * chunk.rate)) if ring is not None else 0
                ring, lag = current, Lag(chunk.rate)
            assert lag is not None
            missing += lag.lost(*current.arrived)
            last = chunk.heard
            yield Chunk(chunk.samples, chunk.rate, chunk.heard, missing)

    def __enter__(self) -> Microphone:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the device, or of a PortAudio that hangs."""
        self._stopping.set()
        self._keeper.join(timeout=LOST_SECONDS)
        if self._keeper.is_alive() and (handler := getattr(sys.modules.get("sounddevice"), "_exit_handler", None)):
            atexit.unregister(handler)  # it would hang again where Python ends and sounddevice closes PortAudio

    def _keep(self) -> None:
        """Open the device, watch it, and open it again when it is lost."""
        try:
            self.device = find(self._asked)
            self._started.put(None)
            stream = _Stream(self.device)
            stream.wait()
        except Exception as failure:  # told to who opened it
            self._started.put(failure)
            return
        self._ring = stream.ring
        self._started.put(None)
        while not self._stopping.wait(_LOOK_SECONDS / 2):
            if not stream.lost():
                continue
            self._words.put(f"{self.device.name}: gone, or stands still; trying to open it again")
            stream.close()
            reopened = self._reopened()
            if reopened is None:
                return
            stream = reopened
            self._ring = stream.ring
            self._words.put(f"{self.device.name}: back, at {self.device.rate:,} Hz")
        stream.close()

    def _reopened(self) -> _Stream | None:
        """The device once it is back; None where nobody waits for it any more."""
        while not self._stopping.is_set():
            try:
                portaudio = _portaudio()
                # There is no public way to have devices looked for again. One that failed to begin cannot be ended.
                with contextlib.suppress(portaudio.PortAudioError):
                    portaudio._terminate()
                portaudio._initialize()
                self.device = _again(self.device, self._asked)
                stream = _Stream(self.device)
                stream.wait()
                return stream
            except Exception:  # not back yet, whatever PortAudio says to it
                self._stopping.wait(_RETRY_SECONDS)
        return None


class Lag:
    """Samples that a device lost, by the clock: PortAudio's flags say nothing of them.

    Late samples come later; lost ones never. So the least lag of the samples behind the clock, in a period longer than
    a device may be late, grows when some are lost. Below 0.1 s in a period it is a device's clock, which is never
    quite ours. On a computer too busy to fetch them samples may be late for many periods: the driver holds them and
    says for how long, so the lag less that must have grown as well.
    """

    _PERIOD_SECONDS = 2 * LOST_SECONDS
    _LEAST_SECONDS = 0.1

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._begun: float | None = None
        self._until = 0.0
        self._before: tuple[float, float] | None = None
        self._least = _NEVER

    def lost(self, heard: float, captured: int, held: float = 0.0) -> int:
        """Samples lost that are noticed now.

        heard: when the last of the `captured` samples came, in seconds. held: how long the driver had it, 0 where that
        is not known.
        """
        if self._begun is None:
            self._begun, self._until = heard, heard + self._PERIOD_SECONDS
        lag = heard - self._begun - captured / self._rate
        self._least = min(self._least[0], lag), min(self._least[1], lag - held)
        if heard < self._until:
            return 0
        before, self._before = self._before or self._least, self._least
        self._least, self._until = _NEVER, heard + self._PERIOD_SECONDS
        grown = min(now - then for now, then in zip(self._before, before, strict=True))
        return round(grown * self._rate) if grown >= self._LEAST_SECONDS else 0


class _Stream:
    """One opening of a device, at its own rate or at one that it takes. Raises InputError where it takes none."""

    def __init__(self, device: Device) -> None:
        self._finished = False
        portaudio = _portaudio()
        refused: list[int] = []
        for rate in dict.fromkeys((device.rate, *_OTHER_RATES)):
            self.ring = Ring(rate)
            self._seen, self._still, self._looked = 0, 0.0, time.monotonic()
            try:
                self._stream = portaudio.InputStream(
                    device=device.number,
                    channels=min(2, device.channels),
                    samplerate=rate,
                    blocksize=round(_BLOCK_SECONDS * rate),
                    dtype="float32",
                    callback=self._take,
                    finished_callback=self._finish,
                )
                self._stream.start()
                return
            except portaudio.PortAudioError as error:
                if (error.args[1:2] or (None,))[0] != _INVALID_RATE:
                    raise _unusable(device, error) from error
                refused.append(rate)
        listed = ", ".join(f"{rate:,}" for rate in refused)
        raise InputError(f"{device.name}: refuses {listed} Hz; choose another with --device, {_WITHOUT}")

    def lost(self) -> bool:
        """Whether the stream ended by itself, or gave nothing for too long; asked again and again.

        Only time in which somebody looked counts: where the whole process had to stop, the samples are still to come.
        """
        came, now = self.ring.written + self.ring.refused, time.monotonic()
        self._still = 0.0 if came != self._seen else self._still + min(now - self._looked, _LOOK_SECONDS)
        self._seen, self._looked = came, now
        return self._finished or self._still > LOST_SECONDS

    def wait(self) -> None:
        """Wait for the first samples. Raises InputError where none come."""
        until = time.monotonic() + START_SECONDS
        while not self.ring.written:
            if self._finished or time.monotonic() > until:
                self.close()
                raise InputError("the microphone is open but gives no samples; choose another with --device")
            time.sleep(NAP_SECONDS)

    def close(self) -> None:
        """End it: by abort, since stop waits for a device that may be gone."""
        with contextlib.suppress(Exception):
            self._stream.abort()
            self._stream.close()

    def _take(self, frames: np.ndarray, _count: int, times: Any, _flags: object) -> None:
        self.ring.write(frames, _held(times))

    def _finish(self) -> None:
        self._finished = True


def _held(times: Any) -> float:
    """Seconds from the capture of a block's first sample to its callback, as PortAudio has it; 0 where it has not."""
    held = float(times.currentTime - times.inputBufferAdcTime)
    return held if times.inputBufferAdcTime > 0 and 0 <= held < _MOST_HELD_SECONDS else 0.0


def _again(device: Device, asked: str | None) -> Device:
    """A device that was lost, by its name and of several with that name the one of its number; else the default.

    Raises InputError where it is not there.
    """
    if asked is None:
        return find(None)
    named = [one for one in devices() if one.name == device.name]
    return next((one for one in named if one.number == device.number), named[0] if named else find(device.name))


def _unusable(device: Device, error: Exception) -> InputError:
    if (error.args[1:2] or (None,))[0] == _UNAVAILABLE:
        return InputError(f"{device.name}: busy, another program holds it; end that, or choose another with --device")
    reason = " ".join(str(error.args[0]).split())
    return InputError(f"{device.name}: cannot be opened ({reason}); choose another with --device, {_WITHOUT}")


def _portaudio() -> Any:
    """The package sounddevice, imported when it is needed. Raises InputError where PortAudio is not installed."""
    if "sounddevice" in sys.modules:
        return sys.modules["sounddevice"]
    try:
        with quiet.native_stderr():
            return importlib.import_module("sounddevice")
    except ModuleNotFoundError:
        raise InputError(f"sounddevice is not installed; run: pip install sounddevice; {_WITHOUT}") from None
    except OSError:
        raise InputError(
            "PortAudio is not installed; run: sudo apt install libportaudio2 (Fedora: sudo dnf install portaudio), "
            f"{_WITHOUT}"
        ) from None
