"""The two ways edgeq says no: the input is wrong, or a check did not pass."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


class InputError(ValueError):
    """Bad usage or bad input: names the thing, what was found, what was expected and the mend. Exit code 2."""


class CheckFailed(Exception):
    """A check ran to its end and failed (parity gate, budget). Exit code 1."""


@contextlib.contextmanager
def naming(place: Path | str) -> Iterator[None]:
    """Let an InputError from inside begin with the file it is about, where it does not yet."""
    try:
        yield
    except InputError as error:
        if str(error).startswith(f"{place}:"):
            raise
        raise InputError(f"{place}: {error}") from error
