"""Corpora of one folder a class."""

from __future__ import annotations

from pathlib import Path

from edgeq.audio import decode
from edgeq.corpora.clips import Clip, Clips
from edgeq.corpora.corpus import Corpus
from edgeq.corpora.layout import Layout, lying_in
from edgeq.errors import InputError


def read(folder: Path) -> Corpus:
    """Read every recording below the folders of `folder`, each named after its class.

    Recordings are those of `decode.each_recording`. Clips are sorted by path, so that the order is the same on every
    machine; there are no folds.
    Raises InputError where there are fewer than two classes or a class has no recording.
    """
    classes = class_folders(folder)
    if len(classes) < 2:
        raise InputError(f"{folder}: found {len(classes)} class folders, expected one folder a class")
    clips = Clips.of(Clip(path, (one.name,)) for one in classes for path in decode.each_recording(one))
    return Corpus(folder.resolve().name, clips, tuple(one.name for one in classes))


def class_folders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted; hidden ones are passed over."""
    return lying_in(folder, "[!.]*", folders=True)


def _recognises(folder: Path) -> bool:
    return len(class_folders(folder)) > 1


LAYOUT = Layout("folders", "one folder a class, two or more", _recognises, read)
