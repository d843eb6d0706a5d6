"""Processes that train together, one a GPU or a core, on one machine or many: `torchrun -m edgeq train` starts them.

Gloo joins them on processors, NCCL on GPUs. Each holds the whole network; only the first one writes and shows.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed
from torch.distributed.rendezvous import rendezvous

from edgeq.errors import InputError

PATIENCE = timedelta(minutes=10)
"""How long a process waits for the others within a step; one that died is noticed at once where the system tells."""

LONG = timedelta(days=7)
"""How long the others wait while the first one works alone: reading a corpus may take hours."""

SOON = timedelta(seconds=2)
"""How long a process waits to hear whether the first one has met the same error."""

SHARE_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"


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
        with _told(self):
            distributed.all_reduce(flat)
        for tensor, summed in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(summed.view_as(tensor))

    def gather_rows(self, make: Callable[[], Tensor]) -> Tensor:
        """The rows that all processes make, each its own, end to end: those of the first one come first.

        make: float32 (n, columns) on the processor, n from 0 and of each process its own. All of them make theirs at
        once and get them all. Raises InputError in every process where making does in one, and as `sum_up`.
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

    def check_same(self, what: str, digest: str, described: str) -> None:
        """Raises InputError, in every process, where they do not all have the same digest of something."""
        if self.count == 1:
            return
        found = [json.loads(one) for one in self._exchange(json.dumps([digest, described, socket.gethostname()]))]
        for rank, (its, its_described, host) in enumerate(found):
            if its != found[0][0]:
                raise InputError(
                    f"process {rank} on {host} has other {what} than process 0 on {found[0][2]} ({its_described}; "
                    f"{found[0][1]}): expected the same in every process; give each the same recipe, folder and "
                    "version of edgeq"
                )

    def from_main(self, make: Callable[[], Any]) -> Any:
        """What the first process makes, alone, while the others wait for it: a value that JSON holds."""
        if self.count == 1:
            return make()
        key = _key()
        if self.main:
            value = make()
            _store().set(key, json.dumps(value))
            return value
        return json.loads(_awaited(self, key))

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """The block is run by the first process, then by the others: what it keeps on disk they find there."""
        if self.count == 1:
            yield
            return
        key = _key()
        if not self.main:
            _awaited(self, key)
        yield
        if self.main:
            _store().set(key, "")

    def _gathered(self, rows: Tensor, counts: Sequence[int]) -> list[Tensor]:
        """The rows of every process, of which each has so many; columns are the same in all."""
        device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        own = rows.new_zeros(max(counts), rows.shape[1], device=device)
        own[: len(rows)] = rows
        found = [torch.empty_like(own) for _ in counts]
        with _told(self):
            distributed.all_gather(found, own)
            return [one[:count].cpu() for one, count in zip(found, counts, strict=True)]

    def _exchange(self, text: str) -> list[str]:
        key = _key()
        _store().set(f"{key}/{self.rank}", text)
        return [_awaited(self, f"{key}/{rank}").decode() for rank in range(self.count)]


def current() -> Processes:
    """Those that joined; where none did, this one alone."""
    if not _joined:
        return Processes()
    return Processes(distributed.get_rank(), distributed.get_world_size())


@contextlib.contextmanager
def joined() -> Iterator[Processes]:
    """Inside this, the processes that torchrun started are joined; without torchrun, it is this one alone.

    Each takes the GPU of its local rank, where there are GPUs. An InputError that all of them meet leaves the block in
    the first one alone, so that it is told once; the others end by SystemExit. Raises InputError where they cannot find
    each other, or torchrun is to restart them on several machines and was not told to make a new meeting point each
    time.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield Processes()
        return
    environment = os.environ
    one_machine = environment["LOCAL_WORLD_SIZE"] == environment["WORLD_SIZE"]
    restarts = int(environment.get("TORCHELASTIC_MAX_RESTARTS", "0"))
    if restarts and not one_machine and environment.get(SHARE_STORE) != "1":
        raise InputError(f"torchrun --max-restarts on several machines: set {SHARE_STORE}=1 where torchrun starts")
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(environment["LOCAL_RANK"]) % torch.cuda.device_count())
    try:
        store, rank, count = next(iter(rendezvous("env://", timeout=PATIENCE)))
        # Processes started again must not read the addresses of those that died. Agents of several machines may count
        # restarts differently: there the variable above has torchrun make a new store.
        attempt = environment["TORCHELASTIC_RESTART_COUNT"] if one_machine else "0"
        store = distributed.PrefixStore(f"edgeq {attempt}", store)
        distributed.init_process_group(
            "nccl" if cuda else "gloo", store=store, rank=rank, world_size=count, timeout=PATIENCE
        )
    except (RuntimeError, TimeoutError) as error:
        raise InputError(
            f"processes of torchrun cannot find each other ({_first_line(error)}); start it again"
        ) from error
    _joined.append(store)
    try:
        yield Processes(rank, count)
    except InputError as error:
        if _main_says(rank, str(error)):
            raise SystemExit(2) from error
        raise
    finally:
        _joined.clear()
    # Not where the block failed: NCCL would wait for those that are gone.
    distributed.destroy_process_group()


# As torch.distributed's own group, there is one a process: where it exists, its store stands here.
_joined: list[distributed.Store] = []
_numbers = itertools.count()


def _main_says(rank: int, wrong: str) -> bool:
    """Whether the first process, which is not this one, tells the user the same."""
    with contextlib.suppress(RuntimeError):  # it may be gone, or have met nothing
        if not rank:
            _store().set("wrong", wrong)
            return False
        _store().wait(["wrong"], SOON)
        return bool(_store().get("wrong").decode() == wrong)
    return False


def _store() -> distributed.Store:
    return distributed.PrefixStore("values", _joined[0])


def _key() -> str:
    """The same in every process, since all of them run the same program."""
    return str(next(_numbers))


def _awaited(who: Processes, key: str) -> bytes:
    store = _store()
    with _told(who):
        store.wait([key], LONG)
        return bytes(store.get(key))


@contextlib.contextmanager
def _told(who: Processes) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise InputError(
            f"process {who.rank} of {who.count} lost the others ({_first_line(error)}): the cause is told by the one "
            "that failed first; the same command goes on from the last checkpoint"
        ) from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200]
