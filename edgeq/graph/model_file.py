"""The bytes of a model file, for every reader of one."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from edgeq.errors import InputError

LARGEST_FILE = 1 << 30
"""Bytes; flatbuffers and protobuf end at 2 GiB."""


def content(path: Path) -> bytes:
    """All of an .onnx or .tflite file. Raises InputError where it cannot be read, or is larger than LARGEST_FILE."""
    with _opened(path) as handle:
        return handle.read()


def mapped(path: Path) -> bytes | mmap.mmap:
    """All of such a file without a copy: only what is looked at is read from the disk. Raises as `content`."""
    with _opened(path) as handle:
        empty = not os.fstat(handle.fileno()).st_size  # nothing to map
        return b"" if empty else mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)


def checked(path: Path) -> Path:
    """The path of such a file, for a reader of its own. Raises as `content`."""
    with _opened(path):
        return path


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as handle:
            size = os.fstat(handle.fileno()).st_size
            if size > LARGEST_FILE:
                raise InputError(f"{path}: {size} bytes, expected a model of at most {LARGEST_FILE}")
            yield handle
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; expected an .onnx or .tflite model") from None
