"""A packed corpus, held against the checksums in its index."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq.corpora import packed
from edgeq.corpora.faults import Fault
from edgeq.errors import InputError
from edgeq.progress import progress


@dataclass(frozen=True)
class ShardReport:
    """What a packed corpus says it holds, and which of its files do not. index: what its index.json says."""

    folder: Path
    index: Mapping[str, Any]
    faults: tuple[Fault, ...]

    @property
    def damage(self) -> tuple[Fault, ...]:
        """All faults: a packed corpus has each of its files or is damaged."""
        return self.faults

    def to_json(self) -> dict[str, Any]:
        """The contract of `edgeq data check --json` for a packed corpus; files are given from its folder."""
        index = self.index
        return {
            "corpus": index["name"],
            "layout": "packed",
            "ok": not self.faults,
            "clips": index["clips"],
            "missing": [fault.path.name for fault in self.faults if fault.kind == "missing"],
            "faults": [
                {"file": one.path.name, "kind": one.kind, "what": one.what, "tolerated": False}
                for one in self.faults
                if one.kind != "missing"
            ],
            "shards": len(index["shards"]),
            "bytes": sum(shard["size"] for shard in index["shards"]),
            "hours": index["hours"],
            "left_out": len(index["damaged"]),
            "licence": index["licence"],
            "citation": index["citation"],
        }


def check_shards(folder: Path | str, sizes: bool = False) -> ShardReport:
    """Compare every file of a packed corpus with its checksum.

    sizes: compare shards' sizes alone, which is quick. Raises InputError as `packed.read_index`.
    """
    folder = Path(folder)
    index, _ = packed.read_index(folder)
    faults = []
    try:
        packed.read_arrays(folder, index)
    except InputError as error:
        kind = "unreadable" if (folder / packed.ARRAYS).is_file() else "missing"
        faults.append(Fault(folder / packed.ARRAYS, kind, str(error)))
    with progress(f"{index['name']}: shards", len(index["shards"])) as advance:
        for shard in index["shards"]:
            if fault := _fault(folder / shard["file"], shard, sizes):
                faults.append(fault)
            advance(1)
    return ShardReport(folder, index, tuple(faults))


def _fault(path: Path, shard: Mapping[str, Any], sizes: bool) -> Fault | None:
    again = "remove it and run the same edgeq data pack again, which makes it alone anew"
    try:
        size = path.stat().st_size
        if size != shard["size"]:
            return Fault(path, "unreadable", f"{path}: {size} bytes, expected {shard['size']}; {again}")
        if sizes:
            return None
        with path.open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
    except FileNotFoundError:
        return Fault(path, "missing", f"{path}: is not there; run the same edgeq data pack again, which makes it anew")
    except OSError as error:
        return Fault(path, "unreadable", f"{path}: cannot be read ({error.strerror}); {again}")
    if digest != shard["sha256"]:
        return Fault(path, "unreadable", f"{path}: its sha256 is not the one in {packed.INDEX}; {again}")
    return None
