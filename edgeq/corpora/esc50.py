"""ESC-50, ESC-10 and corpora in their layout: a table of clips beside a folder of recordings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgeq.corpora import table
from edgeq.corpora.clips import Clip
from edgeq.corpora.corpus import Corpus
from edgeq.corpora.entries import Entries
from edgeq.corpora.layout import Layout
from edgeq.corpora.table import Row
from edgeq.errors import InputError

LICENCE, LICENCE_ESC10 = "CC BY-NC 3.0", "CC BY 3.0"
CITATION = 'K. J. Piczak, "ESC: Dataset for Environmental Sound Classification", ACM Multimedia 2015'

_OWN, _PUBLISHED = "meta.csv", "meta/esc50.csv"
_FILE = ("file", "filename")
_SECONDS = 5.0
_HOLDS = f"{_OWN} or {_PUBLISHED} with columns file (or filename) and category, beside audio/"


def metadata_file(folder: Path) -> Path | None:
    """The table of clips (meta.csv or meta/esc50.csv), or None where the folder has none in this layout."""
    for name in (_OWN, _PUBLISHED):
        columns = table.header(folder / name)
        if "category" in columns and any(column in columns for column in _FILE):
            return folder / name
    return None


def read(folder: Path) -> Corpus:
    """Read the corpus in `folder`.

    The table needs a column file (or filename), relative to audio/, and a column category; fold, licence and source
    are read where they are there. Clips keep the order of the table; classes are sorted by name; clips of one original
    recording (src_file) are one group.
    Raises InputError naming the table and line where a column or value is missing, or wrong.
    Source: github.com/karolpiczak/ESC-50, README, "Repository content".
    """
    return _read(folder, subset=False)


def read_esc10(folder: Path) -> Corpus:
    """Read the ten classes of ESC-50 that are ESC-10: the clips whose column esc10 says True. Raises as `read` does."""
    return _read(folder, subset=True)


def _read(folder: Path, subset: bool) -> Corpus:
    meta = metadata_file(folder)
    if meta is None:
        raise InputError(f"{folder}: not found: {_HOLDS}")
    entries = Entries()
    file_column = next(column for column in _FILE if column in table.header(meta))
    for row in _rows(meta, subset):
        name, label = row.need(file_column, "category")
        path = row.inside(folder / "audio", name)
        source, group = row.get("clip_source", "source", "src_file"), row.get("src_file")
        licence = row.get("clip_licence", "licence", "license")
        entries.add(row.where, Clip(path, (label,), row.number("fold"), licence, source, group=group))
    published = meta == folder / _PUBLISHED
    return Corpus(
        folder.resolve().name,
        entries.clips.clips(),
        entries.labels,
        faults=entries.faults.faults(),
        seconds=(_SECONDS, _SECONDS) if published else None,
        licence=(LICENCE_ESC10 if subset else LICENCE) if published else "",
        citation=CITATION if published else "",
    )


def _rows(meta: Path, subset: bool) -> Iterator[Row]:
    for row in table.rows(meta, ("esc10",) if subset else ()):
        if not subset or row.get("esc10") == "True":
            yield row


def _recognises(folder: Path) -> bool:
    return metadata_file(folder) is not None


LAYOUT = Layout("esc50", _HOLDS, _recognises, read)
ESC10 = Layout(
    "esc10", f"{_PUBLISHED} with a column esc10; only where it is asked for", lambda folder: False, read_esc10
)
