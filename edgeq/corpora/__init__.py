"""Labelled recordings on disk, read by the layout they are found in."""

from __future__ import annotations

from pathlib import Path

from edgeq.corpora import esc50, folders
from edgeq.corpora.corpus import Clip, Corpus
from edgeq.errors import InputError

__all__ = ["Clip", "Corpus", "open"]


def open(folder: Path | str) -> Corpus:
    """Read a corpus in the layout the folder holds: ESC-50 (a meta file beside audio/) or one folder a class.

    Raises InputError where the folder is missing, holds neither, or its contents do not agree with each other.
    """
    folder = Path(folder)
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise InputError(
            f"{folder}: found {found}, expected the folder of a corpus; give the folder that holds the recordings"
        )
    if esc50.metadata_file(folder) is not None:
        return esc50.read(folder)
    return folders.read(folder)
