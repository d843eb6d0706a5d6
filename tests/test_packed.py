"""A packed corpus gives back what was packed, in orders that seed and epoch alone decide, or says what is damaged."""

from __future__ import annotations

import json
import pickle
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import corpus_copies as copies
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_corpus import FRONTEND, RATE, folders, sound

from edgeq import corpora
from edgeq.audio import decode, frontend
from edgeq.audio.frontend import FrontendSpec, with_derivatives
from edgeq.audio.maps import at_speed
from edgeq.corpora import orders, pack, packed, packed_corpus
from edgeq.corpora.clips import Clip
from edgeq.corpora.corpus import file_hash
from edgeq.corpora.shard_check import check_shards
from edgeq.errors import InputError

SPEC = FrontendSpec(**FRONTEND)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders(tmp_path_factory.mktemp("packed") / "sounds", clips=12)


@pytest.fixture(scope="module")
def recordings(corpus: Path) -> packed.Packed:
    pack.pack(corpus, corpus.parent / "flac", shard_megabytes=0.02, jobs=1)
    return packed.open(corpus.parent / "flac")


@pytest.fixture(scope="module")
def logmels(corpus: Path) -> packed.Packed:
    pack.pack(corpus, corpus.parent / "maps", SPEC, (1.0, 0.8), "int16", shard_megabytes=0.02, jobs=1)
    return packed.open(corpus.parent / "maps")


def clip_of(corpus: Path, key: str) -> Clip:
    return next(clip for clip in corpora.open(corpus).clips if clip.path == corpus / f"{key}.wav")


def test_recordings_come_back_as_they_are_in_the_corpus(corpus: Path, recordings: packed.Packed) -> None:
    assert len(recordings) == 12 and recordings.frontend is None
    for number, key in enumerate(recordings.keys):
        clip = clip_of(corpus, key)
        assert recordings.clips[number].label == clip.label
        for rate in (RATE, 11025):
            np.testing.assert_array_equal(recordings.waveform(number, rate), decode.read(clip.path, rate))
        expected = frontend.logmel(at_speed(decode.read(clip.path, RATE), 0.8, SPEC), SPEC)
        np.testing.assert_array_equal(recordings.read([number], SPEC, 0.8)[0], expected)


def test_log_mel_comes_back_within_half_a_step(corpus: Path, logmels: packed.Packed) -> None:
    assert logmels.step is not None and np.log2(logmels.step) % 1 == 0 and logmels.step < 0.01
    for number, key in enumerate(logmels.keys):
        waveform = decode.read(clip_of(corpus, key).path, RATE)
        for speed in (1.0, 0.8):
            expected = frontend.logmel(at_speed(waveform, speed, SPEC), SPEC)
            found = logmels.read([number], speed=speed)[0]
            assert found.dtype == np.float32 and found.shape == expected.shape
            assert np.abs(found - expected).max() <= logmels.step / 2 + 1e-5


def test_the_range_of_int16_holds_silence_and_a_square_wave_at_full_scale() -> None:
    content = pack.Content(SPEC, dtype="int16")
    square = np.sign(np.sin(np.arange(RATE) * 0.3)).astype(np.float32)
    for waveform in (square, np.ones(RATE, np.float32), np.zeros(RATE, np.float32)):
        assert np.abs(frontend.logmel(waveform, SPEC)).max() < 32767 * content.step


