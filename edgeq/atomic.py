"""Files and folders that are either whole or absent: written beside their place, then renamed into it."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A new file beside `path` to write to; it takes the place of `path` only when the block ends without an error.

    Raises OSError naming `path` (a full disk, no permission); what stood there before is then untouched.
    """
    with _naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        beside = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as handle:
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            beside.chmod(0o666 & ~_umask())
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part. Raises OSError as `opened`."""
    with opened(path) as handle:
        handle.write(data)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8 text."""
    write_bytes(path, text.encode())


@contextlib.contextmanager
def folder(path: Path) -> Iterator[Path]:
    """Fill a new folder beside `path`; it takes the place of `path` only when the block ends without an error.

    Where `path` is a link to a folder, that folder is replaced. Raises OSError naming `path` as the file system does;
    what stood there before is then untouched.
    """
    with _naming(path):
        path = path.resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        try:
            yield beside
            _keep_on_disk(beside)
            beside.chmod(0o777 & ~_umask())
            if path.exists():
                replaced = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
                path.replace(replaced / path.name)
                try:
                    beside.replace(path)
                except BaseException:
                    (replaced / path.name).replace(path)
                    raise
                finally:
                    shutil.rmtree(replaced, ignore_errors=True)
            else:
                beside.replace(path)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def _keep_on_disk(folder: Path) -> None:
    """Bring the files of a folder to the disk: a rename that survives a power cut must not find them empty."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as handle:
                os.fsync(handle.fileno())


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let an error of the file system name the place that was asked for, not what is written beside it."""
    try:
        yield
    except OSError as error:
        if error.filename is None or f".{path.name}." in str(error.filename):
            error.filename = str(path)
        raise


def _umask() -> int:
    # The process mask can only be read by setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask
