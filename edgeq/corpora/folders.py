"""Corpora of one folder a class."""

from __future__ import annotations

from pathlib import Path

from edgeq.corpora.corpus import Clip, Corpus
from edgeq.errors import InputError

SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff"})


def read(folder: Path) -> Corpus:
    """Read every recording below the folders of `folder`, each named after its class.

    Recordings are known by their suffix (SUFFIXES); hidden files and folders are passed over. Clips are sorted by
    path, so that the order is the same on every machine; there are no folds.
    Raises InputError where there are fewer than two classes or a class has no recording.
    """
    clips: list[Clip] = []
    labels: list[str] = []
    for class_folder in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        recordings = sorted(path for path in class_folder.rglob("*") if _is_recording(path, class_folder))
        if not recordings:
            raise InputError(f"{class_folder}: found no recording ({', '.join(sorted(SUFFIXES))}); fill or remove it")
        labels.append(class_folder.name)
        clips += [Clip(path, class_folder.name) for path in recordings]
    if len(labels) < 2:
        raise InputError(
            f"{folder}: found {len(labels)} class folders and no meta.csv; expected one folder a class, or meta.csv "
            "beside audio/"
        )
    return Corpus(folder.resolve().name, tuple(clips), tuple(labels))


def _is_recording(path: Path, below: Path) -> bool:
    visible = not any(part.startswith(".") for part in path.relative_to(below).parts)
    return visible and path.suffix.lower() in SUFFIXES and path.is_file()
