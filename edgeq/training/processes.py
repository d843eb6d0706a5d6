"""Processes that train together, one a GPU or a core, on one machine or many: `torchrun -m edgeq train` starts them.

Gloo joins what is on processors, NCCL what is on GPUs. Each holds the whole network; the first one writes and shows.

On one machine, N being a number that divides the recipe's parts:

    torchrun --standalone --nproc-per-node N -m edgeq train RECIPE --data DIR -o OUT

On several, this on each of them, at about the same time; FIRST is the name or address of one of them, by which all of
them reach it:

    export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
    torchrun --nnodes 2 --nproc-per-node N --max-restarts 3 --rdzv-backend c10d --rdzv-endpoint FIRST:29400 \\
      --rdzv-id NAME -m edgeq train RECIPE --data DIR -o OUT

The folder of OUT is one that they share. DIR may be a copy on each; recipe, recordings and the versions of edgeq and
torch are compared before the first step. Without --max-restarts a process that dies ends the job everywhere. With it
torchrun starts all of them again, from the last checkpoint, where as many machines are there as --nnodes says: it waits
ten minutes for one that is gone (--rdzv-conf join_timeout=SECONDS), on which the same command then joins again.
--nnodes 1:2 goes on with one, as long as the processes that are left divide the parts. The machine that is FIRST has to
stay; the others cannot meet without it, and end. Who is told what, where: an error once on each machine, on stderr and
in torchrun's table at the end; progress on the machine of process 0.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import json
import math
import os
import re
import select
import signal
import socket
import struct
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed
from torch.distributed.rendezvous import rendezvous

from edgeq.errors import InputError

PATIENCE = timedelta(minutes=10)
"""How long a process waits for the others within a step; one that died is noticed at once where the system tells."""

SILENCE = 120.0
"""Seconds without a sign of life after which a process is taken for gone, by whatever it is waited for."""

BEAT = 1.0
"""Seconds between a process's signs of life."""

LEAVING = 60.0
"""Seconds that the first process waits at the end until the others have left."""

SHARED_WITHIN = 30.0
"""Seconds that a file may take to be seen on another machine: network file systems keep what they know of a folder."""

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
        self._exchange("")
        until = time.monotonic() + SHARED_WITHIN
        while not (seen := (folder / name).exists()) and time.monotonic() < until:
            time.sleep(0.5)
        hosts = [json.loads(one) for one in self._exchange(json.dumps([seen, socket.gethostname()]))]
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
        _store().set(key, json.dumps([value, ""]))
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
        _store().set(key, json.dumps([None, ""]))

    def _gathered(self, rows: Tensor, counts: Sequence[int]) -> list[Tensor]:
        """The rows of every process, of which each has so many; columns are the same in all."""
        own = rows.new_zeros(max(counts), rows.shape[1])
        own[: len(rows)] = rows
        found = [torch.empty_like(own) for _ in counts]
        with _told(self):
            distributed.all_gather(found, own)
            return [one[:count] for one, count in zip(found, counts, strict=True)]

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

    Each takes the GPU of its local rank, where there are GPUs. What is wrong is told once a machine: an InputError
    leaves the block in the first process there that meets it, the others end by SystemExit. Where torchrun ends this
    process (SIGTERM), or another one shows no life, it says so and ends at once. Raises InputError where the processes
    cannot find each other or have other versions of edgeq or torch, or torchrun is to restart them on several machines
    and was not told to make a new meeting point each time.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield Processes()
        return
    together = Processes(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    try:
        _meet(together)
        with _attended(together):
            _join(together)
            yield together
        _part(together, _LEFT, LEAVING)
    except InputError as error:
        _part(together, _FAILED, 4 * BEAT)
        _into_table(str(error))
        if not _tells("lost" if isinstance(error, _Lost) else str(error)):
            raise SystemExit(2) from error
        raise
    finally:
        _joined.clear()
    # Not where the block failed: NCCL would wait for those that are gone.
    distributed.destroy_process_group()


# As torch.distributed's own group, there is one a process: where it exists, its store stands here.
_joined: list[distributed.Store] = []
_numbers = itertools.count()


class _Lost(InputError):
    """Another process is gone."""


def _meet(who: Processes) -> None:
    """Open the store in which processes leave each other word, and compare what they are."""
    environment = os.environ
    host, where, port = socket.gethostname(), environment["MASTER_ADDR"], environment["MASTER_PORT"]
    one_machine = environment["LOCAL_WORLD_SIZE"] == environment["WORLD_SIZE"]
    restarts = int(environment.get("TORCHELASTIC_MAX_RESTARTS", "0"))
    if restarts and not one_machine and environment.get(SHARE_STORE) != "1":
        raise InputError(
            f"torchrun --max-restarts on several machines: set {SHARE_STORE}=1 on each of them, where torchrun starts"
        )
    try:
        _resolved(where)  # which torch tries for as long as it waits
        store, *_ = next(iter(rendezvous("env://", timeout=PATIENCE)))
    except (RuntimeError, OSError) as error:
        raise InputError(
            f"{host} cannot reach {where}:{port}, where the processes of torchrun meet ({_cause(error)}); start all of "
            f"them again, each torchrun with --local-addr and the address by which the others reach its machine"
        ) from error
    # Processes started again must not read the addresses of those that died. Agents of several machines may count
    # restarts differently: there the variable above has torchrun make a new store.
    attempt = environment["TORCHELASTIC_RESTART_COUNT"] if one_machine else "0"
    _joined.append(distributed.PrefixStore(f"edgeq {attempt}", store))
    _store().set(f"host/{who.rank}", host)
    _store().set(f"beat/{who.rank}", "0")
    versions = f"edgeq {version('edgeq')}, torch {torch.__version__}"
    who.check_same("versions", versions, versions)


def _join(who: Processes) -> None:
    """Connect the processes for what they sum up."""
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    if os.environ["LOCAL_WORLD_SIZE"] != os.environ["WORLD_SIZE"]:
        _name_network(who)
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    try:
        distributed.init_process_group(backend, store=_joined[0], rank=who.rank, world_size=who.count, timeout=PATIENCE)
    except RuntimeError as error:
        which = "GLOO_SOCKET_IFNAME=eth0" + " NCCL_SOCKET_IFNAME=eth0" * cuda
        raise InputError(
            f"{socket.gethostname()} cannot reach the other processes of torchrun ({_cause(error)}); where torchrun "
            f"starts, name the network that all machines share: {which}, or as it is called there"
        ) from error


def _name_network(who: Processes) -> None:
    """Let gloo take the network by which machines reach each other, where the user names none.

    By itself it takes that of the machine's own name, which Debian's /etc/hosts says is 127.0.1.1.
    """
    own = _address_towards(os.environ["MASTER_ADDR"])
    others = [one for one in who._exchange(own) if one and not one.startswith("127.")]
    if others and own.startswith("127."):  # the machine that is called so
        own = _address_towards(others[0])
    for _, name in socket.if_nameindex():
        if others and _address_of(name) == own:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)


