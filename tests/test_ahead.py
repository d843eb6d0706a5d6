"""Reading ahead gives what reading in turn gives, is bounded, and ends with who reads."""

from __future__ import annotations

import threading

import pytest

from edgeq.training.ahead import AHEAD, ahead


@pytest.mark.parametrize("readers", [1, 3])
def test_everything_comes_in_order_and_no_more_is_taken_than_was_said(readers: int) -> None:
    taken: list[int] = []

    def things() -> object:
        for number in range(20):
            taken.append(number)
            yield number

    got = []
    for number in ahead(lambda one: one**2, things(), readers):
        got.append(number)
        assert len(taken) - len(got) < readers * AHEAD
    assert got == [number**2 for number in range(20)]


def test_what_making_raises_comes_at_its_turn_and_threads_end() -> None:
    before = threading.active_count()
    made = ahead(lambda one: 1 // one, [1, 1, 0, 1], 1)
    assert next(made) == next(made) == 1
    with pytest.raises(ZeroDivisionError):
        next(made)
    left = ahead(lambda one: one, iter(range(100)), 2)
    assert next(left) == 0
    left.close()
    for thread in threading.enumerate():
        if thread.name.startswith("edgeq-reader"):
            thread.join(5)
    assert threading.active_count() == before
