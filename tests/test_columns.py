"""Columns give back what was put in, in few bytes."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.corpora.columns import GrowingCoded, GrowingTexts, Numbers, Seen, first_alike, runs

TEXTS = st.lists(st.text(st.characters(codec=None), max_size=8), max_size=60)  # lone surrogates too


@given(st.lists(st.one_of(st.integers(0, 300), st.integers(0, 2**64 - 1)), max_size=50))
def test_numbers_take_as_many_bytes_as_the_largest_needs(numbers: list[int]) -> None:
    growing = Numbers()
    for number in numbers:
        growing.append(number)
    column = growing.column()
    assert column.tolist() == numbers
    assert column.itemsize == np.min_scalar_type(max(numbers, default=0)).itemsize


@given(TEXTS)
def test_texts_come_back(texts: list[str]) -> None:
    growing = GrowingTexts()
    for text in texts:
        growing.append(text)
    column = growing.column()
    assert len(column) == len(texts) and [column[number] for number in range(len(column))] == texts


@given(st.lists(st.sampled_from([None, 3, "", "a", "b"]), min_size=1, max_size=40))
def test_values_of_a_small_table_come_back_counted(values: list[object]) -> None:
    growing: GrowingCoded[object] = GrowingCoded()
    for value in values:
        growing.append(value)
    column = growing.column()
    assert [column[number] for number in range(len(values))] == values
    assert column.counts() == {value: values.count(value) for value in values}
    assert column.among(lambda value: value == "a").tolist() == [value == "a" for value in values]
    few = column.take(np.arange(0, len(values), 3))
    assert few.counts() == {value: values[::3].count(value) for value in values[::3]}


def test_a_set_of_texts_knows_each_once() -> None:
    seen, known = Seen(), set()
    for number in range(6000):  # it grows several times
        text = f"clip {number % 4001}"
        assert seen.add(text) == (text not in known)
        known.add(text)


def test_two_texts_in_one_slot_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    class Same:
        def __init__(self, data: bytes) -> None:
            self.data = data

        def digest(self) -> bytes:
            return bytes(8) + self.data.ljust(24)

    monkeypatch.setattr("hashlib.sha256", Same)
    seen = Seen()
    assert [seen.add(text) for text in ("a", "b", "a", "c", "b")] == [True, True, False, True, False]


class Clumsy(str):
    """A text of which many have one hash."""

    def __hash__(self) -> int:
        return len(self)


@given(st.lists(st.text("ab", max_size=4).map(Clumsy), max_size=50))
def test_the_first_of_equal_texts_is_found(texts: list[str]) -> None:
    assert first_alike(texts.__getitem__, len(texts)).tolist() == [texts.index(text) for text in texts]


@given(st.lists(st.integers(0, 2), max_size=30))
def test_runs_are_those_of_equal_neighbours(values: list[int]) -> None:
    expected, start = [], 0
    for _, same in groupby(values):
        end = start + len(list(same))
        if end - start > 1:
            expected.append((start, end))
        start = end
    assert [(int(start), int(end)) for start, end in runs(np.array(values))] == expected
