"""The two ways edgeq says no: the input is wrong, or a check did not pass."""


class InputError(ValueError):
    """Bad usage or bad input: names the thing, what was found, what was expected and the mend. Exit code 2."""


class CheckFailed(Exception):
    """A check ran to its end and failed (parity gate, budget). Exit code 1."""
