"""A layout in which corpora lie on disk: how it is recognised, and how it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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
