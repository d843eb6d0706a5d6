"""The index of a packed corpus, from what was noted of each of its shards."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from edgeq import atomic
from edgeq.corpora import pack_shards, packed
from edgeq.corpora.clips import SPLITS, Clips
from edgeq.corpora.corpus import Corpus
from edgeq.corpora.pack_plan import Plan, key
from edgeq.corpora.packed import Shard
from edgeq.corpora.shards import Content
from edgeq.errors import InputError


def bring_together(output: Path, plan: Plan, max_damaged: float) -> None:
    """Write the index of shards that are all there; files of an earlier plan go.

    Raises InputError where more than a share max_damaged of the clips was damaged, or a note is gone.
    """
    corpus, content = plan.corpus, plan.content
    rows = np.empty(len(plan.order), np.int64)  # index in the corpus of each packed clip
    places = {
        name: np.empty((len(rows), len(content.speeds)), dtype)
        for name, dtype in (("offsets", np.int64), ("sizes", np.int64), ("checksums", np.uint32))
    }
    seconds = np.empty(len(rows), np.float32)
    recordings = np.empty((len(rows), 32), np.uint8)
    files: list[Shard] = []
    damaged: list[dict[str, str]] = []
    damaged_sha256: list[str] = []
    count = 0
    for part in plan.parts:
        done = pack_shards.noted(output, part)
        if done is None:
            raise InputError(f"{output / part.file}: what was noted of it is gone; run the same command again")
        own = plan.order[part.start : part.end]
        damaged += [
            {"file": inside(plan.folder, corpus.clips[own[one.number]].path), "reason": one.reason}
            for one in done.damaged
        ]
        damaged_sha256 += [one.sha256 for one in done.damaged if one.sha256]
        for entry in done.entries:
            rows[count], seconds[count] = own[entry.number], entry.seconds
            recordings[count] = np.frombuffer(bytes.fromhex(entry.sha256), np.uint8)
            for name, values in (("offsets", entry.offsets), ("sizes", entry.sizes), ("checksums", entry.checksums)):
                places[name][count] = values
            count += 1
        files.append(Shard(part.file, len(done.entries), done.size, done.sha256))
    _check_damaged(corpus, damaged, max_damaged)
    licences = sorted(Clips.of(corpus.clips).licences.counts())
    arrays = {name: values[:count] for name, values in places.items()}
    arrays |= {"recording_number": rows[:count], "recording_sha256": recordings[:count]}
    arrays |= {"seconds": seconds[:count], **_told(plan, rows[:count], licences)}
    pack_shards.remove_temporary(output)
    for path in output.glob("shard-*.tar"):  # of an earlier plan
        if re.fullmatch(r"shard-\d{6}\.tar", path.name) and path.name not in {one.file for one in files}:
            path.unlink()
    with atomic.opened(output / packed.ARRAYS) as handle:
        np.savez(handle, allow_pickle=False, **arrays)
    with (output / packed.ARRAYS).open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256")
    table = {
        "format": packed.FORMAT,
        "name": corpus.name,
        "labels": corpus.labels,
        "multi_label": corpus.multi_label,
        "clips": count,
        "hours": float(seconds[:count].sum(dtype=np.float64)) / 3600,
        "licence": corpus.licence,
        "citation": corpus.citation,
        "licences": licences,
        "logmel": _logmel_facts(content),
        "source_sha256": plan.source,
        "arrays_sha256": digest.hexdigest(),
        "shards": [asdict(one) for one in files],
        "damaged": damaged,
        "damaged_sha256": damaged_sha256,
    }
    atomic.write_text(output / packed.INDEX, json.dumps(table, indent=1, ensure_ascii=False) + "\n")


def inside(folder: Path, path: Path) -> str:
    """A path as it is in a corpus, where it lies there."""
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def _told(plan: Plan, rows: np.ndarray, licences: Sequence[str]) -> dict[str, np.ndarray]:
    """What the corpus says of its clips in these rows, as `packed.open` reads it; key_ends: where each key ends."""
    clips = Clips.of(plan.corpus.clips).take(rows)
    counts, labels = clips.held()
    places = {label: place for place, label in enumerate(plan.corpus.labels)}
    keys, ends = bytearray(), np.empty(len(rows), np.int64)
    for number, clip in enumerate(clips):
        keys += key(plan.folder, clip.path).encode()
        ends[number] = len(keys)
    return {
        "positive_counts": counts.astype(np.int32),
        "positive_labels": np.array([places.get(label, -1) for label in clips.labels], np.int32)[labels],
        "fold": np.array([-1 if fold is None else fold for fold in clips.folds.values], np.int32)[clips.folds.codes],
        "split": np.array([-1 if split is None else SPLITS.index(split) for split in clips.splits.values], np.int8)[
            clips.splits.codes
        ],
        "clip_licence": np.array(
            [licences.index(one) if one in licences else -1 for one in clips.licences.values], np.int32
        )[clips.licences.codes],
        "key_ends": ends,
        "key_bytes": np.frombuffer(keys, np.uint8),
    }


def _logmel_facts(content: Content) -> dict[str, Any] | None:
    spec = content.frontend
    if spec is None:
        return None
    said = {"dtype": content.dtype, "step": content.step, "speeds": content.speeds}
    return {"frontend": spec.to_json(), "sha256": spec.hash, **said}


def _check_damaged(corpus: Corpus, damaged: Sequence[Mapping[str, str]], most: float) -> None:
    share = len(damaged) / len(corpus.clips)
    if share <= most and len(damaged) < len(corpus.clips):
        return
    some = "; ".join(f"{one['file']}: {one['reason']}" for one in damaged[:3])
    more = f"; and {len(damaged) - 3} more" if len(damaged) > 3 else ""
    raise InputError(
        f"{corpus.name}: {len(damaged)} of {len(corpus.clips)} clips cannot be used ({share:.1%}, at most "
        f"{most:.1%} may): {some}{more}. Mend or remove them, or raise --max-damaged, and run again: finished shards "
        "are kept"
    )
