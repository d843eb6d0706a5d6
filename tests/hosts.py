"""Hosts for tests, on this one machine: network namespaces with names and addresses of their own, joined by a switch.

Each is an interface eth0 with the address 10.77.0.N, a host name, a table of hosts, in which as on Debian its own name
is 127.0.1.1, and processes of its own, which all die with it. Nothing outside changes; files are the machine's.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent


class Host:
    """A machine of its own, as far as its network and its processes go."""

    def __init__(self, name: str, address: str, switch: str, table: Path) -> None:
        self.name, self.address, self.switch, self.table = name, address, switch, table
        self.start()

    def start(self) -> None:
        """Begin, or begin again after `die`."""
        kinds = ["--net", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        ready = f"hostname {self.name}; mount --bind {self.table} /etc/hosts; ip link set lo up; echo; exec sleep 1d"
        self._first = subprocess.Popen(["unshare", *kinds, "sh", "-ec", ready], stdout=subprocess.PIPE)
        assert self._first.stdout and self._first.stdout.readline(), "no host"
        self._pid = int(Path(f"/proc/{self._first.pid}/task/{self._first.pid}/children").read_text())
        cable = f"to-{self.name}"
        _call(
            "nsenter",
            "-n",
            "-t",
            self.switch,
            "ip",
            "link",
            "add",
            cable,
            "type",
            "veth",
            "peer",
            "eth0",
            "netns",
            str(self._pid),
        )
        _call("nsenter", "-n", "-t", self.switch, "ip", "link", "set", cable, "master", "bridge", "up")
        self.call("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        self.link("up")

    def link(self, state: str) -> None:
        """Bring its network up or down: down, nothing it is sent arrives, and nobody is told."""
        cable = f"to-{self.name}"
        if state == "up":
            self.call("ip", "link", "set", "eth0", "up")
        _call("nsenter", "-n", "-t", self.switch, "ip", "link", "set", cable, state)

    def die(self) -> None:
        """End all of its processes at once."""
        self._first.kill()
        self._first.wait()
        if self._first.stdout:
            self._first.stdout.close()

    def call(self, *command: str) -> None:
        _call(*self._inside(), *command)

    def begun(self, command: Sequence[object], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """A command there, as `begun`."""
        return begun([*self._inside(), "env", "-C", HERE.parent, *command], log, environment)

    def _inside(self) -> list[str]:
        return ["nsenter", "-n", "-u", "-m", "-p", "-t", str(self._pid)]


def begun(command: Sequence[object], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A command under way, all that it says in a file."""
    with log.open("ab") as handle:
        return subprocess.Popen(
            list(map(str, command)),
            stdout=handle,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            cwd=HERE.parent,
        )


def refused() -> str:
    """Why hosts cannot be made here; empty where they can."""
    try:
        with tempfile.TemporaryDirectory() as folder, hosts(1, Path(folder)):
            return ""
    except (OSError, AssertionError, subprocess.CalledProcessError) as error:
        return f"{error} (they take root, unshare, nsenter and ip)"


@contextlib.contextmanager
def hosts(count: int, folder: Path) -> Iterator[list[Host]]:
    """So many hosts, called host1, host2 and so on; they end with the block."""
    switch = subprocess.Popen(
        ["unshare", "--net", "sh", "-ec", "ip link add bridge type bridge; ip link set bridge up; echo; exec sleep 1d"],
        stdout=subprocess.PIPE,
    )
    assert switch.stdout and switch.stdout.readline(), "no switch"
    names = {f"host{number}": f"10.77.0.{number}" for number in range(1, count + 1)}
    made: list[Host] = []
    try:
        for name, address in names.items():
            table = folder / f"hosts-of-{name}"
            known = {**names, "localhost": "127.0.0.1", name: "127.0.1.1"}
            table.write_text("".join(f"{address} {name}\n" for name, address in known.items()))
            made.append(Host(name, address, str(switch.pid), table))
        yield made
    finally:
        for one in made:
            one.die()
        switch.kill()
        switch.wait()
        switch.stdout.close()


def _call(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
