"""A Power Profiler Kit II at the other end of a pseudo-terminal, which speaks its protocol."""

from __future__ import annotations

import contextlib
import os
import select
import struct
import threading
import tty
from collections.abc import Iterable, Iterator

METADATA = """Calibrated: 0
R0: 1000.0000
R1: 100.0000
R2: 10.0000
R3: 1.0000
R4: 0.0500
GS0: 0.0000
GI2: 1.5000
O2: 400.0000
S2: 0.0001
I2: 0.0002
UG2: 2.0000
S4: -nan
HW: 9173
mode: 2
vdd: 3000
IA: 56
END
"""


def word(code: int, at: int, counter: int, inputs: int = 0) -> int:
    """A sample: 14 bits of the converter, 3 of the range, 6 of the counter, a bit that is not used, 8 of inputs."""
    return code | at << 14 | (counter & 0x3F) << 18 | inputs << 24


class Device:
    """Answers in a thread of its own until it is unplugged. Sends `samples`, from a start to their end or a stop."""

    def __init__(self, samples: Iterable[int] = (), metadata: str = METADATA) -> None:
        self._host, self._device = os.openpty()
        tty.setraw(self._device)
        self.port = os.ttyname(self._device)
        self.commands: list[bytes] = []
        self.sent_all = threading.Event()
        self._samples, self._metadata = list(samples), metadata
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._answer)
        self._thread.start()

    def unplug(self) -> None:
        self._ending.set()
        self._thread.join()
        for end in (self._host, self._device):
            with contextlib.suppress(OSError):
                os.close(end)

    def _answer(self) -> None:
        lengths = {0x11: 2, 0x0D: 3, 0x0C: 2}
        waiting: bytes = b""
        rest: bytes = b""
        while not self._ending.is_set():
            if select.select([self._host], [], [], 0.002)[0]:
                waiting += os.read(self._host, 64)
            while waiting and len(waiting) >= (length := lengths.get(waiting[0], 1)):
                command, waiting = waiting[:length], waiting[length:]
                self.commands.append(command)
                if command == b"\x19":
                    os.write(self._host, self._metadata.encode())
                elif command == b"\x06":
                    rest = b"".join(struct.pack("<I", sample) for sample in self._samples)
                    self.sent_all.clear()
                elif command == b"\x07":
                    rest = b""
            # An odd number of bytes: what the host reads ends in the middle of a sample.
            if rest and select.select([], [self._host], [], 0)[1]:
                rest = rest[os.write(self._host, rest[:1021]) :]
                if not rest:
                    self.sent_all.set()


@contextlib.contextmanager
def plugged_in(samples: Iterable[int] = (), metadata: str = METADATA) -> Iterator[Device]:
    device = Device(samples, metadata)
    try:
        yield device
    finally:
        device.unplug()
