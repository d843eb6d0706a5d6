"""Reading ahead: what is wanted next is made in threads, in order, a bounded number before it is asked for."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

READERS = min(8, os.cpu_count() or 1)
"""Threads that read, decode and compute log-mel: NumPy and libsndfile let others work meanwhile."""

AHEAD = 2
"""Things that each reader may be ahead of who asks."""

T = TypeVar("T")
R = TypeVar("R")


def ahead(make: Callable[[T], R], things: Iterable[T], readers: int = READERS) -> Generator[R, None, None]:
    """`make` of each thing, in their order; at most readers * AHEAD are made or under way and not yet asked for.

    Whoever asks closes the generator when done, before its end or not: threads end with it. Raises what `make` does.
    """
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(readers, "edgeq-reader") as pool:
        try:
            for thing in things:
                waiting.append(pool.submit(make, thing))
                if len(waiting) >= readers * AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
