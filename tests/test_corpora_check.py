"""A copy of a corpus is held against what it is published as; clips that cannot be used are found, few left out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import corpus_copies as copies
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from edgeq import cli, corpora
from edgeq.corpora.check import check
from edgeq.corpora.soundness import sound, soundness
from edgeq.errors import CheckFailed, InputError


def damaged(folder: Path) -> Path:
    """ESC-50 with one clip of each kind of damage, and one that is there twice."""
    audio = sorted((copies.esc50(folder) / "audio").iterdir())
    audio[0].unlink()
    audio[1].write_bytes(b"")
    soundfile.write(audio[2], np.zeros(0, np.float32), 8000)
    audio[3].write_bytes(audio[3].read_bytes()[:-500])
    audio[4].write_bytes(b"no sound" * 99)
    copies.noise(audio[5], 4.9, 5)
    audio[6].write_bytes(audio[7].read_bytes())
    return folder


KINDS = ["missing", "empty", "empty", "unreadable", "unreadable", "length"]


def test_damage_is_told_kind_by_kind(tmp_path: Path) -> None:
    folder = damaged(tmp_path / "set")
    audio = sorted(copies.esc50(tmp_path / "whole").glob("audio/*"))
    report = check(folder)
    told = report.to_json()
    kinds = {fault.path.name: fault.kind for fault in report.damage}
    assert kinds == dict(zip((path.name for path in audio), KINDS, strict=False))
    assert told["missing"] == [f"audio/{audio[0].name}"] and not told["ok"]
    assert {fault["file"] for fault in told["faults"]} == {f"audio/{path.name}" for path in audio[1:6]}
    assert sorted(map(sorted, told["duplicates"])) == [[f"audio/{path.name}" for path in audio[6:8]]]
    assert told["clips"] == 11 and sum(told["sample_rates"].values()) == 7


def test_headers_alone_are_blind_to_what_lies_behind(tmp_path: Path) -> None:
    folder = copies.tau2022(tmp_path)
    path = sorted((folder / "audio").iterdir())[0]
    samples, rate = soundfile.read(path)
    soundfile.write(path, samples, rate, subtype="FLOAT")
    content = bytearray(path.read_bytes())
    content[-4:] = np.float32(np.nan).tobytes()
    path.write_bytes(content)
    assert check(folder, headers=True).damage == () and check(folder, headers=True).duplicates is None
    assert [fault.path for fault in check(folder).damage] == [path]


def test_a_sound_copy(tmp_path: Path) -> None:
    told = check(copies.tau2022(tmp_path / "tau")).to_json()
    assert told["ok"] and told["missing"] == told["faults"] == told["duplicates"] == []
    assert told["layout"] == "tau2022" and told["corpus"] == "tau"
    assert told["devices"] == {"a": 8, "s1": 8} and told["cities"] == {"lisbon": 8, "paris": 8}
    assert told["splits"] == {"testing": 7, "training": 8}
    assert told["hours"] == pytest.approx(16 / 3600) and told["channels"] == {"1": 16}
    assert told["labels"][0] == {
        "label": "airport", "clips": 8, "folds": {}, "splits": {"testing": 3, "training": 4}
    }  # fmt: skip
    assert told["seconds"] == {"least": 1, "median": 1, "most": 1}
    assert "non-commercial" in told["licence"] and "Heittola" in told["citation"]


def test_entries_that_come_twice_or_have_no_class_are_told(tmp_path: Path) -> None:
    folder = copies.esc50(tmp_path / "esc50")
    table = folder / "meta" / "esc50.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join((*lines, lines[3])) + "\n")
    told = check(folder).to_json()
    name = lines[3].split(",")[0]
    assert not told["ok"] and told["clips"] == 12
    assert [(fault["file"], fault["kind"]) for fault in told["faults"]] == [(f"audio/{name}", "duplicate")]
    assert "line 14" in told["faults"][0]["what"]
    folder = copies.audioset(tmp_path / "audioset")
    classes = folder / "class_labels_indices.csv"
    classes.write_text(
        "".join(line for line in classes.read_text().splitlines(keepends=True) if "/m/0bt9lr" not in line)
    )
    told = check(folder).to_json()
    assert [fault["kind"] for fault in told["faults"]] == ["label", "label"] and told["clips"] == 2


def test_what_a_corpus_is_known_for_is_no_damage(tmp_path: Path) -> None:
    told = check(copies.audioset(tmp_path / "audioset")).to_json()
    assert told["ok"] and told["missing"] == ["gone_gone_g_5000"]
    assert told["notes"] == ["clips that it names and that are not there: 1 of 5; it is known for that"]
    tracks = check(copies.gtzan(tmp_path / "gtzan"), headers=True)
    assert {(fault.path.name, fault.kind) for fault in tracks.faults if fault.tolerated} == {
        ("jazz.00054.wav", "unreadable")
    }
    assert {fault.kind for fault in tracks.damage} == {"length"}  # the copy's tracks last a tenth of a second


def test_what_makes_scores_flatter_is_noted(tmp_path: Path) -> None:
    folder = copies.urbansound8k(tmp_path)
    for file in ("fold5/100263-2-0-117.wav", "fold10/99-3-0-0.wav"):
        copies.noise(folder / "audio" / file)
    table = folder / "metadata" / "UrbanSound8K.csv"
    table.write_text(table.read_text().replace("99-3-0-0.wav,99,", "99-3-0-0.wav,100032,"))
    notes = " ".join(check(folder).to_json()["notes"])
    assert "groups in several folds or splits: 1, 100032 among them" in notes
    assert (
        "more than once: 1; of those in several folds or splits: 1, so that scores flatter; under several labels: 1"
        in notes
    )
    empty = check(copies.fsdd(tmp_path / "digits")).to_json()["notes"]
    assert empty == ["classes without a clip: 8 of 10, 1 among them"]


def test_few_clips_that_cannot_be_used_are_left_out(tmp_path: Path) -> None:
    corpus = corpora.open(copies.tau2022(tmp_path))
    corpus.clips[3].path.write_bytes(b"")
    faults = soundness(corpus).faults
    kept = sound(corpus, faults)
    assert kept.clips == [*corpus.clips[:3], *corpus.clips[4:]] and kept.labels == corpus.labels
    assert [(fault.path, fault.kind) for fault in faults] == [(corpus.clips[3].path, "empty")]
    headers = soundness(corpus).headers
    assert headers.usable.tolist() == [True] * 3 + [False] + [True] * 12
    assert headers.seconds[0] == 1 and np.isnan(headers.seconds[3]) and headers.channels[0] == 1
    corpus.clips[5].path.write_bytes(b"")
    with pytest.raises(InputError, match="2 of 16 clips cannot be used, and no more than 10% are left out"):
        sound(corpus, soundness(corpus).faults)
    short = soundness(corpus, least=1.01).faults
    assert [fault.kind for fault in short].count("short") == 14
    assert short[0].what.endswith("1.000 s, expected at least 1.010 s")
    lone = replace(corpus, clips=corpus.clips[5:6])
    with pytest.raises(InputError, match="1 of 1 clips cannot be used"):
        sound(lone, soundness(lone).faults)


def test_processes_find_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = damaged(tmp_path)
    alone = check(folder)
    monkeypatch.setattr("edgeq.corpora.soundness._WORTH_A_PROCESS", 2)
    monkeypatch.setattr("edgeq.corpora.soundness._TOGETHER", 3)
    found = check(folder, jobs=2)
    assert found.to_json() == alone.to_json() and found.faults == alone.faults


def run(*arguments: str) -> tuple[str, BaseException | None]:
    result = CliRunner().invoke(cli.commands, ["data", "check", *arguments], standalone_mode=False)
    return result.stdout, result.exception


def test_the_command_leaves_with_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(damaged(tmp_path / "set"))
    out, error = run(folder, "--json")
    told = json.loads(out)
    assert {"corpus", "clips", "missing"} <= told.keys() and told["corpus"] == "set"
    assert isinstance(error, CheckFailed)
    for count in ("1 missing", "2 unreadable", "2 empty", "1 of wrong length"):
        assert count in str(error)
    whole = str(copies.esc50(tmp_path / "whole"))
    assert run(whole, "--layout", "esc10", "--json")[1] is None
    with pytest.raises(SystemExit) as left:
        cli.main(["data", "check", folder])
    assert left.value.code == 1
    shown = capsys.readouterr()
    assert "missing" in shown.out and "equal" in shown.out and "CC BY-NC" in shown.out and "Piczak" in shown.out
    for wrong in (tmp_path / "gone", tmp_path):
        with pytest.raises(SystemExit) as left:
            cli.main(["data", "check", str(wrong), "--layout", "esc50"])
        assert left.value.code == 2


def test_many_classes_are_shown_at_their_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"{i}.wav,class {i % 50}" for i in range(60)]
    for i in range(60):
        copies.noise(tmp_path / f"{i}.wav", 0.05, i)
    copies.text(tmp_path / "table.csv", "\n".join(("path,label", *lines)) + "\n")
    with pytest.raises(SystemExit):
        cli.main(["data", "check", str(tmp_path)])
    shown = capsys.readouterr().out
    assert "and 10 between" in shown and "class 0" in shown and "class 49" in shown and "sound" in shown
