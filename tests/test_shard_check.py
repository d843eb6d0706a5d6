"""A packed corpus is held against its checksums, file by file."""

from __future__ import annotations

import json
from pathlib import Path

import corpus_copies as copies
import pytest

from edgeq import cli
from edgeq.corpora import pack, packed
from edgeq.corpora.shard_check import check_shards
from edgeq.errors import InputError


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A corpus in several shards."""
    pack.pack(copies.tau2022(tmp_path / "tau"), tmp_path / "packed", shard_megabytes=0.06, jobs=1)
    return tmp_path / "packed"


def test_each_file_is_compared(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = check_shards(shards).to_json()
    files = sorted(shards.glob("shard-*.tar"))
    assert told["ok"] and told["clips"] == 16 and told["shards"] == len(files) >= 4
    assert told["bytes"] == sum(path.stat().st_size for path in files) and "Heittola" in told["citation"]
    content = bytearray(files[0].read_bytes())
    content[1000] ^= 1
    files[0].write_bytes(content)
    files[1].write_bytes(files[1].read_bytes()[:-512])
    files[2].unlink()
    report = check_shards(shards)
    assert [(fault.path, fault.kind) for fault in report.damage] == [
        (files[0], "unreadable"),
        (files[1], "unreadable"),
        (files[2], "missing"),
    ]
    assert [fault.path for fault in check_shards(shards, sizes=True).damage] == files[1:3]
    (shards / packed.ARRAYS).write_bytes(b"none")
    with pytest.raises(SystemExit) as left:
        cli.main(["data", "check", str(shards), "--json"])
    assert left.value.code == 1
    told = json.loads(capsys.readouterr().out)
    assert told["missing"] == [files[2].name]
    assert [fault["file"] for fault in told["faults"]] == [packed.ARRAYS, files[0].name, files[1].name]


def test_sound_shards_leave_with_0(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["data", "check", str(shards)])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert "16 of tau" in shown and "sound" in shown and "non-commercial" in shown
    index = json.loads((shards / packed.INDEX).read_text())
    (shards / packed.INDEX).write_text(json.dumps(index | {"citation": index["citation"].replace("T", "t")}))
    with pytest.raises(InputError, match=r"index\.json: damaged"):
        check_shards(shards)
    (shards / packed.INDEX).write_text("{}")
    with pytest.raises(InputError, match="not the index of a packed corpus"):
        check_shards(shards)
