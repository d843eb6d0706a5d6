"""Native libraries that talk to the user past us."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def native_stderr() -> Iterator[None]:
    """Keep what native code writes to stderr off the user's screen.

    LiteRT (which delegate it made, why it failed) and libsndfile's MP3 decoder have no switch for it; what matters
    comes as an exception. The descriptor belongs to the process: hold it for as short as possible.
    """
    try:
        kept = os.dup(2)
    except OSError:  # no stderr to keep clean
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
