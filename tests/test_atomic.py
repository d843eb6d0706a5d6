"""Files and folders are whole or absent, whatever happens on the way."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edgeq import atomic


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_write_replaces_the_old_content_and_leaves_nothing_beside(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.bin"
    atomic.write_bytes(target, b"old")
    atomic.write_bytes(target, b"new")
    assert target.read_bytes() == b"new"
    assert names(target.parent) == ["file.bin"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file.bin"
    atomic.write_bytes(target, b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space") as caught:
        atomic.write_bytes(target, b"new")
    assert caught.value.filename == str(target)
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["file.bin"]


def test_errors_name_the_place_asked_for(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    for filename in (None, str(tmp_path / ".folder.abc" / "file"), "/elsewhere"):
        with pytest.raises(OSError) as caught, atomic.folder(target):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), filename)
        assert caught.value.filename == ("/elsewhere" if filename == "/elsewhere" else str(target))


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link"
    link.symlink_to("real")
    with atomic.folder(link) as beside:
        (beside / "a").write_text("1")
    assert link.is_symlink()
    assert names(tmp_path / "real") == ["a"]
    assert names(tmp_path) == ["link", "real"]


def test_a_real_full_device_is_an_os_error() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(OSError), Path("/dev/full").open("wb") as handle:
        handle.write(b"x" * 1_000_000)


def test_a_folder_takes_its_place_only_when_complete(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    with atomic.folder(target) as beside:
        (beside / "a").write_text("1")
        assert not target.exists()
    assert names(target) == ["a"]

    with pytest.raises(RuntimeError), atomic.folder(target) as beside:
        (beside / "b").write_text("2")
        raise RuntimeError("killed on the way")
    assert names(target) == ["a"]
    assert names(tmp_path) == ["bundle"]

    with atomic.folder(target) as beside:
        (beside / "c").write_text("3")
    assert names(target) == ["c"]
    assert names(tmp_path) == ["bundle"]


def test_permissions_are_the_usual_ones(tmp_path: Path) -> None:
    (tmp_path / "usual").write_text("")
    atomic.write_text(tmp_path / "written", "")
    assert (tmp_path / "written").stat().st_mode == (tmp_path / "usual").stat().st_mode