def test_folds_splits_licences_and_several_labels_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import soundfile

    facts = [
        (("a", "c"), 2, "training", "CC0"),
        (("b",), 1, None, "CC-BY"),
        (("c", "b", "a"), None, "testing", "CC0"),
    ]
    clips = []
    for number, (labels, fold, split, licence) in enumerate(facts):
        soundfile.write(tmp_path / f"{number}.wav", sound(number), RATE)
        clips.append(Clip(tmp_path / f"{number}.wav", labels, fold, licence, split=split))
    several = corpora.Corpus("several", tuple(clips), ("a", "b", "c"), multi_label=True)
    monkeypatch.setattr(corpora, "open", lambda folder, layout: several)
    pack.pack(tmp_path, tmp_path / "out", SPEC, jobs=1)
    corpus = packed_corpus.open(tmp_path / "out")
    assert corpus.multi_label and corpus.folds == (1, 2) and corpus.splits == ("training", "testing")
    with pytest.raises(InputError, match=r"found \d labels of .*, expected one"):
        _ = corpus.targets
    places = [corpus.packed.keys.index(str(number)) for number in range(3)]
    np.testing.assert_array_equal(corpus.positives(places), several.positives())
    assert [corpus.clips[place].fold for place in places] == [2, 1, None]
    assert [clip.path.name for clip in corpus.without_licences(["CC0", "GPL"]).clips] == ["1"]
    assert len(corpus.without_licences([]).clips) == 3
    for part in ({"split": "training"}, {"split": "validation"}, {"fold": 1}, {"fold": 2}, {"fold": 3}, {"fold": -1}):
        named = [corpus.clips[i].path.name for i in corpus.part(**part)]
        assert named == [several.clips[i].path.stem for i in several.part(**part)], part
    again = {clip.path.name: clip for clip in corpus.clips}
    for number, clip in enumerate(clips):
        assert replace(again[str(number)], path=clip.path, labels=clip.labels) == clip
        assert set(again[str(number)].labels) == set(clip.labels)


def test_every_reader_in_any_number_reads_the_same(logmels: packed.Packed) -> None:
    alone = logmels.read(range(12))
    other = pickle.loads(pickle.dumps(logmels))
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda clip: other.read([clip])[0], range(12)))
    for one, another in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, another)


def test_damaged_data_of_a_clip_are_refused_whenever_it_is_read(logmels: packed.Packed, tmp_path: Path) -> None:
    folder = tmp_path / "maps"
    shutil.copytree(logmels.folder, folder)
    clip, speed = int(logmels.shard_starts[1]) + 1, 1
    shard = folder / logmels.shards[1].file
    opened = packed.open(folder)
    sound = opened.read([clip - 1, clip, clip + 1], speed=0.8)
    content = bytearray(shard.read_bytes())
    content[logmels.offsets[clip, speed] + logmels.sizes[clip, speed] - 1] ^= 1
    shard.write_bytes(content)
    message = (
        f"{shard.name}: damaged: the CRC-32 of its clip {logmels.key(clip)} is not the one in index.npz; remove that "
        "shard and run the same edgeq data pack again, which makes it alone anew"
    )
    for reader in (opened, packed.open(folder), opened):  # it need not be the first of the shard that is read
        np.testing.assert_array_equal(reader.read([clip - 1], speed=0.8)[0], sound[0])
        reader.read([clip, clip + 1])  # as recorded it is sound
        with pytest.raises(InputError, match=message):
            reader.read([clip], speed=0.8)
    with pytest.raises(InputError, match=f"{shard.name}: damaged: its sha256 is not the one in index.json; remove"):
        opened.check()


def test_a_shard_that_ends_early_or_is_gone_is_named(logmels: packed.Packed, tmp_path: Path) -> None:
    folder = tmp_path / "maps"
    shutil.copytree(logmels.folder, folder)
    shard, first = folder / logmels.shards[1].file, int(logmels.shard_starts[1])
    opened = packed.open(folder)
    shard.write_bytes(shard.read_bytes()[: logmels.offsets[first + 1, 0] + 1])
    opened.read([first])
    with pytest.raises(InputError, match=f"{shard.name}: damaged: the CRC-32 of its clip {opened.key(first + 1)} is"):
        opened.read([first + 1])
    with pytest.raises(InputError, match=rf"{shard.name}: damaged: \d+ bytes, expected \d+; remove that shard"):
        packed.open(folder)
    shard.unlink()
    with pytest.raises(InputError, match=f"{shard.name}: cannot be read"):
        opened.read([first])
    with pytest.raises(InputError, match=f"{shard.name}: missing; run the same edgeq data pack again"):
        packed.open(folder)


