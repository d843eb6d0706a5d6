"""Which clips go into which shard of a packed corpus, under which names: ranges of one order that all share."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import numpy as np
import soundfile

from edgeq.audio import decode, frontend
from edgeq.corpora import packed, shards
from edgeq.corpora.clips import Clip
from edgeq.corpora.columns import runs
from edgeq.corpora.corpus import Corpus
from edgeq.corpora.shards import Content
from edgeq.errors import InputError

_SAMPLED = 256  # headers that say how long clips are


@dataclass(frozen=True)
class Part:
    """What one shard is to hold: a range of the plan's order.

    fingerprint: of all that the shard's bytes follow from, as far as sizes and times of recordings tell.
    """

    number: int
    start: int
    end: int
    fingerprint: str

    def __len__(self) -> int:
        return self.end - self.start

    @property
    def file(self) -> str:
        return f"shard-{self.number:06d}.tar"


@dataclass(frozen=True, eq=False)
class Plan:
    """The shards of a corpus. order: its clips' indices, shard after shard.

    source: sha256 of what they are made from, but for times: another copy of a corpus is the same.
    """

    folder: Path
    corpus: Corpus
    content: Content
    order: np.ndarray
    parts: tuple[Part, ...]
    source: str

    def clips(self, part: Part) -> list[tuple[str, Clip]]:
        """The clips of one shard, each with its key."""
        return list(_keyed(self.folder, self.corpus, self.order[part.start : part.end]))


def plan(folder: Path, corpus: Corpus, content: Content, shard_megabytes: float) -> Plan:
    """Put the clips in the order of their keys' hashes, so that every shard is a mixture, about as large as is asked.

    Raises InputError where two clips would have one key.
    """
    order = _order(folder, corpus)
    each = max(1, int(shard_megabytes * 2**20 / _clip_bytes(corpus, order, content)))
    count = math.ceil(len(order) / each)
    ends = [len(order) * number // count for number in range(count + 1)]
    facts = _content_facts(content)
    source = hashlib.sha256(facts.encode())
    source.update(json.dumps([corpus.name, corpus.labels, corpus.multi_label, count]).encode())
    parts = []
    for number, (start, end) in enumerate(pairwise(ends)):
        fingerprint = hashlib.sha256(facts.encode())
        for key, clip in _keyed(folder, corpus, order[start:end]):
            size, changed = _size_and_time(clip.path)
            told = f"{key}\t{_clip_facts(clip)}\t{size}"
            source.update(f"{told}\n".encode())
            fingerprint.update(f"{told}\t{changed}\n".encode())
        parts.append(Part(number, start, end, fingerprint.hexdigest()))
    return Plan(folder, corpus, content, order, tuple(parts), source.hexdigest())


def key(folder: Path, path: Path) -> str:
    """A clip's path in its corpus, without the ending. WebDataset ends keys at the first dot and skips __names__."""
    inside = path.relative_to(folder) if path.is_relative_to(folder) else Path(*path.parts[path.is_absolute() :])
    found = quote(os.fsencode(inside.with_suffix("").as_posix()), safe="/").replace(".", "%2E")
    return f"%5F{found[1:]}" if found.startswith("__") else found


def _keyed(folder: Path, corpus: Corpus, numbers: np.ndarray) -> Iterator[tuple[str, Clip]]:
    for number in numbers:
        clip = corpus.clips[number]
        yield key(folder, clip.path), clip


def _order(folder: Path, corpus: Corpus) -> np.ndarray:
    """The clips' indices, rising by the sha256 of their keys."""
    hashes = (int.from_bytes(_hash(folder, clip)[:8]) for clip in corpus.clips)
    starts = np.fromiter(hashes, np.uint64, len(corpus.clips))
    order = np.argsort(starts, kind="stable")
    twice: dict[str, list[Path]] = {}
    for start, end in runs(starts[order]):  # where the first 8 bytes do not tell
        order[start:end] = sorted(order[start:end], key=lambda number: _hash(folder, corpus.clips[number]))
        files: dict[str, list[Path]] = defaultdict(list)
        for own, clip in _keyed(folder, corpus, order[start:end]):
            files[own].append(clip.path)
        twice |= {own: paths for own, paths in files.items() if len(paths) > 1}
    if twice:
        own = min(twice)
        raise InputError(
            f"{corpus.name}: {', '.join(map(str, twice[own]))} would all be {own}; a clip's name without its ending "
            "has to be its own: rename or remove all but one"
        )
    return order.astype(np.min_scalar_type(len(order)))


def _hash(folder: Path, clip: Clip) -> bytes:
    return hashlib.sha256(key(folder, clip.path).encode()).digest()


def _clip_bytes(corpus: Corpus, order: np.ndarray, content: Content) -> float:
    """About how many bytes a clip will take in a shard, by the headers of some."""
    chosen = np.unique(np.linspace(0, len(order) - 1, _SAMPLED).round().astype(int))
    found = []
    for place in chosen:
        try:
            recording = decode.info(corpus.clips[order[place]].path)
        except InputError:
            continue
        found.append(2048 + _data_bytes(recording, content))
    return sum(found) / len(found) if found else 1 << 20


def _data_bytes(recording: decode.Recording, content: Content) -> float:
    spec = content.frontend
    if spec is None:
        return recording.seconds * recording.sample_rate * 2 * 0.6  # what FLAC leaves of 16 bits
    samples = max(recording.seconds * spec.sample_rate, spec.window_samples)
    return sum(2 * spec.logmel_rows * frontend.frame_count(int(samples / speed), spec) for speed in content.speeds)


def _size_and_time(path: Path) -> tuple[int, int]:
    """Bytes of a file, and when it was last changed, in ns; 0 of one that is not there, which packing will tell."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _content_facts(content: Content) -> str:
    spec = None if content.frontend is None else content.frontend.to_json()
    return json.dumps([packed.FORMAT, soundfile.__libsndfile_version__, spec, content.speeds, content.dtype])


def _clip_facts(clip: Clip) -> str:
    return json.dumps([getattr(clip, name) for name in ("labels", *shards.TOLD)])
