"""The index of a packed corpus, from what was noted of each of its shards."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike

from edgeq import atomic
from edgeq.corpora import pack_shards, packed
from edgeq.corpora.clips import SPLITS, Clips
from edgeq.corpora.columns import Coded, GrowingTexts, Numbers
from edgeq.corpora.corpus import Corpus
from edgeq.corpora.pack_plan import Part, Plan, key
from edgeq.corpora.pack_shards import Done
from edgeq.corpora.packed import Shard
from edgeq.corpora.shards import Content
from edgeq.errors import InputError


def bring_together(output: Path, plan: Plan, max_damaged: float) -> None:
    """Write the index of shards that are all there; files of an earlier plan go.

    Raises InputError where more than a share max_damaged of the clips was damaged, or a note is gone.
    """
    corpus, found = plan.corpus, _Found()
    for part in plan.parts:
        done = pack_shards.noted(output, part)
        if done is None:
            raise InputError(f"{output / part.file}: what was noted of it is gone; run the same command again")
        found.take_in(plan, part, done)
    _check_damaged(corpus, found.damaged, max_damaged)
    pack_shards.remove_temporary(output)
    own = {one.file for one in found.shards}
    for path in output.glob("shard-*.tar"):  # of an earlier plan
        if re.fullmatch(r"shard-\d{6}\.tar", path.name) and path.name not in own:
            path.unlink()
    licences = sorted(Clips.of(corpus.clips).licences.counts())
    clips, hours = len(found.seconds), float(np.sum(found.seconds, dtype=np.float64)) / 3600
    with atomic.opened(output / packed.ARRAYS) as handle:
        _write(handle, _arrays(plan, found, licences))
    with (output / packed.ARRAYS).open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256")
    table = {
        "format": packed.FORMAT,
        "name": corpus.name,
        "labels": corpus.labels,
        "multi_label": corpus.multi_label,
        "clips": clips,
        "hours": hours,
        "licence": corpus.licence,
        "citation": corpus.citation,
        "licences": licences,
        "logmel": _logmel_facts(plan.content),
        "source_sha256": plan.source,
        "arrays_sha256": digest.hexdigest(),
        "shards": [asdict(one) for one in found.shards],
        "damaged": found.damaged,
        "damaged_sha256": found.damaged_sha256,
    }
    table["index_sha256"] = packed.index_hash(table)
    # What no UTF-8 can say of a file's name is told as JSON escapes it.
    content = json.dumps(table, indent=1, ensure_ascii=False).encode("utf-8", "backslashreplace")
    atomic.write_bytes(output / packed.INDEX, content + b"\n")


def inside(folder: Path, path: Path) -> str:
    """A path as it is in a corpus, where it lies there."""
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


class _Found:
    """What was noted of shards, column by column, in some fifty bytes a clip; rows: each clip's index in the corpus."""

    def __init__(self) -> None:
        self.rows, self.seconds, self.recordings = Numbers(), array("f"), bytearray()
        self.places = {name: Numbers() for name in ("offsets", "sizes", "checksums")}
        self.shards: list[Shard] = []
        self.damaged: list[dict[str, str]] = []
        self.damaged_sha256: list[str] = []

    def take_in(self, plan: Plan, part: Part, done: Done) -> None:
        own = plan.order[part.start : part.end]
        for entry in done.entries:
            self.rows.append(int(own[entry.number]))
            self.seconds.append(entry.seconds)
            self.recordings += bytes.fromhex(entry.sha256)
            for name, values in (("offsets", entry.offsets), ("sizes", entry.sizes), ("checksums", entry.checksums)):
                for value in values:
                    self.places[name].append(value)
        for one in done.damaged:
            file = inside(plan.folder, plan.corpus.clips[own[one.number]].path)
            self.damaged.append({"file": file, "reason": one.reason})
            if one.sha256:
                self.damaged_sha256.append(one.sha256)
        self.shards.append(Shard(part.file, len(done.entries), done.size, done.sha256))


def _write(handle: BinaryIO, arrays: Iterator[tuple[str, np.ndarray]]) -> None:
    """Write arrays as np.savez does, but one at a time is held, and no copy of it."""
    with zipfile.ZipFile(handle, "w") as archive:
        for name, values in arrays:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, np.lib.format.header_data_from_array_1_0(values))
                member.write(values.data)
            del values


def _arrays(plan: Plan, found: _Found, licences: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """What `packed.open` reads of each clip; what was found goes as it is given."""
    speeds = len(plan.content.speeds)
    yield "recording_sha256", np.frombuffer(found.recordings, np.uint8).reshape(-1, 32)
    found.recordings = bytearray()
    while found.places:
        name, numbers = found.places.popitem()
        values = numbers.column().reshape(-1, speeds)
        # No narrower than this: whoever adds two of them is to have the sum.
        yield name, values.astype(np.promote_types(values.dtype, np.uint32), copy=False)
        del numbers, values
    yield "seconds", np.array(found.seconds, np.float32)
    rows = found.rows.column()
    yield "recording_number", rows
    clips = Clips.of(plan.corpus.clips).take(rows)
    yield "fold", _recoded(clips.folds, lambda fold: -1 if fold is None else fold, np.int32)
    yield "split", _recoded(clips.splits, lambda split: -1 if split is None else SPLITS.index(split), np.int8)
    yield "clip_licence", _recoded(clips.licences, {name: code for code, name in enumerate(licences)}.get, np.int32)
    counts, labels = clips.held()
    yield "positive_counts", counts.astype(np.int32)
    del counts
    places = {label: place for place, label in enumerate(plan.corpus.labels)}
    yield "positive_labels", np.array([places.get(label, -1) for label in clips.labels], np.int32)[labels]
    del labels
    keys = GrowingTexts()
    for clip in clips:
        keys.append(key(plan.folder, clip.path))
    texts = keys.column()
    yield "key_ends", texts.ends
    yield "key_bytes", texts.content


def _recoded(column: Coded[Any], code: Callable[[Any], int | None], dtype: DTypeLike) -> np.ndarray:
    """The codes of values under other numbers; -1 for values that no clip has, and so no number."""
    codes = (code(value) for value in column.values)
    return np.array([-1 if one is None else one for one in codes], dtype)[column.codes]


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
