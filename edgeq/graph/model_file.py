"""The bytes of a model file, for every reader of one."""

from __future__ import annotations

from pathlib import Path

from edgeq.errors import InputError

LARGEST_FILE = 1 << 30
"""Bytes; flatbuffers and protobuf end at 2 GiB."""


def content(path: Path) -> bytes:
    """All of an .onnx or .tflite file. Raises InputError where it cannot be read, or is larger than LARGEST_FILE."""
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise InputError(f"{path}: {size} bytes, expected a model of at most {LARGEST_FILE}")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; expected an .onnx or .tflite model") from None
