"""What becomes of a model file that comes alone, without a bundle: a folder of files, in the contract's words."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq import atomic, verify
from edgeq.errors import InputError


@dataclass(frozen=True, eq=False)
class Exported:
    """What was written: files by path in a folder, all of one format; what the model takes, gives and computes, how it
    was verified, and what else is to be known."""

    folder: Path
    format: str
    files: Mapping[str, bytes]
    input: Mapping[str, Any]
    output: Mapping[str, Any]
    ops: Mapping[str, int]
    report: verify.Report
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The contract's keys; there is no bundle."""
        return {
            "bundle": None,
            "files": [
                {
                    "path": str(self.folder / name),
                    "format": self.format,
                    "bytes": len(content),
                    "sha256": hashlib.sha256(content).hexdigest(),
                }
                for name, content in self.files.items()
            ],
            "input": dict(self.input),
            "output": dict(self.output),
            "ops": dict(self.ops),
            "verify": self.report.to_json(),
            "firmware": None,
            "lowering": {},
            "notes": list(self.notes),
        }


def check_place(folder: Path, names: Iterable[str]) -> None:
    """Raises InputError where a folder holds anything but files of these names, or is none."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file, expected a folder to write to; choose another with -o")
    own = {name.split("/")[0] for name in names}
    others = sorted({entry.name for entry in folder.iterdir()} - own) if folder.exists() else []
    if others:
        raise InputError(f"{folder}: holds other files ({others[0]}): choose an empty or a new folder with -o")


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files by path as one folder, whole or not at all."""
    with atomic.folder(folder) as beside:
        for name, content in files.items():
            (beside / name).parent.mkdir(exist_ok=True, parents=True)
            (beside / name).write_bytes(content)
