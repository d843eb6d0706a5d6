"""Processes that train together look after each other: each shows that it lives, and who is gone is told and named."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed

from edgeq.errors import InputError

if TYPE_CHECKING:
    from edgeq.training.processes import Processes

SILENCE = 120.0
"""Seconds without a sign of life after which a process is taken for gone, by whatever it is waited for."""

BEAT = 1.0
"""Seconds between a process's signs of life."""

LEFT, FAILED = "left", "failed"
"""What a process shows last: that it is done, or that it met an error."""

meeting: list[distributed.Store] = []
"""The store by which the processes met, one as torch.distributed's own group is; none where this one is alone."""


class Lost(InputError):
    """Another process is gone."""


def store() -> distributed.Store:
    """Where processes leave each other word, apart from what torch keeps in the store by which they met."""
    return distributed.PrefixStore("values", meeting[0])


@contextlib.contextmanager
def attended(who: Processes) -> Iterator[None]:
    """Inside this, the process shows that it lives, and ends where another does not or torchrun ends it.

    Torch waits in ways that neither a signal nor Python ends. So two threads look after this: one asks the store, which
    may keep it waiting, too; the other one never waits.
    """
    life = _Life(who)
    heard, signals = socket.socketpair()
    signals.setblocking(False)
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
        heard.close()


def part(who: Processes, sign: str, patience: float) -> None:
    """Leave, LEFT or FAILED: the first one last, as the others may still read from the store that it keeps.

    patience: seconds that it waits for the others.
    """
    if not meeting:
        return
    with contextlib.suppress(RuntimeError):  # somebody is gone: there is nothing to wait for
        words, until = store(), time.monotonic() + patience
        words.set(f"beat/{who.rank}", sign)
        while who.main and time.monotonic() < until and set(_beats(words, who.count)) - {LEFT, FAILED}:
            time.sleep(0.02)


@contextlib.contextmanager
def naming_lost(who: Processes) -> Iterator[None]:
    """Inside this, processes exchange something. Raises Lost, naming who is gone, where torch says that one is."""
    try:
        yield
    except RuntimeError as error:
        if "Duplicate GPU" in str(error):  # as NCCL says it
            raise InputError(
                "two processes on one GPU, which NCCL does not join: expected one process a GPU; give torchrun "
                f'--nproc-per-node {torch.cuda.device_count()}, or the recipe [fit] device = "cpu"'
            ) from error
        _losing.append(f"lost another process ({cause(error)})")
        raise Lost(f"{_gone(who)} ({cause(error)}); {_how_on()}") from error


def tells(what: str) -> bool:
    """Whether this process is the first one of its machine to tell this, since torchrun last started them."""
    own = os.environ.get("TORCHELASTIC_ERROR_FILE")  # ATTEMPT/RANK/error.json
    if own is not None:
        with contextlib.suppress(OSError):
            try:
                (Path(own).parents[1] / f"told-{hashlib.sha256(what.encode()).hexdigest()[:16]}").touch(exist_ok=False)
            except FileExistsError:
                return False
    return True


def into_table(message: str) -> None:
    """Let the table in which torchrun sums up at the end have this."""
    own = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if own is not None:
        told = {"message": {"message": message, "extraInfo": {"timestamp": str(int(time.time()))}}}
        with contextlib.suppress(OSError):
            Path(own).write_text(json.dumps(told))


def cause(error: BaseException) -> str:
    """What torch says is wrong, without the place in its source and its guesses."""
    line = str(error).strip().partition("\n")[0]
    return re.sub(r"\[/[^\]]*\] ", "", line).partition(". ")[0][:200]


class _Life:
    """What this process has heard of the others, and when."""

    def __init__(self, who: Processes) -> None:
        words: Any = store()  # torch's types lack clone, which another thread needs
        self.who, self.store = who, words.clone()
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
            self.since = [now if new != old or new == LEFT else at for new, old, at in pairs]
            seen, self.answered = beats, now

    def watch(self, signals: socket.socket) -> None:
        """End this process on SIGTERM, or where nothing is heard any more.

        signals: numbers of those that came; until its other end is closed.
        """
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
    into_table(message)
    if tells("lost"):
        print(f"edgeq: {message}", file=sys.stderr, flush=True)
    os._exit(2)


def _gone(who: Processes) -> str:
    """Who shows no life any more, as far as can be told."""
    try:
        words = store()
        before = _beats(words, who.count)
        time.sleep(4 * BEAT)
        pairs = enumerate(zip(before, _beats(words, who.count), strict=True))
        silent = [rank for rank, (old, new) in pairs if old == new != LEFT and rank != who.rank]
        if silent:
            hosts = [words.get(f"host/{rank}").decode() for rank in range(who.count)]
            return f"lost {_named(hosts, silent)}: killed, failed as is said there, or out of reach"
    except RuntimeError:
        where = os.environ["MASTER_ADDR"]
        return f"lost {where}, where the processes meet: process 0 or its torchrun failed, or is out of reach"
    return "lost touch with another process, though all of them live"


def _beats(store: distributed.Store, count: int) -> list[str]:
    return [one.decode() for one in store.multi_get([f"beat/{rank}" for rank in range(count)])]


def _named(hosts: Sequence[str], ranks: Sequence[int]) -> str:
    on: dict[str, list[str]] = {}
    for rank in ranks:
        on.setdefault(hosts[rank], []).append(str(rank))
    return " and ".join(f"process{'es' * (len(of) > 1)} {', '.join(of)} on {host}" for host, of in on.items())


def _how_on() -> str:
    environment = os.environ
    if environment["TORCHELASTIC_RESTART_COUNT"] == environment.get("TORCHELASTIC_MAX_RESTARTS", "0"):
        return "the same command goes on from the last checkpoint"
    return "torchrun starts all of them again, or where it cannot the same command does, from the last checkpoint"
