"""Corpora of a table of one's own: a path and a label a line."""

from __future__ import annotations

from pathlib import Path

from edgeq.corpora import table
from edgeq.corpora.clips import SPLITS, Clip
from edgeq.corpora.corpus import Corpus
from edgeq.corpora.entries import Entries
from edgeq.corpora.layout import Layout, lying_in
from edgeq.errors import InputError

SEPARATOR = ";"
"""Between the labels of one clip."""

_HOLDS = f"one .csv with columns path and label (or labels, with '{SEPARATOR}' between), and fold or split if wanted"


def read(folder: Path) -> Corpus:
    """Read the corpus whose table lies in `folder`: the only .csv there with columns path, and label or labels.

    path: of the recording, from the folder. label: its class; or labels: several with ';' between, and the corpus is
    multi-label. fold (a whole number), split (training, validation or testing), licence, source and group are read
    where they are there. Clips keep the order of the table; classes are sorted by name.
    Raises InputError naming the table and line where a column or value is missing, or wrong.
    """
    tables = _tables(folder)
    if len(tables) != 1:
        found = ", ".join(one.name for one in tables) or "none"
        raise InputError(f"{folder}: tables with columns path and label: found {found}, expected one")
    multi_label = "labels" in table.header(tables[0])
    entries = Entries()
    for row in table.rows(tables[0]):
        name, label = row.need("path", "labels" if multi_label else "label")
        labels = tuple(dict.fromkeys(filter(None, map(str.strip, label.split(SEPARATOR))))) if multi_label else (label,)
        split = row.get("split") or None
        if split not in (None, *SPLITS):
            raise InputError(f"{row.where}: split {split!r}: expected one of {', '.join(SPLITS)}")
        path = row.inside(folder, name)
        licence, source, group = row.get("licence", "license"), row.get("source"), row.get("group")
        entries.add(row.where, Clip(path, labels, row.number("fold"), licence, source, split, group))
    return Corpus(folder.resolve().name, entries.clips.clips(), entries.labels, multi_label, entries.faults.faults())


def _tables(folder: Path) -> list[Path]:
    found = [(path, table.header(path)) for path in lying_in(folder, "*.csv")]
    return [path for path, columns in found if "path" in columns and ("label" in columns or "labels" in columns)]


def _recognises(folder: Path) -> bool:
    return bool(_tables(folder))


LAYOUT = Layout("csv", _HOLDS, _recognises, read)
