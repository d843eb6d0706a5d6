"""How a process looks after others, where that is slow to show with processes that really run."""

from __future__ import annotations

import contextlib
import gc
import signal
import socket
import threading
import time

import pytest
import torch

from edgeq.training import life
from edgeq.training.processes import Processes


@pytest.mark.parametrize(
    ("beat", "silence", "said"),
    [
        (0.01, 40.0, "no sign of life from process 1 on second for 40 s"),
        (0.4, 1.0, ""),  # as where the whole job is suspended: this process did not look for so long
    ],
)
def test_one_that_stood_still_itself_takes_nobody_for_gone(
    monkeypatch: pytest.MonkeyPatch, beat: float, silence: float, said: str
) -> None:
    def ends(what: str) -> None:
        told.append(what)
        raise SystemExit

    told: list[str] = []
    store = torch.distributed.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    monkeypatch.setattr(life, "meeting", [store])
    monkeypatch.setattr(life, "BEAT", beat)
    monkeypatch.setattr(life, "SILENCE", silence)
    monkeypatch.setattr(life, "_end", ends)
    for rank, host in enumerate(("first", "second")):
        life.store().set(f"host/{rank}", host)
    attending = life._Life(Processes(0, 2))
    attending.since[1] -= 2 * silence
    heard, signals = socket.socketpair()

    def watched() -> None:
        with contextlib.suppress(SystemExit):
            attending.watch(heard)

    thread = threading.Thread(target=watched)
    thread.start()
    thread.join(60 if said else 3 * beat)
    assert thread.is_alive() is not bool(said)
    signals.close()
    thread.join()
    assert told == [said] * bool(said)
    heard.close()


@pytest.mark.filterwarnings("error::ResourceWarning", "error::pytest.PytestUnraisableExceptionWarning")
def test_who_was_attended_is_left_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    store = torch.distributed.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    monkeypatch.setattr(life, "meeting", [store])
    monkeypatch.setattr(life, "BEAT", 0.2)
    for word in ("host", "beat"):
        life.store().set(f"{word}/0", "0")
    before, threads = signal.getsignal(signal.SIGTERM), threading.active_count()
    with life.attended(Processes(0, 1)):
        while life.store().get("beat/0") == b"0":
            time.sleep(0.01)
        assert threading.active_count() == threads + 2
    assert signal.getsignal(signal.SIGTERM) is before and threading.active_count() == threads
    gc.collect()
