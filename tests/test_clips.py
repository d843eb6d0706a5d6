"""Clips and faults held column by column are those that were put in, and take few bytes."""

from __future__ import annotations

import gc
import pickle
import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.corpora.clips import SPLITS, Clip, Clips
from edgeq.corpora.faults import Fault, Faults, GrowingFaults

NAMES = st.sampled_from(["", "a", "b/c", "Grüße", "\udcff", "/"])
CLIP = st.builds(
    Clip,
    path=st.sampled_from(["a.wav", "/a.wav", "b/a.wav", "/b/c/a.wav", "../a.wav", "b/\udcff.wav", "."]).map(Path),
    labels=st.lists(st.sampled_from(["dog", "rain", "wind"]), max_size=3, unique=True).map(tuple),
    fold=st.one_of(st.none(), st.integers(0, 500)),
    licence=NAMES,
    source=NAMES,
    split=st.sampled_from([None, *SPLITS]),
    group=NAMES,
    device=NAMES,
    city=NAMES,
)
CLIPS = st.lists(CLIP, max_size=20)


@given(CLIPS, st.data())
def test_clips_are_those_that_were_put_in(expected: list[Clip], data: st.DataObject) -> None:
    clips = Clips.of(iter(expected))
    assert clips == expected and list(clips) == expected and len(clips) == len(expected)
    assert Clips.of(clips) is clips and pickle.loads(pickle.dumps(clips)) == expected
    assert (clips == [*expected, expected[0]]) is False if expected else clips == ()
    places = data.draw(st.lists(st.integers(0, len(expected) - 1), max_size=20)) if expected else []
    part, some = clips.take(places), [expected[place] for place in places]
    assert part == some and part[::-1] == some[::-1] and part[1:] == some[1:] and clips[:-1] == expected[:-1]
    assert part.take(range(len(some))[::2]) == some[::2]
    assert [part.name(number) for number in range(len(some))] == [clip.path.name or "." for clip in some]
    for of, chosen in ((clips, expected), (part, some)):
        counts, labels = of.held()
        assert counts.tolist() == [len(clip.labels) for clip in chosen]
        assert [of.labels[label] for label in labels] == [label for clip in chosen for label in clip.labels]
        assert of.folds.counts() == Counter(clip.fold for clip in chosen)
        assert of.splits.counts() == Counter(clip.split for clip in chosen)
        assert of.licences.counts() == Counter(clip.licence for clip in chosen)
        assert of.devices.counts() == Counter(clip.device for clip in chosen)
        assert of.cities.counts() == Counter(clip.city for clip in chosen)
        groups = [clip.group for clip in chosen]
        assert of.groups().tolist() == [groups.index(group) if group else -1 for group in groups]
        paths = [clip.path for clip in chosen]
        assert of.repeated() == next((i for i, path in enumerate(paths) if path in paths[:i]), None)


def test_clips_end_where_they_end() -> None:
    clips = Clips.of([Clip(Path("a"), ("dog",)), Clip(Path("b"), ("rain",))])
    assert clips[-1].path == Path("b") and clips.take([1])[-1].path == Path("b")
    for place in (2, -3):
        with pytest.raises(IndexError):
            _ = clips[place]


FAULTS = st.lists(
    st.builds(
        Fault,
        path=st.sampled_from(["a", "/b\n/c", "\udcff"]).map(Path),
        kind=st.sampled_from(["missing", "label"]),
        what=st.text(max_size=9),
        tolerated=st.booleans(),
    ),
    max_size=200,
)


@given(FAULTS)
def test_faults_are_those_that_were_put_in(expected: list[Fault]) -> None:
    faults = Faults.of(iter(expected))
    assert faults == expected and list(faults) == expected and faults[1:3] == expected[1:3]
    assert faults[::-7] == expected[::-7]
    assert [faults[place] for place in range(-len(expected), len(expected))] == [*expected, *expected]
    assert list(faults.of_kind("missing")) == [one for one in expected if one.kind == "missing"]
    assert list(faults.of_kind("missing", others=True)) == [one for one in expected if one.kind != "missing"]
    assert list(faults.untolerated()) == [one for one in expected if not one.tolerated]
    assert faults.counted() == len(expected)
    for kind in ("missing", "label", "length"):
        assert faults.counted(kind) == sum(one.kind == kind for one in expected)
        assert faults.counted(kind, True) == sum(one.kind == kind and one.tolerated for one in expected)


def test_faults_may_be_taken_in_after_some_were_asked_for() -> None:
    growing, expected = GrowingFaults(), []
    for number in range(200):
        expected.append(Fault(Path(f"{number}"), "missing", f"{number} is not there"))
        growing.append(expected[-1])
        if number % 50 == 0:
            assert growing.faults() == expected
    assert growing.faults() == expected


def test_a_clip_takes_about_a_hundred_bytes_and_a_fault_less() -> None:
    """Of AudioSet's names, with two labels in the middle."""
    count, rng = 3_000, np.random.default_rng(0)
    videos = [rng.bytes(8).hex()[:11] for _ in range(count)]

    def clip(number: int) -> Clip:
        video, labels = videos[number], tuple(f"class {(number + i) % 527}" for i in range(number % 4 + 1))
        source = f"youtube.com/watch?v={video}&t=30"
        return Clip(Path(f"/data/audioset/audio/{video}_30000.wav"), labels, None, "", source, "training", video)

    def fault(number: int) -> Fault:
        stems = f"{videos[number]}_30000, {videos[number]}_30000_40000, {videos[number]}, Y{videos[number]}"
        told = f"/data/audioset/unbalanced_train_segments.csv, line {number}: no recording named {stems}"
        return Fault(Path(f"/data/audioset/{videos[number]}_30000"), "missing", told, tolerated=True)

    def held(make: Callable[[], Sequence[object]]) -> int:
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        made = make()
        gc.collect()
        assert len(made) == count
        return tracemalloc.get_traced_memory()[0] - before

    def least(make: Callable[[], Sequence[object]]) -> int:
        """Of several: Python's own table of names grows now and then, and megabytes at a time."""
        return min(held(make) for _ in range(4))

    tracemalloc.start()
    try:
        assert least(lambda: Clips.of(clip(number) for number in range(count))) < 120 * count
        assert least(lambda: Faults.of(fault(number) for number in range(count))) < 50 * count
    finally:
        tracemalloc.stop()