def _address_towards(host: str) -> str:
    """The IPv4 address from which this machine reaches another; empty where it has none."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        asked.connect((host, 9))  # nothing is sent
        return str(asked.getsockname()[0])
    return ""


def _address_of(interface: str) -> str:
    """The IPv4 address of a network interface (SIOCGIFADDR of Linux's netdevice(7)); empty where it has none."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        found = fcntl.ioctl(asked, 0x8915, struct.pack("256s", interface.encode()[:15]))
        return socket.inet_ntoa(found[20:24])
    return ""


def _resolved(host: str) -> None:
    for pause in (1, 3, 9):
        with contextlib.suppress(socket.gaierror):
            socket.getaddrinfo(host, None)
            return
        time.sleep(pause)
    socket.getaddrinfo(host, None)


_LEFT, _FAILED = "left", "failed"


def _part(who: Processes, sign: str, patience: float) -> None:
    """Leave: the first one last, as the others may still read from the store that it keeps."""
    if not _joined:
        return
    with contextlib.suppress(RuntimeError):  # somebody is gone: there is nothing to wait for
        store, until = _store(), time.monotonic() + patience
        store.set(f"beat/{who.rank}", sign)
        while who.main and time.monotonic() < until and set(_beats(store, who.count)) - {_LEFT, _FAILED}:
            time.sleep(0.02)


@contextlib.contextmanager
def _attended(who: Processes) -> Iterator[None]:
    """Inside this, this process shows that it lives, and ends where another does not or torchrun ends it.

    Torch waits in ways that neither a signal nor Python ends. So two threads look after this: one asks the store, which
    may keep it waiting, too; the other one never waits.
    """
    heard, signals = socket.socketpair()
    signals.setblocking(False)
    life = _Life(who)
    before = signal.signal(signal.SIGTERM, lambda number, frame: None), signal.set_wakeup_fd(signals.fileno())
    threads = [threading.Thread(target=life.show, daemon=True), threading.Thread(target=life.watch, args=(heard,))]
    for thread in threads:
        thread.start()
    try:
        yield
        signal.signal(signal.SIGTERM, before[0])
    finally:  # where the block failed, torchrun's SIGTERM is ignored from now on: what went wrong is still to be told
        signal.set_wakeup_fd(before[1])
        signals.close()
        life.left.set()
        for thread in threads:
            thread.join(BEAT)


class _Life:
    """What this process has heard of the others, and when."""

    def __init__(self, who: Processes) -> None:
        store: Any = _store()  # torch's types lack clone, which another thread needs
        self.who, self.store = who, store.clone()
        self.hosts = [one.decode() for one in self.store.multi_get([f"host/{rank}" for rank in range(who.count)])]
        self.since = [time.monotonic()] * who.count
        self.answered = time.monotonic()
        self.left = threading.Event()

    def show(self) -> None:
        """Say in the store, again and again, that this process lives, and look who else does."""
        seen = [""] * self.who.count
        while not self.left.wait(BEAT):
            try:
                self.store.set(f"beat/{self.who.rank}", str(time.monotonic()))
                beats = _beats(self.store, self.who.count)
            except RuntimeError:  # whoever needs the store next will tell
                self.answered, self.since = math.inf, [math.inf] * self.who.count
                return
            now = time.monotonic()
            pairs = zip(beats, seen, self.since, strict=True)
            self.since = [now if new != old or new == _LEFT else at for new, old, at in pairs]
            seen, self.answered = beats, now

    def watch(self, signals: socket.socket) -> None:
        """End this process on SIGTERM, or where nothing is heard any more."""
        looked = time.monotonic()
        while True:
            if select.select([signals], [], [], BEAT)[0]:
                told = signals.recv(64)
                if not told:
                    return
                if signal.SIGTERM in told:
                    _end(_losing[0] if _losing else "ended by torchrun, which says why, or by who ended that (SIGTERM)")
            before, looked = looked, time.monotonic()
            last = looked - SILENCE
            if looked - before > SILENCE / 4:  # this process stood still itself, as where a job is suspended
                self.answered, self.since = looked, [looked] * self.who.count
            elif self.answered < last:
                _end(f"no sign of life from {os.environ['MASTER_ADDR']}, where processes meet, for {SILENCE:.0f} s")
            elif silent := [rank for rank, at in enumerate(self.since) if at < last]:
                _end(f"no sign of life from {_named(self.hosts, silent)} for {SILENCE:.0f} s")


_losing: list[str] = []
"""That another process is lost, while this one finds out which."""


def _end(what: str) -> None:
    message = f"{what}; {_how_on()}"
    _into_table(message)
    if _tells("lost"):
        print(f"edgeq: {message}", file=sys.stderr, flush=True)
    os._exit(2)


def _beats(store: distributed.Store, count: int) -> list[str]:
    return [one.decode() for one in store.multi_get([f"beat/{rank}" for rank in range(count)])]


def _named(hosts: Sequence[str], ranks: Sequence[int]) -> str:
    on: dict[str, list[str]] = {}
    for rank in ranks:
        on.setdefault(hosts[rank], []).append(str(rank))
    return " and ".join(f"process{'es' * (len(of) > 1)} {', '.join(of)} on {host}" for host, of in on.items())


def _tells(what: str) -> bool:
    """Whether this process is the first one of its machine to tell this, since torchrun last started them."""
    own = os.environ.get("TORCHELASTIC_ERROR_FILE")  # ATTEMPT/RANK/error.json
    if own is not None:
        with contextlib.suppress(OSError):
            try:
                (Path(own).parents[1] / f"told-{hashlib.sha256(what.encode()).hexdigest()[:16]}").touch(exist_ok=False)
            except FileExistsError:
                return False
    return True


def _into_table(message: str) -> None:
    """Let the table in which torchrun sums up at the end have this."""
    own = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if own is not None:
        told = {"message": {"message": message, "extraInfo": {"timestamp": str(int(time.time()))}}}
        with contextlib.suppress(OSError):
            Path(own).write_text(json.dumps(told))


def _how_on() -> str:
    environment = os.environ
    if environment["TORCHELASTIC_RESTART_COUNT"] == environment.get("TORCHELASTIC_MAX_RESTARTS", "0"):
        return "the same command goes on from the last checkpoint"
    return "torchrun starts all of them again, or where it cannot the same command does, from the last checkpoint"


def _store() -> distributed.Store:
    return distributed.PrefixStore("values", _joined[0])


def _key() -> str:
    """The same in every process, since all of them run the same program."""
    return str(next(_numbers))


def _awaited(who: Processes, key: str) -> bytes:
    """What another process keeps there, whenever it does: reading a corpus may take hours."""
    store, pause = _store(), 0.01
    with _told(who):
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
        _store().set(key, json.dumps([None, str(error)]))
        raise


@contextlib.contextmanager
def _told(who: Processes) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if "Duplicate GPU" in str(error):  # as NCCL says it
            raise InputError(
                "two processes on one GPU, which NCCL does not join: expected one process a GPU; give torchrun "
                f'--nproc-per-node {torch.cuda.device_count()}, or the recipe [fit] device = "cpu"'
            ) from error
        _losing.append(f"lost another process ({_cause(error)})")
        raise _Lost(f"{_gone(who)} ({_cause(error)}); {_how_on()}") from error


def _gone(who: Processes) -> str:
    """Who shows no life any more, as far as can be told."""
    try:
        store = _store()
        before = _beats(store, who.count)
        time.sleep(4 * BEAT)
        pairs = enumerate(zip(before, _beats(store, who.count), strict=True))
        silent = [rank for rank, (old, new) in pairs if old == new != _LEFT and rank != who.rank]
        if silent:
            hosts = [store.get(f"host/{rank}").decode() for rank in range(who.count)]
            return f"lost {_named(hosts, silent)}: killed, failed as is said there, or out of reach"
    except RuntimeError:
        where = os.environ["MASTER_ADDR"]
        return f"lost {where}, where the processes meet: process 0 or its torchrun failed, or is out of reach"
    return "lost touch with another process, though all of them live"


def _cause(error: BaseException) -> str:
    """What torch says is wrong, without the place in its source and its guesses."""
    line = str(error).strip().partition("\n")[0]
    return re.sub(r"\[/[^\]]*\] ", "", line).partition(". ")[0][:200]
