"""Something done again and again beside what is measured."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Repeating:
    """Does an action every so many seconds in a thread of its own, from its making until `stop`."""

    def __init__(self, action: Callable[[], None], seconds: float) -> None:
        """Start. seconds: from the end of one action to the beginning of the next; the first waits as long."""
        self._action, self._seconds = action, seconds
        self._stopping = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Return once no action runs any more. Raises what an action raised; after that none was done."""
        self._stopping.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            while not self._stopping.wait(self._seconds):
                self._action()
        except Exception as failure:  # belongs to whoever stops the thread
            self._failure = failure
