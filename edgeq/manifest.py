"""What may stand in a bundle: every rule that its manifest and files are held to before any of it is used."""

from __future__ import annotations

import json
import math
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.errors import InputError

MANIFEST = "bundle.json"

_MAX_FILE_BYTES = 1 << 30
_MAX_PATH = 255


@dataclass(frozen=True)
class FileRecord:
    """What a file of a bundle has to be: sha256 in hexadecimal, and size."""

    sha256: str
    bytes: int


def parse(where: Path, content: bytes, mend: str = "restore the bundle") -> Any:
    """A file's JSON value, without NaN and infinities.

    Raises InputError where it is something else, naming the file and the mend.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"the constant {constant}")

    def finite(digits: str) -> float:
        number = float(digits)
        if math.isinf(number):
            raise ValueError(f"the number {digits:.20}")
        return number

    try:
        return json.loads(content.decode(), parse_constant=refuse, parse_float=finite)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({error}); {mend}") from error


def dump(value: Any) -> bytes:
    """JSON of a value; equal values give equal bytes. Raises InputError where it is not plain JSON."""
    try:
        return (json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n").encode()
    except (TypeError, ValueError) as error:
        raise InputError(f"bundle: {error}; provenance and metrics hold plain JSON values only") from error


def record(path: str, record: Any) -> FileRecord:
    """The record of a listed file. Raises InputError where its path could lead out, or a field is wrong."""
    plain = path.isprintable() and len(path) <= _MAX_PATH and not {"\\", ":"} & set(path)
    if not plain or {"", ".", ".."} & set(path.split("/")):
        raise InputError(
            f"file {path!r:.99}: expected a plain relative path inside the bundle; do not trust this bundle"
        )
    valid = isinstance(record, dict) and set(record) == {"sha256", "bytes"}
    if not valid or type(record["bytes"]) is not int or not 0 <= record["bytes"] <= _MAX_FILE_BYTES:
        raise InputError(f"file {path!r}: expected sha256 and bytes (at most {_MAX_FILE_BYTES}), found {record!r:.100}")
    if not isinstance(record["sha256"], str) or not re.fullmatch("[0-9a-f]{64}", record["sha256"]):
        raise InputError(f"file {path!r}: sha256 {record['sha256']!r:.100}: expected 64 hexadecimal digits")
    return FileRecord(record["sha256"], record["bytes"])


def located(folder: Path, path: str, record: FileRecord) -> Path:
    """Where a listed file lies, once it is known to be a plain file inside the folder, of the recorded size."""
    place = folder / path
    try:
        if not place.resolve(strict=True).is_relative_to(folder.resolve()):
            raise InputError(f"{place}: a link that leads out of the bundle; do not trust this bundle")
        found = place.stat()
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise InputError(f"{place}: listed in {MANIFEST} but not there; restore the file or the bundle") from error
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{place}: not a plain file; restore the bundle")
    if found.st_size != record.bytes:
        raise InputError(f"{place}: {found.st_size} bytes, expected {record.bytes}; restore the file or the bundle")
    return place


def checked_name(name: str) -> str:
    """The name of a bundle, which names files. Raises InputError where a file could not be called so everywhere."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise InputError(f"name {name!r:.120}: expected letters, digits, '.', '_' and '-', at most 100")
    return name


def checked_labels(labels: Sequence[Any], classes: int) -> tuple[str, ...]:
    """The labels of a bundle. Raises InputError where they are not one a class, printable and distinct."""
    for label in labels:
        if not isinstance(label, str) or not label.strip() or not label.isprintable():
            raise InputError(f"label {label!r:.100}: expected a name that can be printed")
    if len(labels) != classes:
        raise InputError(
            f"{len(labels)} labels for {classes} classes; expected one a class, in the order of the outputs"
        )
    if len(set(labels)) != len(labels):
        twice = next(label for index, label in enumerate(labels) if label in labels[:index])
        raise InputError(f"label {twice!r} comes twice; expected one a class")
    return tuple(labels)


def check_weights(where: str, weights: Mapping[str, np.ndarray]) -> None:
    """Raises InputError where there are no weights, or one is not finite float32."""
    if not weights:
        raise InputError(f"{where}: found no tensor, expected a network's weights")
    for key, value in weights.items():
        if value.dtype != np.float32:
            raise InputError(f"{where}: {key} is {value.dtype}, expected float32; drop counters, convert the rest")
        if not np.isfinite(value).all():
            raise InputError(f"{where}: {key} holds NaN or infinity; the training diverged or the file is damaged")


def checked_ranges(where: str, ranges: Any) -> dict[str, tuple[float, float]]:
    """Activation ranges from JSON. Raises InputError where one is not [least, largest], finite and in order."""
    if not isinstance(ranges, dict):
        raise InputError(f"{where}: expected an object of tensor: [least, largest]; write the bundle again")
    for key, pair in ranges.items():
        valid = isinstance(pair, list) and len(pair) == 2 and all(type(value) in (int, float) for value in pair)
        if not valid or not (abs(pair[0]) < 1e30 and abs(pair[1]) < 1e30 and pair[0] <= pair[1]):
            raise InputError(
                f"{where}: {key}: {pair!r:.100}: expected [least, largest], finite; write the bundle again"
            )
    return {key: (float(low), float(high)) for key, (low, high) in ranges.items()}
