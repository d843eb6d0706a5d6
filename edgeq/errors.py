"""The two ways edgeq says no: the input is wrong, or a check did not pass."""

from __future__ import annotations

from pathlib import Path


class InputError(ValueError):
    """Bad usage or bad input: names the thing, what was found, what was expected and the mend. Exit code 2."""


class CheckFailed(Exception):
    """A check ran to its end and failed (parity gate, budget). Exit code 1."""


def naming(place: Path | str, error: InputError) -> InputError:
    """The same error, beginning with the file it is about where it does not name it yet."""
    message = str(error)
    return error if message.startswith(f"{place}:") else InputError(f"{place}: {message}")
