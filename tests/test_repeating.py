"""What is done again and again beside something else."""

from __future__ import annotations

import threading

import pytest

from edgeq.bench.energy.repeating import Repeating


def test_it_goes_on_until_it_is_stopped() -> None:
    done, enough = [], threading.Event()

    def action() -> None:
        done.append(threading.current_thread())
        if len(done) == 3:
            enough.set()

    repeating = Repeating(action, 0.001)
    assert enough.wait(20)
    repeating.stop()
    count = len(done)
    assert threading.current_thread() not in done
    assert not done[0].is_alive()
    assert len(done) == count


def test_stopping_does_not_wait_for_the_next_time() -> None:
    done: list[int] = []
    repeating = Repeating(lambda: done.append(1), 3600)
    repeating.stop()
    assert done == []


def test_what_goes_wrong_is_raised_where_it_is_stopped() -> None:
    failed = threading.Event()

    def action() -> None:
        failed.set()
        raise OSError("unplugged")

    repeating = Repeating(action, 0.001)
    assert failed.wait(20)
    with pytest.raises(OSError, match="unplugged"):
        repeating.stop()
