"""What processes that train together exchange, and where each stands among them; `joining` tells how they meet."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

from edgeq.errors import InputError
from edgeq.training import life

SHARED_WITHIN = 30.0
"""Seconds that a file may take to be seen on another machine: network file systems keep what they know of a folder."""


unhurried: list[distributed.ProcessGroup] = []
"""The processes once more, as they wait for each other where work takes one longer; none where this one is alone."""


@dataclass(frozen=True)
class Processes:
    """The processes of this training: how many, and which of them this is, from 0."""

    rank: int = 0
    count: int = 1

    @property
    def main(self) -> bool:
        """Whether this is the one that writes and shows."""
        return self.rank == 0

    def share(self, parts: int) -> range:
        """Which of a batch's parts are this process's. Raises InputError where they cannot be shared evenly."""
        if parts % self.count:
            raise InputError(
                f"fit: parts = {parts}, {self.count} processes: each takes as many parts of a batch; give torchrun "
                f"a number of processes that divides parts, or the recipe parts = {self.count}"
            )
        each = parts // self.count
        return range(self.rank * each, (self.rank + 1) * each)

    def sum_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors, of one device and float32, by their sums over all processes: one exchange for all of them.

        Raises InputError where another process is gone.
        """
        if self.count == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with life.naming_lost(self):
            distributed.all_reduce(flat)
        for tensor, summed in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(summed.view_as(tensor))

    def gather_rows(self, make: Callable[[], Tensor]) -> Tensor:
        """The rows that all processes make, each its own, end to end: those of the first one come first.

        make: float32 (n, columns) on the processor, n from 0 and of each process its own. Each makes its own at
        once, waits for the slowest, and gets them all. Raises InputError in every process where making does in one, and
        as `sum_up`.
        """
        if self.count == 1:
            return make()
        rows, wrong = torch.zeros(0, 1), ""
        try:
            rows = make()
        except InputError as error:
            wrong = str(error)
        message = torch.tensor(list(wrong.encode()), dtype=torch.uint8)[:, None]
        told = self._gathered(torch.tensor([[len(message), len(rows)]]), [1] * self.count)
        lengths, counts = torch.cat(told).T.tolist()
        if any(lengths):
            first = next(one for one in self._gathered(message, lengths) if len(one))
            raise InputError(bytes(first.flatten().tolist()).decode())
        return torch.cat(self._gathered(rows, counts))

    def exchange(self, text: str) -> list[str]:
        """What each process says, in their order: each has to say something. Raises InputError as `sum_up`."""
        key = _key()
        life.store().set(f"{key}/{self.rank}", text)
        return [_awaited(self, f"{key}/{rank}").decode() for rank in range(self.count)]

    def check_same(self, what: str, digest: str, described: str) -> None:
        """Raises InputError, in every process, where they do not all have the same digest of something."""
        if self.count == 1:
            return
        found = [json.loads(one) for one in self.exchange(json.dumps([digest, described, socket.gethostname()]))]
        for rank, (its, its_described, host) in enumerate(found):
            if its != found[0][0]:
                both = f" ({its_described}; {found[0][1]})" if its_described != found[0][1] else ""
                raise InputError(
                    f"process {rank} on {host} has other {what} than process 0 on {found[0][2]}{both}: expected the "
                    "same in every process; give each the same recipe, folder and version of edgeq"
                )

    def check_shared(self, folder: Path) -> None:
        """Make a folder. Raises InputError, in every process, where one of them does not see what the first writes."""
        if self.count == 1:
            return
        name, place = self.from_main(lambda: [f".shared-{uuid.uuid4().hex}", str(folder)])
        if self.main:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        self.exchange("")
        until = time.monotonic() + SHARED_WITHIN
        while not (seen := (folder / name).exists()) and time.monotonic() < until:
            time.sleep(0.5)
        hosts = [json.loads(one) for one in self.exchange(json.dumps([seen, socket.gethostname()]))]
        if self.main:
            (folder / name).unlink(missing_ok=True)
        if blind := sorted({host for seen, host in hosts if not seen}):
            raise InputError(
                f"{place}: {', '.join(blind)} does not see there what {hosts[0][1]} wrote: expected one folder that "
                "all machines share; give -o a place on a shared file system, the same on each"
            )

    def from_main(self, make: Callable[[], Any]) -> Any:
        """What the first process makes, alone, while the others wait for it: a value that JSON holds.

        Raises InputError in every process where making does.
        """
        if self.count == 1:
            return make()
        key = _key()
        if not self.main:
            value, wrong = json.loads(_awaited(self, key))
            if wrong:
                raise InputError(wrong)
            return value
        with _failing_for_all(key):
            value = make()
        life.store().set(key, json.dumps([value, ""]))
        return value

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """The block is run by the first process, then by the others: what it keeps on disk they find there.

        Raises InputError in every process where the first one's block does.
        """
        if self.count == 1:
            yield
            return
        key = _key()
        if not self.main:
            _, wrong = json.loads(_awaited(self, key))
            if wrong:
                raise InputError(wrong)
            yield
            return
        with _failing_for_all(key):
            yield
        life.store().set(key, json.dumps([None, ""]))

    def _gathered(self, rows: Tensor, counts: Sequence[int]) -> list[Tensor]:
        """The rows of every process, of which each has so many; columns are the same in all."""
        own = rows.new_zeros(max(counts), rows.shape[1])
        own[: len(rows)] = rows
        found = [torch.empty_like(own) for _ in counts]
        with life.naming_lost(self):
            distributed.all_gather(found, own, unhurried[0])
            return [one[:count] for one, count in zip(found, counts, strict=True)]


def current() -> Processes:
    """Those that joined; where none did, this one alone."""
    if not life.meeting:
        return Processes()
    return Processes(distributed.get_rank(), distributed.get_world_size())


_numbers = itertools.count()


def _key() -> str:
    """The same in every process, since all of them run the same program."""
    return str(next(_numbers))


def _awaited(who: Processes, key: str) -> bytes:
    """What another process keeps there, whenever it does: reading a corpus may take hours."""
    store, pause = life.store(), 0.01
    with life.naming_lost(who):
        while not store.check([key]):
            time.sleep(pause)
            pause = min(2 * pause, 1.0)
        return bytes(store.get(key))


@contextlib.contextmanager
def _failing_for_all(key: str) -> Iterator[None]:
    """Let an InputError of the first process be met by those that wait for the key, too."""
    try:
        yield
    except InputError as error:
        life.store().set(key, json.dumps([None, str(error)]))
        raise