def test_a_packed_corpus_has_the_licence_and_citation_of_its_corpus(tmp_path: Path) -> None:
    folder = copies.tau2022(tmp_path / "tau")
    pack.pack(folder, tmp_path / "packed", SPEC, jobs=1)
    read, corpus = corpora.open(folder), packed_corpus.open(tmp_path / "packed")
    for one in (corpus, corpus.packed, corpus.subset([3, 1])):
        assert (one.licence, one.citation) == (read.licence, read.citation) and "Heittola" in one.citation


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("index.json", b"{", "not the index of a packed corpus"),
        (
            "index.json",
            b'{"format": 7}',
            "format 7, expected 2: it was packed by another version of edgeq; remove .*maps and run",
        ),
        ("index.npz", b"PK", "its sha256 is not the one in index.json"),
    ],
)
def test_a_damaged_index_is_refused(
    logmels: packed.Packed, tmp_path: Path, file: str, content: bytes, message: str
) -> None:
    shutil.copytree(logmels.folder, tmp_path / "maps")
    (tmp_path / "maps" / file).write_bytes(content)
    with pytest.raises(InputError, match=f"{file}: .*{message}"):
        packed.open(tmp_path / "maps")


def test_an_index_that_lacks_something_is_refused(logmels: packed.Packed, tmp_path: Path) -> None:
    shutil.copytree(logmels.folder, tmp_path / "maps")
    index = tmp_path / "maps" / "index.json"
    table = json.loads(index.read_text())
    del table["labels"]
    index.write_text(json.dumps(table))
    for broken in (packed.open, check_shards):
        with pytest.raises(
            InputError, match=r"index.json: lacks labels: .*another version of edgeq; remove .*maps and"
        ):
            broken(tmp_path / "maps")


