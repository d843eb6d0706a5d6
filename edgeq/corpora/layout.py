"""A layout in which corpora lie on disk: how it is recognised, and how it is read."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from edgeq.audio.decode import is_folder
from edgeq.corpora.corpus import Corpus


@dataclass(frozen=True)
class Layout:
    """How one corpus, or a kind of corpora, is published.

    name: as users give it. holds: the files it is recognised by, in words. recognises: whether a folder holds them.
    read: the corpus in a folder that it recognises; raises InputError where tables cannot be made sense of, and leaves
    what single entries lack to `Corpus.faults`.
    """

    name: str
    holds: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path], Corpus]


def lying_in(folder: Path, pattern: str, folders: bool = False) -> list[Path]:
    """What lies in a folder under names of a pattern, sorted; of millions of others, unlike Path.glob, none is held.

    folders: those alone. A folder that may not be looked into holds nothing.
    """
    try:
        with os.scandir(folder) as entries:
            found = [one.name for one in entries if fnmatchcase(one.name, pattern) and (not folders or is_folder(one))]
    except PermissionError:
        return []
    return sorted(folder / name for name in found)
