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
import os
import socket
import struct
import time
from collections.abc import Iterator
from datetime import timedelta
from importlib.metadata import version

import torch
from torch import distributed
from torch.distributed.rendezvous import rendezvous

from edgeq.errors import InputError
from edgeq.training import life, processes
from edgeq.training.processes import Processes

PATIENCE = timedelta(minutes=10)
"""How long a process waits for the others within a step; one that died is noticed at once where the system tells."""

UNHURRIED = timedelta(days=30)
"""How long one waits that has done its share of the clips to score: until the others have, or show no life."""

LEAVING = 60.0
"""Seconds that the first process waits at the end until the others have left."""

SHARE_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"


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
        with life.attended(together):
            _join(together)
            yield together
        life.part(together, life.LEFT, LEAVING)
    except InputError as error:
        life.part(together, life.FAILED, 4 * life.BEAT)
        life.into_table(str(error))
        if not life.tells("lost" if isinstance(error, life.Lost) else str(error)):
            raise SystemExit(2) from error
        raise
    finally:
        life.meeting.clear()
        processes.unhurried.clear()
    # Not where the block failed: NCCL would wait for those that are gone.
    distributed.destroy_process_group()


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
            f"{host} cannot reach {where}:{port}, where the processes of torchrun meet ({life.cause(error)}); start "
            "all of them again, each torchrun with --local-addr and the address by which the others reach its machine"
        ) from error
    # Processes started again must not read the addresses of those that died. Agents of several machines may count
    # restarts differently: there the variable above has torchrun make a new store.
    attempt = environment["TORCHELASTIC_RESTART_COUNT"] if one_machine else "0"
    life.meeting.append(distributed.PrefixStore(f"edgeq {attempt}", store))
    life.store().set(f"host/{who.rank}", host)
    life.store().set(f"beat/{who.rank}", "0")
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
        distributed.init_process_group(
            backend, store=life.meeting[0], rank=who.rank, world_size=who.count, timeout=PATIENCE
        )
        processes.unhurried.append(distributed.new_group(backend="gloo", timeout=UNHURRIED))
    except RuntimeError as error:
        which = "GLOO_SOCKET_IFNAME=eth0" + " NCCL_SOCKET_IFNAME=eth0" * cuda
        raise InputError(
            f"{socket.gethostname()} cannot reach the other processes of torchrun ({life.cause(error)}); where "
            f"torchrun starts, name the network that all machines share: {which}, or as it is called there"
        ) from error


def _name_network(who: Processes) -> None:
    """Let gloo take the network by which machines reach each other, where the user names none.

    By itself it takes that of the machine's own name, which Debian's /etc/hosts says is 127.0.1.1.
    """
    own = _address_towards(os.environ["MASTER_ADDR"])
    others = [one for one in who.exchange(own) if one and not one.startswith("127.")]
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
    with contextlib.suppress(ImportError, OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        import fcntl  # Windows has none

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
