"""Native libraries that talk to the user past us."""

from __future__ import annotations

import contextlib
import io
import os
import sys
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


@contextlib.contextmanager
def only_python_on_stderr() -> Iterator[None]:
    """The same for as long as one likes: what Python writes to sys.stderr arrives.

    PortAudio and ALSA speak whenever a device comes or goes, from any thread.
    """
    if not isinstance(sys.stderr, io.TextIOWrapper) or sys.stderr.fileno() != 2:
        yield  # somebody else's, in whose way we must not be
        return
    sys.stderr.flush()
    with os.fdopen(os.dup(2), "w", buffering=1, errors=sys.stderr.errors) as own:
        with contextlib.redirect_stderr(own), native_stderr():
            yield
