"""What the commands on corpora show: of a terminal's width, of a file a line each, and what to do next."""

from __future__ import annotations

from pathlib import Path

import corpus_copies as copies
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from edgeq import cli, corpora, show
from edgeq.show import cells

WORDS = st.lists(st.text("abcdefgh.,[/]", min_size=1, max_size=14), min_size=1, max_size=40)
NAMES = st.sampled_from(("clips", "at fault", "cite"))


def shown(rows: list[tuple[str, str, str]], width: int, terminal: bool) -> list[str]:
    console = Console(width=width, force_terminal=terminal, color_system=None, highlight=False)
    with console.capture() as captured:
        cells.facts(console, rows)
    return captured.get().splitlines()


@given(st.lists(st.tuples(NAMES, WORDS), min_size=1, max_size=5), st.integers(30, 100))
def test_facts_are_wrapped_between_words_beside_their_names(facts: list[tuple[str, list[str]]], width: int) -> None:
    lines = shown([(name, "red", " ".join(words)) for name, words in facts], width, True)
    assert all(len(line) <= width for line in lines)
    margin = 2 + max(len(name) for name, _ in facts)
    assert [line[:margin].strip() for line in lines if line[:margin].strip()] == [name for name, _ in facts]
    assert " ".join(line[margin:].strip() for line in lines).split() == [word for _, words in facts for word in words]


@given(st.lists(st.tuples(NAMES, WORDS), min_size=1, max_size=5))
def test_in_a_file_every_fact_is_a_line(facts: list[tuple[str, list[str]]]) -> None:
    lines = shown([(name, "red", " ".join(words)) for name, words in facts], 30, False)
    assert [line.split() for line in lines] == [[*name.split(), *words] for name, words in facts]


def test_lengths_and_sizes_are_told_in_units_that_fit() -> None:
    hours = {3.0: "3.0 hours", 0.5: "30.0 minutes", 0.01: "36.0 seconds", 5800.0: "5,800.0 hours"}
    assert {value: cells.hours(value) for value in hours} == hours
    sizes = {950: "0.9 kB", 8_184_832: "8.2 MB", 64_000_000_000: "64.0 GB", 680_000_000_000_000: "680.0 TB"}
    assert {value: cells.size(value) for value in sizes} == sizes
    told = [cells.counted(1, "class", "classes"), cells.counted(2000, "class", "classes"), cells.counted(0, "shard")]
    assert told == ["1 class", "2,000 classes", "0 shards"]


def test_the_help_tells_every_layout_and_by_what_it_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["data", "check", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert all(f"{one.name} {one.holds}" in told for one in corpora.LAYOUTS)


def left(*arguments: object) -> object:
    with pytest.raises(SystemExit) as stop:
        cli.main([str(one) for one in arguments])
    return stop.value.code


def test_a_sound_corpus_says_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    copies.speech_commands(Path("words"))
    assert left("data", "check", "words") == 0
    told = capsys.readouterr().out
    assert "next: edgeq train RECIPE --data words, or edgeq data pack words -o PACKED" in told
    assert "0.90 s each" in told and "6 of 2 classes, 5.4 seconds; layout speech-commands" in told
    assert left("data", "pack", "words", "-o", "shards") == 0
    told = capsys.readouterr().out
    assert "in 1 shard\n" in told and "next: edgeq train RECIPE --data shards" in told
    assert left("data", "pack", "words", "-o", "shards") == 0
    assert "in 1 shard, 1 of them there already\n" in capsys.readouterr().out
    assert left("data", "check", "shards") == 0
    assert "next: edgeq train RECIPE --data shards" in capsys.readouterr().out


def test_damage_is_listed_and_then_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = copies.labelled(tmp_path / "own")
    (folder / "a.wav").write_bytes(b"")
    table = folder / "table.csv"
    table.write_text(table.read_text() + "b/c.wav,rain,1\n")
    assert left("data", "check", folder) == 1
    out, error = capsys.readouterr()
    assert "next:" not in out and "a.wav: an empty file" in out and "is listed twice" in out
    assert error.endswith(": 1 listed twice, 1 empty; mend them as the list says, and check again\n")


def test_of_very_many_faults_the_first_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    damaged = [{"file": f"{number}.wav", "reason": "cannot be decoded"} for number in range(13)]
    packed = {"corpus": "a", "packed": "p", "clips": 5, "hours": 1.0, "bytes": 10**9, "shards": 2, "kept": 0}
    show.packing({**packed, "damaged": damaged, "missing": ["gone"]})
    told = capsys.readouterr().out
    assert told.count("cannot be decoded") == 10 and "3 more; p/index.json lists all" in told
    assert "1 that the corpus's tables name" in told and "5 of a, 1.0 hours, 1.0 GB in 2 shards\n" in told
