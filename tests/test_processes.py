"""When a process takes others for gone: what is slow to show with processes that really run."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest
import torch

from edgeq.training import processes


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
    monkeypatch.setattr(processes, "_joined", [store])
    monkeypatch.setattr(processes, "BEAT", beat)
    monkeypatch.setattr(processes, "SILENCE", silence)
    monkeypatch.setattr(processes, "_end", ends)
    for rank, host in enumerate(("first", "second")):
        processes._store().set(f"host/{rank}", host)
    life = processes._Life(processes.Processes(0, 2))
    life.since[1] -= 2 * silence
    heard, signals = socket.socketpair()

    def watched() -> None:
        with contextlib.suppress(SystemExit):
            life.watch(heard)

    thread = threading.Thread(target=watched)
    thread.start()
    thread.join(60 if said else 3 * beat)
    assert thread.is_alive() is not bool(said)
    signals.close()
    thread.join()
    assert told == [said] * bool(said)
