"""Published corpora are recognised by what they hold, and read as they are documented."""

from __future__ import annotations

import itertools
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import corpus_copies as copies
import pytest
from conftest import data_folder
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq import corpora, verify
from edgeq.corpora import fsdd, gtzan, ravdess
from edgeq.errors import InputError


@pytest.mark.parametrize(
    ("copy", "name"),
    [
        (copies.audioset, "audioset"),
        (copies.esc50, "esc50"),
        (copies.tau2022, "tau2022"),
        (copies.urbansound8k, "urbansound8k"),
        (copies.speech_commands, "speech-commands"),
        (copies.fsdd, "fsdd"),
        (copies.labelled, "csv"),
    ],
)
def test_copies_are_recognised(tmp_path: Path, copy: Callable[[Path], Path], name: str) -> None:
    folder = copy(tmp_path / "set")
    assert corpora.layout(folder).name == name
    assert corpora.open(folder).clips == corpora.open(folder, name).clips
    assert corpora.open(folder).name == "set"


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tables of copies that may be overwritten."""
    root = tmp_path_factory.mktemp("fuzz")
    return {
        "audioset": copies.audioset(root / "audioset") / "eval_segments.csv",
        "tau2022": copies.tau2022(root / "tau") / "meta.csv",
        "urbansound8k": copies.urbansound8k(root / "urban") / "metadata" / "UrbanSound8K.csv",
        "speech-commands": copies.speech_commands(root / "commands") / "testing_list.txt",
        "csv": copies.labelled(root / "csv") / "table.csv",
    }


@settings(max_examples=50)
@given(st.sampled_from(("audioset", "tau2022", "urbansound8k", "speech-commands", "csv")), st.data())
def test_any_line_is_read_told_or_refused(fuzzed: dict[str, Path], name: str, data: st.DataObject) -> None:
    table = fuzzed[name]
    whole = table.read_bytes()
    piece = st.one_of(
        st.text(max_size=300).map(str.encode), st.binary(max_size=20), st.sampled_from([b",", b"\t", b"\n", b'"'])
    )
    lines = whole.splitlines(keepends=True)
    lines.insert(data.draw(st.integers(0, len(lines))), b"".join(data.draw(st.lists(piece, max_size=8))) + b"\n")
    try:
        table.write_bytes(b"".join(lines))
        folder = table.parent.parent if name == "urbansound8k" else table.parent
        corpus = next(one for one in corpora.LAYOUTS if one.name == name).read(folder)
    except InputError as error:
        assert str(error)
    else:
        assert corpus.clips
    finally:
        table.write_bytes(whole)


def test_two_corpora_in_one_folder_are_refused(tmp_path: Path) -> None:
    copies.urbansound8k(copies.audioset(tmp_path))
    with pytest.raises(InputError, match=r"audioset \(one of .*\) and urbansound8k \(metadata.*expected one of them"):
        corpora.open(tmp_path)
    assert corpora.open(tmp_path, "urbansound8k").labels == ("children_playing", "dog_bark")
    with pytest.raises(InputError, match="corpus urban: expected one of audioset, gtzan"):
        corpora.open(tmp_path, "urban")


def test_audioset(tmp_path: Path) -> None:
    folder = copies.audioset(tmp_path)
    corpus = corpora.open(folder)
    assert corpus.multi_label and corpus.labels == tuple(name for _, name in copies.CLASSES)
    assert [(clip.path.name, clip.labels, clip.split) for clip in corpus.clips] == [
        ("--PJHxphWEs_30000.wav", ("Speech", "Male speech, man speaking"), "training"),
        ("_0a-B1c2D3e.wav", ("Dog",), "training"),
        ("zzzzzzzzzzz_20000_30000.wav", ("Rain", "Dog"), "training"),
        ("YYyyyyyyyyyy.flac", ("Rain",), "testing"),
    ]
    assert corpus.clips[0].source == "youtube.com/watch?v=--PJHxphWEs&t=30"
    assert [(fault.path, fault.kind, fault.tolerated) for fault in corpus.faults] == [
        (folder / "gone_gone_g_5000", "missing", True)
    ]
    assert corpus.positives().astype(int).tolist() == [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1], [0, 0, 0, 1]]


def test_of_several_recordings_of_a_segment_the_first_by_path_is_taken(tmp_path: Path) -> None:
    folder = copies.audioset(tmp_path)
    clip = corpora.open(folder).clips[1]
    assert clip.path == folder / "audio" / "balanced" / "_0a-B1c2D3e.wav"
    for name in ("zz/_0a-B1c2D3e.wav", "aa/_0a-B1c2D3e.wav", "audio/balanced/_0a-B1c2D3e.flac"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    for place in ("aa/_0a-B1c2D3e.wav", "audio/balanced/_0a-B1c2D3e.flac", "audio/balanced/_0a-B1c2D3e.wav"):
        assert corpora.open(folder).clips[1].path == folder / place
        (folder / place).unlink()
    assert corpora.open(folder).clips[1].path == folder / "zz" / "_0a-B1c2D3e.wav"


def test_audioset_by_its_ontology_alone(tmp_path: Path) -> None:
    folder = copies.audioset(tmp_path)
    before = corpora.open(folder)
    copies.ontology(folder)
    for name in copies.SEGMENTS:
        copies.text(folder / "metadata" / name, (folder / name).read_text())
        (folder / name).unlink()
    (folder / "ontology.json").rename(folder / "metadata" / "ontology.json")
    after = corpora.open(folder)
    assert (after.clips, after.labels) == (before.clips, before.labels)
    assert [fault.path for fault in after.faults] == [fault.path for fault in before.faults]
    for path in (clip.path for clip in after.clips if "Dog" in clip.labels):
        path.unlink()
    assert corpora.open(folder).labels == before.labels  # what vanished is a class still


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        ('zzzzzzzzzzz, 20.000, 30.000, "/m/06mb1"', "duplicate", "line 4: zzzzzzzzzzz_20000 is listed twice"),
        ('aaaaaaaaaaa, 20.000, 30.000, "/m/06mb1,/m/none"', "label", "line 4: /m/none is no class"),
        ('_0a-B1c2D3e, 10.000, 20.000, "/m/06mb1"', "duplicate", "line 4: _0a-B1c2D3e is another segment's too"),
    ],
)
def test_audioset_tells_entries_at_fault(tmp_path: Path, line: str, kind: str, message: str) -> None:
    folder = copies.audioset(tmp_path)
    table = folder / "eval_segments.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:3]) + line + "\n")
    copies.noise(folder / "audio" / "aaaaaaaaaaa.wav")
    corpus = corpora.layout(folder).read(folder)
    assert kind in [fault.kind for fault in corpus.faults]
    with pytest.raises(InputError, match=message):
        corpora.open(folder)


@pytest.mark.parametrize(
    "line", ["a, 1, 2", 'a, x, 2, "/m/06mb1"', 'a, 2, 1, "/m/06mb1"', 'a, 1, inf, "/m/06mb1"', "a, 1, 2,"]
)
def test_audioset_refuses_lines_that_are_none(tmp_path: Path, line: str) -> None:
    folder = copies.audioset(tmp_path)
    copies.text(folder / "eval_segments.csv", f"# comment\n{line}\n")
    with pytest.raises(InputError, match=r"eval_segments\.csv, line 2: .*expected YTID"):
        corpora.open(folder)


def test_audioset_needs_its_classes(tmp_path: Path) -> None:
    folder = copies.audioset(tmp_path)
    (folder / "class_labels_indices.csv").unlink()
    with pytest.raises(InputError, match=r"found neither class_labels_indices\.csv nor ontology\.json"):
        corpora.open(folder)
    copies.text(folder / "ontology.json", "{}x")
    with pytest.raises(InputError, match=r"ontology\.json: no list of entities"):
        corpora.open(folder)


def test_gtzan(tmp_path: Path) -> None:
    folder = copies.gtzan(tmp_path / "set")
    corpus = corpora.open(folder)
    assert corpora.layout(folder).name == "gtzan" and corpus.labels == copies.GENRES
    assert Counter((clip.label, clip.fold) for clip in corpus.clips) == {
        (genre, fold): 10 for genre in copies.GENRES for fold in range(1, 11)
    }
    assert [path.name for path in corpus.defects] == ["jazz.00054.wav"]
    folds = {clip.path.name: clip.fold for clip in corpus.clips}
    (folder / "genres" / "jazz" / "jazz.00054.wav").unlink()  # many copies are without it
    without = corpora.open(folder)
    assert len(without.clips) == 999 and without.defects == ()
    assert all(folds[clip.path.name] == clip.fold for clip in without.clips)
    (folder / "genres").rename(folder / "genres_original")
    assert corpora.open(folder / "genres_original").labels == corpora.open(folder).labels
    (folder / "genres_original" / "rock" / "rock.00003.wav").unlink()
    with pytest.raises(InputError, match=r"rock/rock\.00003\.wav is not there; restore it$"):
        corpora.open(folder)
    for name in ("rock.00100.wav", "pop.00001.wav", "mine.wav"):
        other = copies.text(folder / "genres_original" / "rock" / name, "")
        with pytest.raises(InputError, match=rf"{name}: expected rock\.00000 to rock\.00099"):
            corpora.open(folder)
        other.unlink()


def test_gtzan_folds_are_the_same_everywhere() -> None:
    assert [gtzan.fold("blues", number) for number in range(8)] == [4, 9, 10, 8, 7, 9, 8, 5]


def test_esc10_is_a_part_of_esc50(tmp_path: Path) -> None:
    folder = copies.esc50(tmp_path)
    whole, part = corpora.open(folder), corpora.open(folder, "esc10")
    assert (whole.labels, whole.folds) == (("chirping_birds", "dog", "rain"), (1, 2, 3, 4, 5))
    assert part.clips == tuple(clip for clip in whole.clips if clip.label in ("dog", "rain"))
    assert whole.clips[0].group == whole.clips[1].group != whole.clips[2].group
    assert whole.seconds == (5.0, 5.0) and "Piczak" in whole.citation
    assert (whole.licence, part.licence) == ("CC BY-NC 3.0", "CC BY 3.0")


def test_ravdess(tmp_path: Path) -> None:
    folder = copies.ravdess(tmp_path / "set" / "Audio_Speech_Actors_01-24").parent
    corpus = corpora.open(folder)
    assert corpora.layout(folder).name == "ravdess" and len(corpus.clips) == 1440
    assert corpus.labels == ravdess.EMOTIONS and len(corpus.labels) == 8
    assert Counter(clip.label for clip in corpus.clips) == {
        **dict.fromkeys(corpus.labels, 192), "neutral": 96
    }  # fmt: skip
    actors = {fold: {clip.group for clip in corpus.clips if clip.fold == fold} for fold in corpus.folds}
    assert [len(of) for of in actors.values()] == [6, 6, 6, 6] and len(set.union(*actors.values())) == 24
    for of in actors.values():
        assert sum(int(actor.split()[1]) % 2 for actor in of) == 3
    assert (corpora.open(folder / "Audio_Speech_Actors_01-24").clips) == corpus.clips
    path = folder / "Audio_Speech_Actors_01-24" / "Actor_07" / "03-01-06-01-02-01-07.wav"
    assert next(clip for clip in corpus.clips if clip.path == path).labels == ("fearful",)
    path.rename(path.with_name("03-01-06-01-02-01-08.wav"))
    with pytest.raises(InputError, match="its name says actor 8; expected it in Actor_08"):
        corpora.open(folder)
    path.with_name("03-01-06-01-02-01-08.wav").unlink()
    with pytest.raises(InputError, match=r"Actor_07/03-01-06-01-02-01-07\.wav is not there"):
        corpora.open(folder)


_parts = st.tuples(*(st.integers(1, most) for most in (3, 2, 8, 2, 2, 2, 24))).filter(lambda it: it[2:4] != (1, 2))


@given(_parts)
def test_names_of_ravdess_say_what_they_say(parts: tuple[int, ...]) -> None:
    stem = "-".join(f"{part:02}" for part in parts)
    name = ravdess.decode_name(stem)
    assert str(name) == stem and name.actor == parts[-1] and name.emotion == parts[2] and 1 <= name.fold <= 4


@given(
    st.one_of(
        st.text(max_size=24),
        st.lists(st.integers(0, 99), min_size=7, max_size=7).map(lambda it: "-".join(f"{n:02}" for n in it)),
    )
)
def test_other_names_are_no_ravdess(stem: str) -> None:
    try:
        name = ravdess.decode_name(stem)
    except InputError as error:
        assert str(error).startswith(f"{stem}: ")
    else:
        assert str(name) == stem


@given(
    st.sampled_from("0123456789"), st.text(st.characters(exclude_characters="_/\0"), min_size=1), st.integers(0, 10**6)
)
def test_names_of_spoken_digits_say_what_they_say(digit: str, speaker: str, index: int) -> None:
    assert fsdd.decode_name(f"{digit}_{speaker}_{index}") == fsdd.Name(digit, speaker, index)


@pytest.mark.parametrize("stem", ["jackson_7_32", "7_jackson", "77_jackson_1", "7__1", "7_jackson_x"])
def test_other_names_are_no_spoken_digits(stem: str) -> None:
    with pytest.raises(InputError, match=f"{stem}: expected a digit"):
        fsdd.decode_name(stem)


def test_tau2022(tmp_path: Path) -> None:
    folder = copies.tau2022(tmp_path)
    corpus = corpora.open(folder)
    assert (corpus.labels, corpus.folds, corpus.splits) == (("airport", "bus"), (), ("training", "testing"))
    assert Counter(clip.split for clip in corpus.clips) == {"training": 8, "testing": 7, None: 1}
    places = {(clip.city, clip.group, clip.device) for clip in corpus.clips}
    assert places == set(itertools.product(("lisbon",), ("lisbon-1000",), ("a", "s1"))) | set(
        itertools.product(("paris",), ("paris-7",), ("a", "s1"))
    )
    assert corpus.seconds == (1.0, 1.0)
    setup = folder / "evaluation_setup" / "fold1_train.csv"
    setup.write_text(setup.read_text() + "audio/none.wav\tbus\n")
    with pytest.raises(InputError, match=r"meta\.csv: lacks audio/none\.wav"):
        corpora.open(folder)
    setup.write_text(setup.read_text() + "audio/none.wav\tbus\n")
    with pytest.raises(InputError, match=r"fold1_train\.csv, line 11: audio/none\.wav is in the setup twice"):
        corpora.open(folder)
    setup.unlink()
    with pytest.raises(InputError, match=r"fold1_train\.csv: cannot be read"):
        corpora.open(folder)


def test_urbansound8k(tmp_path: Path) -> None:
    folder = copies.urbansound8k(tmp_path)
    corpus = corpora.open(folder)
    assert [(clip.label, clip.fold, clip.group, clip.source.partition(" by ")[2]) for clip in corpus.clips] == [
        ("dog_bark", 5, "100032", "nfrae"),
        ("children_playing", 5, "100263", "sage by the sea"),
        ("children_playing", 5, "100263", "sage by the sea"),
        ("dog_bark", 10, "99", ""),
    ]
    assert {clip.licence for clip in corpus.clips} == {"CC BY-NC 3.0"}
    (folder / "audio" / "fold5" / "100032-3-0-0.wav").unlink()
    (folder / "audio" / "fold10" / "99-3-0-0.wav").unlink()
    with pytest.raises(InputError, match=r"line 2: .*100032-3-0-0\.wav is not there; .* \(1 more; edgeq data check"):
        corpora.open(folder)


def test_speech_commands(tmp_path: Path) -> None:
    folder = copies.speech_commands(tmp_path)
    corpus = corpora.open(folder)
    assert (corpus.labels, corpus.splits) == (("no", "yes"), ("training", "validation", "testing"))
    groups = {clip.group: clip.split for clip in corpus.clips}
    assert groups == {"0a7c2a8d": "training", "1b4c9b89": "validation", "bb05582b": "testing"}
    (folder / "testing_list.txt").write_text("../no.wav\n")
    with pytest.raises(InputError, match="leads out of"):
        corpora.open(folder)
    (folder / "testing_list.txt").write_text("yes/gone_nohash_0.wav\n")
    with pytest.raises(InputError, match=r"testing_list\.txt: .*gone_nohash_0\.wav is not there"):
        corpora.open(folder)
    (folder / "testing_list.txt").write_text("yes/1b4c9b89_nohash_0.wav\n")
    with pytest.raises(InputError, match="listed twice"):
        corpora.open(folder)


def test_spoken_digits(tmp_path: Path) -> None:
    corpus = corpora.open(copies.fsdd(tmp_path))
    assert {(clip.group, clip.fold) for clip in corpus.clips} == {("george", 1), ("jackson", 2), ("theo", 3)}
    assert Counter(clip.label for clip in corpus.clips) == {"0": 6, "7": 6} and len(corpus.labels) == 10
    copies.noise(tmp_path / "recordings" / "mine.wav")
    with pytest.raises(InputError, match="mine: expected a digit"):
        corpora.open(tmp_path, "fsdd")


@pytest.mark.parametrize("copy", [copies.fsdd, copies.ravdess, copies.gtzan, copies.speech_commands, copies.audioset])
def test_hidden_files_are_passed_over(tmp_path: Path, copy: Callable[[Path], Path]) -> None:
    """As they lie beside each recording that was on a Macintosh."""
    folder = copy(tmp_path)
    layout, clips = corpora.layout(folder).name, corpora.layout(folder).read(folder).clips
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        for number in range(3):
            path.with_name(f"._{number}{path.name}").write_bytes(b"")
        path.with_name(f"._{path.name}").write_bytes(b"")
    assert corpora.layout(folder).name == layout and corpora.layout(folder).read(folder).clips == clips


def test_real_spoken_digits() -> None:
    folder = data_folder() / "fsdd"
    if not folder.is_dir():
        pytest.skip(f"no real recordings: {folder} is not there (set EDGEQ_DATA to the folder that holds fsdd)")
    corpus = corpora.open(folder)
    speakers = sorted({clip.group for clip in corpus.clips})
    assert len(corpus.clips) == 500 * len(speakers) and corpus.folds == tuple(range(1, len(speakers) + 1))
    assert {clip.path.parent.name for clip in corpus.clips if clip.fold == 1} == {speakers[0]}


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    corpus = corpora.open(copies.labelled(tmp_path))
    assert corpus.multi_label and corpus.folds == (1, 2)
    assert [clip.labels for clip in corpus.clips] == [("dog", "rain"), ("rain",)]
    single = copies.labelled(tmp_path, "path,label,split", ("a.wav,dog,testing", "b/c.wav,rain,"))
    corpus = corpora.open(single)
    assert not corpus.multi_label and [clip.split for clip in corpus.clips] == ["testing", None]
    shutil.copy(tmp_path / "table.csv", tmp_path / "other.csv")
    with pytest.raises(InputError, match=r"found other\.csv, table\.csv, expected one"):
        corpora.open(tmp_path)


@pytest.mark.parametrize(
    ("header", "line", "message"),
    [
        ("path,label,split", "a.wav,dog,test", "line 2: split 'test': expected one of training, validation, testing"),
        ("path,label,fold", "a.wav,dog,x", "line 2: fold 'x'"),
        ("path,label", "../a.wav,dog", "leads out of"),
        ("path,label", "gone.wav,dog", r"line 2: .*gone\.wav is not there"),
        ("path,label", f"{'long' * 99}.wav,dog", r"line 2: .*long\.wav is not there"),
        ("path,labels", "a.wav,;", "found 1 class"),
    ],
)
def test_a_table_of_ones_own_is_read_strictly(tmp_path: Path, header: str, line: str, message: str) -> None:
    folder = copies.labelled(tmp_path, header, (line, "b/c.wav,rain"))
    with pytest.raises(InputError, match=message):
        corpora.open(folder)


def test_verify_takes_labels_from_the_corpus(tmp_path: Path) -> None:
    digits = verify._clips(copies.fsdd(tmp_path / "digits"))
    assert Counter(label for _, label in digits) == {"0": 6, "7": 6}
    assert [label for _, label in verify._clips(copies.audioset(tmp_path / "audioset"))] == [None, "Dog", None, "Rain"]
    copies.noise(tmp_path / "plain" / "dog" / "a.wav")
    copies.noise(tmp_path / "plain" / "b.wav")
    assert [label for _, label in verify._clips(tmp_path / "plain")] == [None, "dog"]
