"""A copy of a corpus, held against what it is published as."""

from __future__ import annotations

import hashlib
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq import corpora
from edgeq.audio.decode import Recording
from edgeq.corpora.corpus import SPLITS, Clip, Corpus, Fault
from edgeq.corpora.soundness import soundness
from edgeq.progress import Advance, progress

LENGTH_TOLERANCE = 0.01
"""Seconds that a clip may be shorter or longer than published."""


@dataclass(frozen=True)
class Report:
    """What is in a copy of a corpus, and what is wrong with it.

    layout: the name of the layout it is in. recordings: what the clips' headers say, None where a clip cannot be used.
    faults: of its tables and of its files. duplicates: clips whose files are equal byte for byte; None where files were
    not compared. notes: what is no damage, and worth knowing.
    """

    folder: Path
    layout: str
    corpus: Corpus
    recordings: tuple[Recording | None, ...]
    faults: tuple[Fault, ...]
    duplicates: tuple[tuple[Clip, ...], ...] | None
    notes: tuple[str, ...]

    @property
    def damage(self) -> tuple[Fault, ...]:
        """The faults that a sound copy does not have."""
        return tuple(fault for fault in self.faults if not fault.tolerated)

    def to_json(self) -> dict[str, Any]:
        """The contract of `edgeq data check --json`; files are given from the corpus's folder."""
        corpus = self.corpus
        headers = [one for one in self.recordings if one is not None]
        seconds = sorted(one.seconds for one in headers)
        told: dict[str, Any] = {
            "corpus": corpus.name,
            "layout": self.layout,
            "ok": not self.damage,
            "clips": len(corpus.clips),
            "missing": [self._file(fault.path) for fault in self.faults if fault.kind == "missing"],
            "faults": [
                {"file": self._file(one.path), "kind": one.kind, "what": one.what, "tolerated": one.tolerated}
                for one in self.faults
                if one.kind != "missing"
            ],
            "multi_label": corpus.multi_label,
            "labels": _labels(corpus),
            "folds": _counted(clip.fold for clip in corpus.clips),
            "splits": _splits(corpus.clips),
            "groups": len({clip.group for clip in corpus.clips if clip.group}),
            "devices": _counted(clip.device or None for clip in corpus.clips),
            "cities": _counted(clip.city or None for clip in corpus.clips),
            "hours": sum(seconds) / 3600,
            "sample_rates": _counted(one.sample_rate for one in headers),
            "channels": _counted(one.channels for one in headers),
            "licence": corpus.licence,
            "licences": _counted(clip.licence or None for clip in corpus.clips),
            "citation": corpus.citation,
            "notes": list(self.notes),
        }
        if seconds:
            told["seconds"] = {"least": seconds[0], "median": statistics.median(seconds), "most": seconds[-1]}
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
        duplicates = None if headers else _duplicates(corpus, found.recordings, advance)
    faults = (*corpus.faults, *found.faults, *_lengths(corpus, found.recordings))
    notes = tuple(_notes(corpus, duplicates))
    return Report(folder, layout.name, corpus, found.recordings, faults, duplicates, notes)


def _lengths(corpus: Corpus, recordings: Sequence[Recording | None]) -> list[Fault]:
    if corpus.seconds is None:
        return []
    least, most = corpus.seconds
    expected = f"{least:g}" if least == most else f"up to {most:g}" if not least else f"{least:g} to {most:g}"
    return [
        Fault(one.path, "length", f"{one.path}: {one.seconds:.3f} s, expected {expected} s")
        for one in recordings
        if one is not None and not least - LENGTH_TOLERANCE <= one.seconds <= most + LENGTH_TOLERANCE
    ]


def _duplicates(
    corpus: Corpus, recordings: Sequence[Recording | None], advance: Advance
) -> tuple[tuple[Clip, ...], ...]:
    """Clips whose files are equal, of those that can be used: only files of equal size are read."""
    sizes: dict[int, list[Clip]] = defaultdict(list)
    for clip, recording in zip(corpus.clips, recordings, strict=True):
        if recording is not None:
            sizes[clip.path.stat().st_size].append(clip)
    same: dict[str, list[Clip]] = defaultdict(list)
    for clips in sizes.values():
        for clip in clips:
            if len(clips) > 1:
                with clip.path.open("rb") as handle:
                    same[hashlib.file_digest(handle, "sha256").hexdigest()].append(clip)
            advance(1)
    return tuple(tuple(clips) for clips in same.values() if len(clips) > 1)


def _notes(corpus: Corpus, duplicates: Sequence[Sequence[Clip]] | None) -> Iterable[str]:
    tolerated = sum(fault.tolerated for fault in corpus.faults if fault.kind == "missing")
    if tolerated:
        named = len(corpus.clips) + len(corpus.missing)
        yield f"clips that it names and that are not there: {tolerated:,} of {named:,}; it is known for that"
    used = {label for clip in corpus.clips for label in clip.labels}
    if empty := [label for label in corpus.labels if label not in used]:
        yield f"classes without a clip: {len(empty)} of {len(corpus.labels)}, {empty[0]} among them"
    groups: dict[str, set[object]] = defaultdict(set)
    for clip in corpus.clips:
        if clip.group:
            groups[clip.group].add(_part(clip))
    if torn := [group for group, parts in groups.items() if len(parts) > 1]:
        yield f"groups in several folds or splits: {len(torn)}, {torn[0]} among them; scores flatter"
    if duplicates:
        parted = sum(len({_part(clip) for clip in same}) > 1 for same in duplicates)
        disputed = sum(len({clip.labels for clip in same}) > 1 for same in duplicates)
        told = f"; of those in several folds or splits: {parted}, so that scores flatter" if parted else ""
        told += f"; under several labels: {disputed}" if disputed else ""
        yield f"recordings that are there more than once: {len(duplicates)}{told}"


def _part(clip: Clip) -> tuple[int | None, str | None]:
    return clip.fold, clip.split


def _labels(corpus: Corpus) -> list[dict[str, Any]]:
    clips: dict[str, list[Clip]] = {label: [] for label in corpus.labels}
    for clip in corpus.clips:
        for label in clip.labels:
            clips[label].append(clip)
    return [
        {
            "label": label,
            "clips": len(of),
            "folds": _counted(clip.fold for clip in of),
            "splits": _splits(of),
        }
        for label, of in clips.items()
    ]


def _counted(values: Iterable[int | str | None]) -> dict[str, int]:
    """How often each comes, in their order; None does not count."""
    counts = Counter(value for value in values if value is not None)
    return {str(value): counts[value] for value in sorted(counts, key=lambda it: (isinstance(it, str), it))}


def _splits(clips: Sequence[Clip]) -> dict[str, int]:
    counts = Counter(clip.split for clip in clips)
    return {split: counts[split] for split in SPLITS if split in counts}
