"""Messages from one who never waits to several who may be slow, late or gone."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Broadcast:
    """Messages for all who joined; safe to use from several threads.

    Who joins gets what went before: the greeting, the lasting messages, the recent ones. Who is more than `queue`
    messages behind skips to that again, so that nobody holds up the sender, nor ever more than so many of them.
    recent, lasting: how many of each are kept. The queue is longer than both together: who takes the beginning slowly
    is not sent back to it for that alone.
    """

    def __init__(self, recent: int = 600, lasting: int = 100, queue: int = 800) -> None:
        self.skipped = 0
        """Messages that somebody was too slow for."""
        self._change = threading.Condition()
        self._greeting = b""
        self._recent: deque[bytes] = deque(maxlen=recent)
        self._lasting: deque[bytes] = deque(maxlen=lasting)
        self._queue = queue
        self._receivers: list[Receiver] = []
        self._closed = False

    def __len__(self) -> int:
        """How many have joined."""
        return len(self._receivers)

    def greet(self, greeting: bytes) -> None:
        """Say what everybody begins with, from now on."""
        with self._change:
            self._greeting = greeting
            for receiver in self._receivers:
                receiver.skip()
            self._change.notify_all()

    def send(self, message: bytes, lasting: bool = False) -> None:
        """Give a message to all, and keep it for who comes later, with the recent or with the lasting ones."""
        with self._change:
            (self._lasting if lasting else self._recent).append(message)
            for receiver in self._receivers:
                if len(receiver.waiting) == self._queue:
                    self.skipped += receiver.skip()
                receiver.waiting.append(message)
            self._change.notify_all()

    @contextmanager
    def joined(self) -> Iterator[Receiver]:
        """Be somebody who is sent all, within the block."""
        receiver = Receiver()
        with self._change:
            self._receivers.append(receiver)
        try:
            yield receiver
        finally:
            with self._change:
                self._receivers.remove(receiver)
                self._change.notify_all()

    def take(self, receiver: Receiver, patience_seconds: float) -> bytes | None:
        """What waits for somebody, as soon as it does: b"" where nothing came, None where nothing will."""
        with self._change:
            self._change.wait_for(
                lambda: self._closed or receiver.waiting or (receiver.behind and self._greeting), patience_seconds
            )
            if receiver.behind and self._greeting:
                receiver.behind = False
                receiver.waiting = deque([self._greeting, *self._lasting, *self._recent])
            taken = b"".join(receiver.waiting)
            receiver.waiting.clear()
            return taken if taken or not self._closed else None

    def close(self, farewell: bytes, patience_seconds: float) -> None:
        """Send the last message, and wait, but not for long, until everybody has it and left."""
        self.send(farewell)
        with self._change:
            self._closed = True
            self._change.notify_all()
            self._change.wait_for(lambda: not self._receivers, patience_seconds)


class Receiver:
    """Somebody's messages that wait. behind: whether what went before is to come first."""

    def __init__(self) -> None:
        self.waiting: deque[bytes] = deque()
        self.behind = True

    def skip(self) -> int:
        """Begin anew. Returns how many messages are passed over."""
        count = len(self.waiting)
        self.waiting.clear()
        self.behind = True
        return count
