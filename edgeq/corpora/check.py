"""A copy of a corpus, held against what it is published as."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from edgeq import corpora
from edgeq.corpora.clips import SPLITS, Clip, Clips
from edgeq.corpora.columns import Coded, runs
from edgeq.corpora.corpus import Corpus
from edgeq.corpora.faults import Fault, Faults
from edgeq.corpora.soundness import Headers, soundness
from edgeq.progress import Advance, progress

LENGTH_TOLERANCE = 0.01
"""Seconds that a clip may be shorter or longer than published."""


@dataclass(frozen=True, eq=False)
class Report:
    """What is in a copy of a corpus, and what is wrong with it.

    layout: the name of the layout it is in. headers: what the clips' headers say. faults: of its tables and of its
    files. duplicates: clips whose files are equal byte for byte; None where files were not compared. notes: what is no
    damage, and worth knowing.
    """

    folder: Path
    layout: str
    corpus: Corpus
    headers: Headers
    faults: Faults
    duplicates: tuple[tuple[Clip, ...], ...] | None
    notes: tuple[str, ...]

    @property
    def damage(self) -> Faults:
        """The faults that a sound copy does not have."""
        return Faults.of(self.faults.untolerated())

    def to_json(self) -> dict[str, Any]:
        """The contract of `edgeq data check --json`; files are given from the corpus's folder."""
        corpus, clips, usable = self.corpus, Clips.of(self.corpus.clips), self.headers.usable
        seconds = self.headers.seconds[usable]
        groups = clips.groups()
        told: dict[str, Any] = {
            "corpus": corpus.name,
            "layout": self.layout,
            "ok": not self.faults.counted(tolerated=False),
            "clips": len(clips),
            "missing": [self._file(fault.path) for fault in self.faults.of_kind("missing")],
            "faults": [
                {"file": self._file(one.path), "kind": one.kind, "what": one.what, "tolerated": one.tolerated}
                for one in self.faults.of_kind("missing", others=True)
            ],
            "multi_label": corpus.multi_label,
            "labels": _labels(corpus),
            "folds": _counted(clips.folds.counts()),
            "splits": _splits(clips.splits.counts()),
            "groups": len(np.unique(groups[groups >= 0])),
            "devices": _counted(clips.devices.counts()),
            "cities": _counted(clips.cities.counts()),
            "hours": float(seconds.sum()) / 3600,
            "sample_rates": _counted(_each(self.headers.sample_rates[usable])),
            "channels": _counted(_each(self.headers.channels[usable])),
            "licence": corpus.licence,
            "licences": _counted(clips.licences.counts()),
            "citation": corpus.citation,
            "notes": list(self.notes),
        }
        if len(seconds):
            least, median, most = float(seconds.min()), float(np.median(seconds)), float(seconds.max())
            told["seconds"] = {"least": least, "median": median, "most": most}
        if self.duplicates is not None:
            told["duplicates"] = [[self._file(clip.path) for clip in same] for same in self.duplicates]
        return told

    def _file(self, path: Path) -> str:
        return str(path.relative_to(self.folder) if path.is_relative_to(self.folder) else path)


def check(folder: Path | str, name: str | None = None, headers: bool = False, jobs: int = 1) -> Report:
    """Read a corpus and all of its recordings, and tell what is there and what is wrong.

    name: of its layout, where it is not to be told from the folder. headers: read headers alone, which is quick, and
    misses damage behind them and equal files. jobs: processes that read, at most.
    Raises InputError where the folder holds no corpus, or tables that cannot be made sense of; or a process
    dies.
    """
    folder = Path(folder)
    layout = corpora.layout(folder, name)
    corpus = layout.read(folder)
    with progress(f"{corpus.name}: recordings", len(corpus.clips) * (1 if headers else 2)) as advance:
        found = soundness(corpus, decoded=not headers, jobs=jobs, advance=advance)
        duplicates = None if headers else _duplicates(corpus, found.headers.usable, advance)
    faults = Faults.of(chain(corpus.faults, found.faults, _lengths(corpus, found.headers)))
    notes = tuple(_notes(corpus, duplicates))
    return Report(folder, layout.name, corpus, found.headers, faults, duplicates, notes)


def _lengths(corpus: Corpus, headers: Headers) -> Iterator[Fault]:
    if corpus.seconds is None:
        return
    least, most = corpus.seconds
    expected = f"{least:g}" if least == most else f"up to {most:g}" if not least else f"{least:g} to {most:g}"
    within = (headers.seconds >= least - LENGTH_TOLERANCE) & (headers.seconds <= most + LENGTH_TOLERANCE)
    for clip in np.flatnonzero(headers.usable & ~within).tolist():
        path, seconds = corpus.clips[clip].path, headers.seconds[clip]
        yield Fault(path, "length", f"{path}: {seconds:.3f} s, expected {expected} s")


