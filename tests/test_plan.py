"""No two buffers that are needed at once share bytes, unless one was said to overwrite the other."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.cortexm.plan import ALIGNMENT, Buffer, plan


@st.composite
def layouts(draw: st.DrawFn) -> list[Buffer]:
    """Buffers of a made-up model, some of which may lie over one whose last step is their first."""
    steps = draw(st.integers(1, 8))
    buffers: list[Buffer] = []
    for number in range(draw(st.integers(1, 12))):
        first = draw(st.integers(0, steps - 1))
        last = draw(st.integers(first, steps - 1))
        ended = [buffer.name for buffer in buffers if buffer.last == first]
        over = tuple(draw(st.sets(st.sampled_from(ended), max_size=2))) if ended else ()
        buffers.append(Buffer(f"b{number}", draw(st.integers(1, 200)), first, last, over))
    return buffers


@given(layouts())
@settings(max_examples=100)
def test_what_is_needed_at_once_lies_apart(buffers):
    found = plan(buffers)
    for buffer in buffers:
        assert found.offsets[buffer.name] % ALIGNMENT == 0
        assert found.offsets[buffer.name] + buffer.bytes <= found.bytes
    for one, other in itertools.combinations(buffers, 2):
        if one.last < other.first or other.last < one.first:
            continue
        begins = found.offsets[one.name], found.offsets[other.name]
        if one.name in other.over and begins[0] == begins[1]:
            continue
        assert begins[0] + one.bytes <= begins[1] or begins[1] + other.bytes <= begins[0]


@given(layouts())
@settings(max_examples=50)
def test_no_step_gets_by_with_less_than_the_lower_bound(buffers):
    """Counted byte by byte: in the fullest step of this arrangement at least so many are in use."""
    found = plan(buffers)
    fullest = 0
    for step in range(max(buffer.last for buffer in buffers) + 1):
        used: set[int] = set()
        for buffer in buffers:
            if buffer.first <= step <= buffer.last:
                begin = found.offsets[buffer.name]
                used |= set(range(begin, begin + -(-buffer.bytes // ALIGNMENT) * ALIGNMENT))
        fullest = max(fullest, len(used))
    assert found.lower_bound <= fullest <= found.bytes


def test_a_chain_takes_its_largest_pair():
    sizes = [64, 512, 256, 128, 8]
    buffers = [Buffer(f"b{n}", size, max(n - 1, 0), n) for n, size in enumerate(sizes)]
    found = plan(buffers)
    assert found.bytes == found.lower_bound == 512 + 256


def test_in_place_a_chain_takes_its_largest_buffer():
    sizes = [512, 256, 256, 8]
    buffers = [Buffer(f"b{n}", size, max(n - 1, 0), n, (f"b{n - 1}",) if n else ()) for n, size in enumerate(sizes)]
    found = plan(buffers)
    assert found.bytes == found.lower_bound == 512
    assert set(found.offsets.values()) == {0}


def test_what_lives_on_is_not_written_over():
    """A residual: the map that is added later keeps its place while two others come and go."""
    buffers = [
        Buffer("kept", 64, 0, 3),
        Buffer("middle", 64, 0, 1),
        Buffer("last", 64, 1, 3, ("middle",)),
        Buffer("sum", 64, 3, 4, ("kept", "last")),
    ]
    found = plan(buffers)
    assert found.bytes == found.lower_bound == 128
    assert found.offsets["kept"] != found.offsets["last"] == found.offsets["middle"]


def test_the_same_answer_every_time():
    buffers = [Buffer(f"b{n}", 100 + n * 37 % 90, n % 7, n % 7 + n % 3) for n in range(30)]
    assert plan(buffers) == plan(list(buffers))