@pytest.mark.parametrize("name", ["fold", "key_ends", "recording_sha256"])
def test_an_index_without_one_of_its_arrays_is_refused(logmels: packed.Packed, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(logmels.folder, tmp_path / "maps")
    with np.load(folder / packed.ARRAYS) as found:
        np.savez(folder / "few.npz", **{key: found[key] for key in found.files if key != name})
    (folder / "few.npz").replace(folder / packed.ARRAYS)
    table = json.loads((folder / packed.INDEX).read_text())
    table["arrays_sha256"] = file_hash(folder / packed.ARRAYS)
    table["index_sha256"] = packed.index_hash(table)
    (folder / packed.INDEX).write_text(json.dumps(table))
    with pytest.raises(InputError, match=f"index.npz: lacks {name}: it was packed by another version of edgeq; remove"):
        packed.open(folder)


def test_any_other_word_in_the_index_is_found(logmels: packed.Packed, tmp_path: Path) -> None:
    folder = shutil.copytree(logmels.folder, tmp_path / "maps")
    index = folder / packed.INDEX
    table = json.loads(index.read_text())
    index.write_text(json.dumps(table))  # laid out in another way
    assert packed.open(folder).labels == logmels.labels
    for name in table.keys() - {"format", "index_sha256"}:
        index.write_text(json.dumps(table | {name: "other"}))
        for opened in (packed.open, check_shards):
            with pytest.raises(InputError, match=r"index.json: damaged: what it says is not what was packed; restore"):
                opened(folder)


def test_arrays_that_are_gone_after_opening_are_told(logmels: packed.Packed, tmp_path: Path) -> None:
    folder = shutil.copytree(logmels.folder, tmp_path / "maps")
    opened = packed.open(folder)
    for content in (b"", b"PK"):
        (folder / packed.ARRAYS).write_bytes(content)
        for ask in (lambda: opened.key(0), lambda: opened.recordings):
            with pytest.raises(InputError, match=r"index.npz: changed since it was opened"):
                ask()


def test_places_of_clips_add_up_whatever_their_width(logmels: packed.Packed) -> None:
    for places in (logmels.offsets, logmels.sizes, logmels.checksums):
        assert places.dtype.itemsize >= 4 and places.shape == (len(logmels), len(logmels.speeds))


def test_another_front_end_or_speed_is_refused_with_the_mend(logmels: packed.Packed, recordings: packed.Packed) -> None:
    logmels.check_frontend(with_derivatives(SPEC), (1.0, 0.8))  # derivatives over time come after the log-mel
    other = FrontendSpec(**{**FRONTEND, "n_mels": 12})
    with pytest.raises(InputError, match="another front end: n_mels 16, not 12; pack again with --features RECIPE"):
        logmels.read([0], other)
    with pytest.raises(InputError, match=r"packed without speed 1.25; pack again"):
        logmels.read([0], SPEC, 1.25)
    with pytest.raises(InputError, match="no log-mel; say by which front end"):
        recordings.read([0])
    with pytest.raises(InputError, match="no recordings; pack again without --features"):
        logmels.waveform(0, RATE)
    with pytest.raises(InputError, match="no clip 12, expected 0 to 11"):
        logmels.read([12])


def test_what_needs_recordings_says_so(logmels: packed.Packed) -> None:
    with pytest.raises(InputError, match="a packed corpus, expected recordings; give the folder that it was packed"):
        corpora.open(logmels.folder)


STARTS = st.lists(st.integers(1, 40), min_size=1, max_size=30).map(lambda sizes: np.cumsum([0, *sizes]))


@given(STARTS, st.integers(0, 2**63), st.integers(0, 1000), st.integers(1, 9))
def test_an_order_is_a_permutation_that_keeps_shards_together(
    ends: np.ndarray, seed: int, epoch: int, together: int
) -> None:
    clips, starts = np.arange(ends[-1]), ends[:-1]
    order = orders.shuffled(clips, starts, seed, epoch, together)
    np.testing.assert_array_equal(np.sort(order), clips)
    np.testing.assert_array_equal(order, orders.shuffled(clips, starts, seed, epoch, together))
    shard = np.searchsorted(starts, order, side="right") - 1
    # A shard's clips lie within one group, and a group is of at most `together` shards.
    first = {number: int(np.flatnonzero(shard == number)[0]) for number in range(len(starts))}
    last = {number: int(np.flatnonzero(shard == number)[-1]) for number in range(len(starts))}
    for number in range(len(starts)):
        between = set(shard[first[number] : last[number] + 1].tolist())
        assert len(between) <= together


def test_orders_differ_by_epoch_and_by_seed() -> None:
    clips, starts = np.arange(300), np.arange(0, 300, 10)
    found = {orders.shuffled(clips, starts, seed, epoch).tobytes() for seed in range(5) for epoch in range(5)}
    assert len(found) == 25


def test_orders_are_the_same_with_every_numpy() -> None:
    """Written down once: a training that goes on under another version must not hear other clips."""
    order = orders.shuffled(np.arange(10), np.array([0, 4, 8]), seed=3, epoch=2, together=2)
    assert order.tolist() == [6, 7, 5, 4, 1, 3, 2, 0, 9, 8]


@given(
    st.lists(st.sets(st.integers(0, 5), min_size=1), min_size=1, max_size=40),
    st.integers(1, 200),
    st.integers(0, 2**32),
)
def test_in_a_balanced_order_classes_take_turns(held: list[set[int]], count: int, seed: int) -> None:
    counts = np.array([len(one) for one in held])
    labels = np.array([label for one in held for label in sorted(one)])
    classes = sorted(set(labels.tolist()))
    clips = np.arange(len(held)) + 7
    order = orders.balanced(clips, counts, labels, count, seed, 0)
    assert len(order) == count and set(order.tolist()) <= set(clips.tolist())
    np.testing.assert_array_equal(order, orders.balanced(clips, counts, labels, count, seed, 0))
    for start in range(0, count - len(classes) + 1, len(classes)):
        # Each round can be told apart into one clip of every class.
        turn = [held[clip - 7] for clip in order[start : start + len(classes)]]
        assert _matched(turn, classes)


def _matched(holders: list[set[int]], classes: list[int]) -> bool:
    """Whether every class has a holder of its own (bipartite matching)."""
    holder_of: dict[int, int] = {}

    def give(holder: int, seen: set[int]) -> bool:
        for label in holders[holder] - seen:
            seen.add(label)
            if label not in holder_of or give(holder_of[label], seen):
                holder_of[label] = holder
                return True
        return False

    return all(give(holder, set()) for holder in range(len(holders))) and set(holder_of) == set(classes)


def test_a_rare_class_is_heard_as_often_as_a_common_one(recordings: packed.Packed) -> None:
    targets = np.array(packed_corpus.open(recordings.folder).targets)
    few = np.array([clip for clip in range(12) if targets[clip] != 0 or clip == 3])
    few = np.unique(np.append(few, np.flatnonzero(targets == 0)[:1]))
    order = recordings.balanced_order(0, 0, few, count=300)
    heard = Counter(targets[order].tolist())
    assert set(heard.values()) == {300 // len(set(targets[few].tolist()))}
