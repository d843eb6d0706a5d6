"""AudioSet: two million clips of 10 s from YouTube, 527 classes, several a clip."""

from __future__ import annotations

import json
import os
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgeq.audio import decode
from edgeq.corpora import table
from edgeq.corpora.clips import Clip, GrowingClips
from edgeq.corpora.columns import GrowingTexts, Numbers, Seen
from edgeq.corpora.corpus import Corpus
from edgeq.corpora.faults import Fault, GrowingFaults
from edgeq.corpora.layout import Layout
from edgeq.errors import InputError

LICENCE = "CC BY 4.0 (the labels; ontology CC BY-SA 4.0; sounds belong to their makers)"
CITATION = 'J. F. Gemmeke and others, "Audio Set: An ontology and human-labeled dataset for audio events", ICASSP 2017'

SEGMENTS = {
    "balanced_train_segments.csv": "training",
    "unbalanced_train_segments.csv": "training",
    "eval_segments.csv": "testing",
}
"""The tables of segments, and what their clips are for."""

_CLASSES, _ONTOLOGY = "class_labels_indices.csv", "ontology.json"
_HOMES = ("", "metadata")


def read(folder: Path) -> Corpus:
    """Read the corpus in `folder`: those of the tables in SEGMENTS that are there (or in metadata/), and the classes.

    Classes come from class_labels_indices.csv in its order (527), or without it from ontology.json: those that the
    tables name, in its order; they are called by their display names. A segment's recording may lie anywhere below the
    folder and be named <YTID>_<start in ms>, as AudioSet's strong labels name it, <YTID>_<start>_<end>, <YTID>, or
    Y<YTID>, with any ending of a recording. Segments that have none are told in `faults` and left out: videos vanish,
    and no copy has all. So are those with labels that are no class, and second entries of a segment. To train on the
    balanced set alone, leave unbalanced_train_segments.csv out of the folder.
    Raises InputError naming the table and line where it cannot be made sense of, or there are no classes.
    Source: research.google.com/audioset/download.html, "Dataset split" and "CSV file format"; its strong labels' page
    for the file names; github.com/audioset/ontology, README.
    """
    home = _home(folder)
    if home is None:
        raise InputError(f"{folder}: not found: {LAYOUT.holds}")
    names = _class_names(home)
    recordings, seen = _Recordings(folder), Seen()
    clips, faults = GrowingClips(), GrowingFaults()
    named: set[str] = set()
    for name, split in SEGMENTS.items():
        if not (home / name).is_file():
            continue
        for where, video, start, end, mids in _segments(home / name):
            named.update(mids)
            segment = f"{video}_{start}"
            unknown = [mid for mid in mids if mid not in names]
            stems = (segment, f"{segment}_{end}", video, f"Y{video}")
            found = next(((stem, number) for stem in stems if (number := recordings.find(stem)) is not None), None)
            if not seen.add(segment):
                faults.append(Fault(folder / segment, "duplicate", f"{where}: {segment} is listed twice; drop one"))
            elif unknown:
                told = f"{where}: {unknown[0]} is no class of {home}; restore {_CLASSES}, or mend the line"
                faults.append(Fault(folder / segment, "label", told))
            elif found is None:
                told = f"{where}: no recording named {', '.join(stems)}"
                faults.append(Fault(folder / segment, "missing", told, tolerated=True))
            elif (path := recordings.take(found[1])) is None:
                told = f"{where}: {found[0]} is another segment's too; add the start in ms to recordings' names"
                faults.append(Fault(folder / segment, "duplicate", told))
            else:
                labels = tuple(dict.fromkeys(names[mid] for mid in mids))
                source = f"youtube.com/watch?v={video}&t={start // 1000}"
                clips.append(Clip(path, labels, None, "", source, split, group=video))
    del recordings, seen  # before the corpus is checked, which takes memory of its own
    every = (home / _CLASSES).is_file()
    labels = tuple(name for mid, name in names.items() if every or mid in named)
    return Corpus(
        folder.resolve().name,
        clips.clips(),
        labels,
        multi_label=True,
        faults=faults.faults(),
        seconds=(0.0, 10.1),
        licence=LICENCE,
        citation=CITATION,
    )


