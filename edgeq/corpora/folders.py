"""Corpora of one folder a class."""

from __future__ import annotations

from pathlib import Path

from edgeq.audio import decode
from edgeq.corpora.corpus import Clip, Corpus
from edgeq.errors import InputError


def read(folder: Path) -> Corpus:
    """Read every recording below the folders of `folder`, each named after its class.

    Recordings are those of `decode.recordings`. Clips are sorted by path, so that the order is the same on every
    machine; there are no folds.
    Raises InputError where there are fewer than two classes or a class has no recording.
    """
    clips: list[Clip] = []
    labels: list[str] = []
    for class_folder in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        labels.append(class_folder.name)
        clips += [Clip(path, (class_folder.name,)) for path in decode.recordings(class_folder)]
    if len(labels) < 2:
        raise InputError(
            f"{folder}: found {len(labels)} class folders and no meta.csv; expected one folder a class, or meta.csv "
            "beside audio/"
        )
    return Corpus(folder.resolve().name, tuple(clips), tuple(labels))
