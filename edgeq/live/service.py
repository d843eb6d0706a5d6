"""What systemd is told of a service that listens: that it hears, that it still does, and how it goes.

Source: sd_notify(3): datagrams of lines NAME=value, to the socket that NOTIFY_SOCKET names.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping

import numpy as np

from edgeq.live.lines import summary
from edgeq.live.listener import Update
from edgeq.live.run import State

_STATUS_SECONDS = 5.0


def asked(environment: Mapping[str, str] = os.environ) -> Service | None:
    """Who tells systemd; None where this is no service of its type notify."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return None
    microseconds = environment.get("WATCHDOG_USEC", "")
    patience = int(microseconds) / 1e6 if microseconds.isdecimal() else 4 * _STATUS_SECONDS
    return Service(address.replace("@", "\0", 1) if address[0] == "@" else address, min(_STATUS_SECONDS, patience / 4))


class Service:
    """A view that tells systemd: READY with the first sound, and then every so many seconds WATCHDOG and STATUS.

    Of the watchdog only while sound comes: a sound system that hangs is mended by a new process alone.
    """

    def __init__(self, address: str, seconds: float) -> None:
        self._address, self._seconds = address, seconds
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._told, self._heard = -seconds, 0.0

    def hear(self, frames: np.ndarray, state: State) -> None:
        pass

    def update(self, update: Update, state: State) -> None:
        pass

    def refresh(self, state: State) -> None:
        now = time.monotonic()
        if state.seconds == self._heard or now - self._told < self._seconds:
            return
        ready = "" if self._heard else "READY=1\n"
        self._told, self._heard = now, state.seconds
        with contextlib.suppress(OSError):  # told again in a moment
            self._socket.sendto(f"{ready}WATCHDOG=1\nSTATUS={summary(state, live=True)}".encode(), self._address)

    def say(self, words: str) -> None:
        """Nothing: what is said is in the journal."""