def _duplicates(corpus: Corpus, usable: np.ndarray, advance: Advance) -> tuple[tuple[Clip, ...], ...]:
    """Clips whose files are equal, of those that can be used: only files of equal size are read."""
    clips = np.flatnonzero(usable)
    sizes = np.fromiter((corpus.clips[clip].path.stat().st_size for clip in clips.tolist()), np.int64, len(clips))
    by_size = np.argsort(sizes, kind="stable")
    read = np.zeros(len(clips), bool)
    for start, end in runs(sizes[by_size]):
        read[by_size[start:end]] = True
    advance(len(clips) - int(read.sum()))
    clips = clips[read]
    starts = np.zeros(len(clips), np.uint64)  # the first 8 bytes of each one's sha256
    for place, clip in enumerate(clips.tolist()):
        starts[place] = int.from_bytes(_digest(corpus.clips[clip].path)[:8])
        advance(1)
    alike = np.argsort(starts, kind="stable")
    same: list[list[int]] = []
    for start, end in runs(starts[alike]):
        whole: dict[bytes, list[int]] = defaultdict(list)
        for clip in clips[alike[start:end]].tolist():
            whole[_digest(corpus.clips[clip].path)].append(clip)
        same += [equal for equal in whole.values() if len(equal) > 1]
    return tuple(tuple(corpus.clips[clip] for clip in equal) for equal in sorted(same))


def _digest(path: Path) -> bytes:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").digest()


def _notes(corpus: Corpus, duplicates: Sequence[Sequence[Clip]] | None) -> Iterable[str]:
    clips, faults = Clips.of(corpus.clips), Faults.of(corpus.faults)
    if tolerated := faults.counted("missing", tolerated=True):
        named = len(clips) + faults.counted("missing")
        yield f"clips that it names and that are not there: {tolerated:,} of {named:,}; it is known for that"
    used = {clips.labels[label] for label in np.unique(clips.held()[1])}
    if empty := [label for label in corpus.labels if label not in used]:
        yield f"classes without a clip: {len(empty)} of {len(corpus.labels)}, {empty[0]} among them"
    groups = clips.groups()
    parts = clips.folds.codes.astype(np.int64) * len(clips.splits.values) + clips.splits.codes
    pairs = np.unique(np.stack([groups, parts])[:, groups >= 0], axis=1)[0]  # groups, as often as they have parts
    if len(torn := [int(pairs[start]) for start, _ in runs(pairs)]):
        yield f"groups in several folds or splits: {len(torn)}, {clips[torn[0]].group} among them; scores flatter"
    if duplicates:
        parted = sum(len({(clip.fold, clip.split) for clip in same}) > 1 for same in duplicates)
        disputed = sum(len({clip.labels for clip in same}) > 1 for same in duplicates)
        told = f"; of those in several folds or splits: {parted}, so that scores flatter" if parted else ""
        told += f"; under several labels: {disputed}" if disputed else ""
        yield f"recordings that are there more than once: {len(duplicates)}{told}"


def _labels(corpus: Corpus) -> list[dict[str, Any]]:
    clips = Clips.of(corpus.clips)
    held, labels = clips.held()
    totals = np.bincount(labels, minlength=len(clips.labels))
    folds, splits = (_crossed(held, labels, len(clips.labels), column) for column in (clips.folds, clips.splits))
    rows = {label: row for row, label in enumerate(clips.labels)}
    return [
        {
            "label": label,
            "clips": int(totals[rows[label]]) if label in rows else 0,
            "folds": _counted(folds[rows[label]]) if label in rows else {},
            "splits": _splits(splits[rows[label]]) if label in rows else {},
        }
        for label in corpus.labels
    ]


def _crossed(held: np.ndarray, labels: np.ndarray, classes: int, column: Coded[Any]) -> list[dict[Hashable, int]]:
    """For each class, how often its clips have each value of a column. held, labels: as `Clips.held`."""
    width = len(column.values)
    cells = labels.astype(np.int64) * width + np.repeat(column.codes, held)
    counts = np.bincount(cells, minlength=classes * width).reshape(classes, width)
    return [{value: int(count) for value, count in zip(column.values, row, strict=True) if count} for row in counts]


def _each(numbers: np.ndarray) -> dict[Hashable, int]:
    return dict(zip(*(found.tolist() for found in np.unique(numbers, return_counts=True)), strict=True))


def _counted(counts: Mapping[Any, int]) -> dict[str, int]:
    """How often each value comes, in their order; None and empty ones do not count."""
    return {str(value): counts[value] for value in sorted(value for value in counts if value not in (None, ""))}


def _splits(counts: Mapping[Any, int]) -> dict[str, int]:
    return {split: counts[split] for split in SPLITS if split in counts}
