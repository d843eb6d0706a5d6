"""Corpora are read as they lie on disk, and whatever does not agree is refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq import corpora
from edgeq.corpora import Clip, Corpus, Fault
from edgeq.corpora.trained import trained_on
from edgeq.errors import InputError


def esc50_folder(root: Path, table: str, files: tuple[str, ...] = (), name: str = "meta.csv") -> Path:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(table, encoding="utf-8")
    for file in files:
        path = root / "audio" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.encode())
    return root


TABLE = "file,fold,category,clip_licence\na.wav,1,dog,CC0\nsub/b.wav,2,cat,CC-Sampling+\nc.wav,2,dog,CC0\n"
FILES = ("a.wav", "sub/b.wav", "c.wav")


def test_reads_the_esc50_layout(tmp_path: Path) -> None:
    corpus = corpora.open(esc50_folder(tmp_path / "set", TABLE, FILES))
    assert corpus.name == "set"
    assert corpus.labels == ("cat", "dog")
    assert corpus.targets == (1, 0, 1)
    assert corpus.folds == (1, 2)
    assert [clip.licence for clip in corpus.clips] == ["CC0", "CC-Sampling+", "CC0"]
    assert [clip.path for clip in corpus.clips] == [tmp_path / "set" / "audio" / file for file in FILES]


def test_reads_the_published_names_of_esc50(tmp_path: Path) -> None:
    table = (
        "filename,fold,target,category,esc10,src_file,take\n1-1-A-0.wav,1,0,dog,True,1,A\n1-2-A-1.wav,1,1,cat,,2,A\n"
    )
    corpus = corpora.open(esc50_folder(tmp_path, table, ("1-1-A-0.wav", "1-2-A-1.wav"), "meta/esc50.csv"))
    assert [(clip.label, clip.fold, clip.source) for clip in corpus.clips] == [("dog", 1, "1"), ("cat", 1, "2")]


def test_leaves_out_licences_and_keeps_classes(tmp_path: Path) -> None:
    corpus = corpora.open(esc50_folder(tmp_path, TABLE, FILES)).without_licences(["CC-Sampling+"])
    assert [clip.label for clip in corpus.clips] == ["dog", "dog"]
    assert corpus.labels == ("cat", "dog")


def test_hash_follows_what_training_would_see(tmp_path: Path) -> None:
    folder = esc50_folder(tmp_path / "one", TABLE, FILES)
    before = corpora.open(folder).hash
    assert corpora.open(esc50_folder(tmp_path / "two", TABLE, FILES)).hash == before
    (folder / "audio" / "a.wav").write_bytes(b"other")
    assert corpora.open(folder).hash != before


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("name,category\na.wav,dog\n", "found audio, meta.csv, expected a corpus in one of these layouts: .*esc50"),
        ("file,fold\na.wav,1\n", "found audio, meta.csv, expected a corpus in one of these layouts: .*esc50"),
        ("file,category\n", "found no clips"),
        ("", "found audio, meta.csv, expected a corpus in one of these layouts: .*esc50"),
        ("file,category\na.wav,dog\nc.wav,dog\n", "found 1 class"),
        ("file,category\na.wav,dog\ngone.wav,cat\n", "line 3: .*gone.wav is not there"),
        ("file,category\na.wav,dog\na.wav,cat\n", "line 3: .*a.wav is listed twice"),
        ("file,category\na.wav,dog\n../../etc/passwd,cat\n", "leads out of"),
        ("file,category\na.wav,dog\n/etc/passwd,cat\n", "leads out of"),
        ("file,category\na.wav,dog\nc.wav,\n", "line 3: .*expected all of them"),
        ("file,category\na.wav,dog\nc.wav\n", "line 3: .*expected all of them"),
        ("file,category,fold\na.wav,dog,one\nc.wav,cat,1\n", "line 2: fold 'one'"),
        ("file,category,fold\na.wav,dog,-1\nc.wav,cat,1\n", "line 2: fold '-1'"),
        ("file,category,fold\na.wav,dog,1234567890\nc.wav,cat,1\n", "line 2: fold '1234567890'.* up to 9 digits"),
        (f"file,category,fold\na.wav,dog,{'9' * 5000}\nc.wav,cat,1\n", "line 2: fold '9{20}.* up to 9 digits"),
    ],
)
def test_refuses_tables_that_do_not_agree(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        corpora.open(esc50_folder(tmp_path, table, FILES))


def test_refuses_a_table_that_is_no_text(tmp_path: Path) -> None:
    esc50_folder(tmp_path, "", FILES)
    (tmp_path / "meta.csv").write_bytes(b"file,category\n\xff\xfe\x00,dog\n")
    with pytest.raises(InputError, match=r"meta\.csv"):
        corpora.open(tmp_path)


@given(st.text(max_size=200))
def test_any_table_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, table: str) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "meta.csv").write_bytes(("file,category,fold\n" + table).encode("utf-8", "surrogatepass"))
    with pytest.raises(InputError):  # no recording is there, so no table is right
        corpora.open(folder)


def test_reads_one_folder_a_class(tmp_path: Path) -> None:
    for name in ("yes/2.WAV", "yes/deep/1.flac", "no/3.mp3", "no/notes.txt", "no/.hidden.wav", ".git/x.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    corpus = corpora.open(tmp_path)
    assert corpus.labels == ("no", "yes")
    assert [clip.path.relative_to(tmp_path).as_posix() for clip in corpus.clips] == [
        "no/3.mp3",
        "yes/2.WAV",
        "yes/deep/1.flac",
    ]
    assert corpus.folds == ()


def test_refuses_folders_that_hold_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found nothing, expected a corpus in one of these layouts: audioset, gtzan"):
        corpora.open(tmp_path)
    for name in "abcd":
        (tmp_path / f"{name}.txt").touch()
    with pytest.raises(
        InputError, match=r"found [a-d].txt, [a-d].txt, [a-d].txt and more, expected .*check --help"
    ) as told:
        corpora.open(tmp_path)
    assert len(str(told.value).removeprefix(str(tmp_path))) < 240, "three lines of a terminal"
    with pytest.raises(InputError, match="found 0 class folders"):
        corpora.open(tmp_path, "folders")
    (tmp_path / "yes").mkdir()
    (tmp_path / "no").mkdir()
    with pytest.raises(InputError, match="no: no recordings"):
        corpora.open(tmp_path)
    with pytest.raises(InputError, match="found nothing"):
        corpora.open(tmp_path / "gone")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="found a file"):
        corpora.open(tmp_path / "file")


def test_reads_esc10(esc10: Path) -> None:
    corpus = corpora.open(esc10)
    assert (len(corpus.clips), len(corpus.labels), corpus.folds) == (320, 10, (1, 2, 3, 4))
    assert len(corpus.without_licences(["CC-Sampling+"]).clips) == 318
    sources: dict[str, set[int | None]] = {}
    for clip in corpus.clips:
        sources.setdefault(clip.path.name.split("-")[1], set()).add(clip.fold)
    assert all(len(folds) == 1 for folds in sources.values()), "clips of one recording lie in one fold"


def test_what_a_model_was_trained_on_is_found_again(tmp_path: Path) -> None:
    corpus = corpora.open(esc50_folder(tmp_path / "set", TABLE, FILES))
    without = corpus.without_licences({"CC-Sampling+"})
    second = corpus.select(lambda clip: clip.fold == 2)
    says = {"corpus": corpus.name, "folds": [], "exclude_licences": ["CC-Sampling+"]}
    says |= {"clips": 2, "corpus_sha256": without.hash}
    other = {"corpus": corpus.name, "folds": [2], "clips": 2, "corpus_sha256": second.hash}
    assert trained_on(says, corpus) == without.clips
    assert trained_on(other, corpus) == second.clips
    assert trained_on({"members": [{"provenance": says}, {"provenance": other}, {}]}, corpus) == corpus.clips
    for change in ({"corpus": "another"}, {"clips": 3}, {"corpus_sha256": "0" * 64}, {"folds": None}):
        assert trained_on({**says, **change}, corpus) == ()
    assert trained_on({}, corpus) == ()


def test_clips_may_have_several_labels() -> None:
    clips = (Clip(Path("a"), ("rain", "dog")), Clip(Path("b"), ("wind",)), Clip(Path("c"), ("dog",)))
    labels = ("dog", "rain", "wind")
    corpus = Corpus("set", clips, labels, multi_label=True)
    assert corpus.positives().tolist() == [[True, True, False], [False, False, True], [True, False, False]]
    assert corpus.positives([2, 0]).tolist() == [[True, False, False], [True, True, False]]
    assert clips[1].label == "wind"
    for one in (lambda: clips[0].label, lambda: corpus.targets):
        with pytest.raises(InputError, match="found 2 labels of a, expected one"):
            one()
    with pytest.raises(InputError, match="a has 2 labels, expected one"):
        Corpus("set", clips, labels)
    with pytest.raises(InputError, match="d has 0 labels, expected at least one"):
        Corpus("set", (*clips, Clip(Path("d"), ())), labels, multi_label=True)
    with pytest.raises(InputError, match="none of the 1 clips of its tables"):
        Corpus("set", (), labels, faults=(Fault(Path("a"), "missing", "a is not there"),))


def test_splits_stand_beside_folds(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_text(name)
    clips = tuple(
        Clip(tmp_path / name, (name,), split=split)
        for name, split in (("a", "testing"), ("b", "training"), ("c", None))
    )
    corpus = Corpus("set", clips, ("a", "b", "c"))
    assert (corpus.splits, corpus.folds) == (("training", "testing"), ())
    assert corpus.targets == (0, 1, 2) and np.array_equal(corpus.positives(), np.eye(3, dtype=bool))
    without = replace(corpus, clips=tuple(replace(clip, split=None) for clip in clips))
    assert corpus.hash != without.hash


def test_a_file_is_in_a_corpus_once() -> None:
    clips = tuple(Clip(Path("a"), (label,)) for label in ("dog", "cat"))
    with pytest.raises(InputError, match="a is listed more than once"):
        Corpus("set", clips, ("cat", "dog"))


def test_parts_are_those_of_a_split_or_a_fold(tmp_path: Path) -> None:
    clips = [Clip(tmp_path / f"{i}", ("ab"[i % 2],), i % 3, split=("training", None)[i % 2]) for i in range(7)]
    corpus = Corpus("parted", tuple(clips), ("a", "b"))
    assert corpus.part("training").tolist() == [0, 2, 4, 6] and corpus.part("testing").tolist() == []
    assert corpus.part(fold=1).tolist() == [1, 4]


@settings(max_examples=25)
@given(
    st.sets(st.from_regex(r"(no|yes)(/[ab.-]{1,3}){0,2}/[aB.-]{1,3}(\.wav|\.WAV|\.txt)", fullmatch=True), max_size=12)
)
def test_recordings_of_folders_are_in_the_order_of_their_paths(
    tmp_path_factory: pytest.TempPathFactory, names: set[str]
) -> None:
    folder = tmp_path_factory.mktemp("order")
    for name in ("no/a.wav", "yes/b.wav", *names):
        if ".." not in Path(name).parts and "." not in name.split("/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
    expected = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() == ".wav" and not any(part[0] == "." for part in path.relative_to(folder).parts)
    )
    assert [clip.path for clip in corpora.open(folder).clips] == expected


def test_links_that_lead_round_in_a_circle_are_passed_over(tmp_path: Path) -> None:
    for name in ("no", "yes"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "z.wav").touch()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "no" / "loop.wav").symlink_to("loop.wav")
    corpus = corpora.open(tmp_path)
    assert corpus.labels == ("no", "yes") and [clip.path.name for clip in corpus.clips] == ["z.wav", "z.wav"]
