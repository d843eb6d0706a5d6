"""Addresses of other machines: `ssh://[user@]host[:port][/environment]`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgeq.errors import InputError

SCHEME = "ssh://"

_ADDRESS = re.compile(
    r"ssh://(?:(?P<user>\w[\w.+-]*)@)?(?P<host>\w[\w.-]*|\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<environment>/~?[\w./+-]*)?",
    re.ASCII,
)


@dataclass(frozen=True)
class Address:
    """Where a worker runs: `ssh://[user@]host[:port][/environment]`.

    host: a name, an address, or an alias of ~/.ssh/config. environment: the folder of a Python environment there, from
    the root, or from one's home as in `ssh://host/~/venv`; without one `python3` runs.
    """

    text: str
    host: str
    user: str | None = None
    port: int | None = None
    environment: str = ""

    @property
    def words(self) -> list[str]:
        """What ssh takes, port and all."""
        to = [self.host if self.user is None else f"{self.user}@{self.host}"]
        return to if self.port is None else ["-p", str(self.port), *to]

    def install(self, *names: str) -> str:
        """How to get packages there, as Debian's own Python takes none."""
        packages = " ".join(dict.fromkeys(("numpy", *names)))
        if self.environment:
            return f"run there: {self.python} -m pip install {packages}"
        place = f"{self.text.rstrip('/')}/~/edgeq"
        return f"run there: python3 -m venv ~/edgeq && ~/edgeq/bin/pip install {packages}, then give {place}"

    @property
    def python(self) -> str:
        """The command that starts Python there."""
        return f"{self.environment}/bin/python" if self.environment else "python3"


def address(text: str) -> Address:
    """Read the address of a machine. Raises InputError where it is none."""
    found = _ADDRESS.fullmatch(text)
    if found is None or not 0 < int(found["port"] or 22) < 1 << 16:
        raise InputError(
            f"{text}: expected ssh://[user@]host[:port], and behind that the folder of a Python environment there "
            "where python3 is not the one to run, as in ssh://host/~/venv; passwords are not taken: use a key"
        )
    environment = (found["environment"] or "").rstrip("/")
    environment = environment[1:] if environment.startswith("/~") else environment
    port = None if found["port"] is None else int(found["port"])
    return Address(text, found["host"].strip("[]"), found["user"], port, environment)