def _home(folder: Path) -> Path | None:
    """The folder of the tables."""
    homes = (folder / name for name in _HOMES)
    return next((home for home in homes if any((home / name).is_file() for name in SEGMENTS)), None)


def _class_names(home: Path) -> dict[str, str]:
    """The display name of each class by its machine id, in order."""
    if (home / _CLASSES).is_file():
        lines = [row.need("mid", "display_name") for row in table.rows(home / _CLASSES, ("mid", "display_name"))]
        names = {mid: name for mid, name, *_ in lines}
    elif (home / _ONTOLOGY).is_file():
        names = _ontology(home / _ONTOLOGY)
    else:
        raise InputError(
            f"{home}: found neither {_CLASSES} nor {_ONTOLOGY}, expected one beside the tables of segments"
        )
    if len(set(names.values())) < len(names):
        twice = [name for name in names.values() if list(names.values()).count(name) > 1]
        raise InputError(f"{home}: two classes are named {twice[0]}; restore {_CLASSES} or {_ONTOLOGY}")
    return names


def _ontology(path: Path) -> dict[str, str]:
    try:
        return {str(entity["id"]): str(entity["name"]) for entity in json.loads(path.read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: no list of entities with id and name ({error}); restore it") from error


def _segments(path: Path) -> Iterator[tuple[str, str, int, int, tuple[str, ...]]]:
    """Where a line is, the video, start and end in ms, and machine ids of its classes; lines with # are comments."""
    for where, cells in table.lines(path, comment="#"):
        try:
            video, start, end, mids = cells
            positive = tuple(filter(None, map(str.strip, mids.split(","))))
            times = round(1000 * float(start)), round(1000 * float(end))
            if not video or not positive or not 0 <= times[0] < times[1]:
                raise ValueError
        except (ValueError, OverflowError):
            told = ", ".join(cells)
            raise InputError(f"{where}: {told:.80}: expected YTID, start, end and labels in quotes") from None
        yield where, video, *times, positive


class _Recordings:
    """Recordings below a folder by their names without ending, in some forty bytes each; each is given away once."""

    def __init__(self, folder: Path) -> None:
        self._folders: list[str] = []
        homes, names, hashes = Numbers(), GrowingTexts(), array("q")
        for home, name, stem in _walk(str(folder)):
            if not self._folders or home != self._folders[-1]:
                self._folders.append(home)
            homes.append(len(self._folders) - 1)
            names.append(name)
            hashes.append(hash(stem))
        self._homes, self._names = homes.column(), names.column()
        self._order = np.argsort(hashes).astype(np.uint32)
        self._hashes = array("q", np.asarray(hashes, np.int64)[self._order].tobytes())
        self._given = bytearray(len(hashes))

    def find(self, stem: str) -> int | None:
        """The recording of that name, of several the first in order of their paths; None where there is none."""
        found, wanted = [], hash(stem)
        place = bisect_left(self._hashes, wanted)
        while place < len(self._hashes) and self._hashes[place] == wanted:
            number = int(self._order[place])
            if (name := self._names[number]).rpartition(".")[0] == stem:
                found.append((int(self._homes[number]), name, number))
            place += 1
        return min(found)[-1] if found else None

    def take(self, number: int) -> Path | None:
        """Its path, None where it was given away before."""
        if self._given[number]:
            return None
        self._given[number] = True
        return Path(self._folders[self._homes[number]], self._names[number])


def _walk(home: str) -> Iterator[tuple[str, str, str]]:
    """Folder, name and name without ending of each recording; folders in order, those within them as they come."""
    folders = []
    try:
        with os.scandir(home) as entries:
            for entry in entries:
                stem, _, ending = entry.name.rpartition(".")
                if decode.is_folder(entry):
                    if not entry.is_symlink():
                        folders.append(entry.name)
                elif stem and f".{ending.lower()}" in decode.SUFFIXES:
                    yield home, entry.name, stem
    except OSError:  # no right to look into it, or gone by now
        pass
    for name in sorted(folders):
        yield from _walk(f"{home}{os.sep}{name}")


def _recognises(folder: Path) -> bool:
    return _home(folder) is not None


LAYOUT = Layout("audioset", f"one of {', '.join(SEGMENTS)}, beside {_CLASSES} or {_ONTOLOGY}", _recognises, read)
