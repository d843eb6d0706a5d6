"""UrbanSound8K: 8732 excerpts of city sounds of up to 4 s, ten classes, ten folds."""

from __future__ import annotations

from pathlib import Path

from edgeq.corpora import table
from edgeq.corpora.clips import Clip
from edgeq.corpora.corpus import Corpus
from edgeq.corpora.entries import Entries
from edgeq.corpora.layout import Layout

LICENCE = "CC BY-NC 3.0"
CITATION = (
    'J. Salamon, C. Jacoby and J. P. Bello, "A Dataset and Taxonomy for Urban Sound Research", ACM Multimedia 2014'
)

_TABLE, _CREDITS = "metadata/UrbanSound8K.csv", "FREESOUNDCREDITS.txt"
_COLUMNS = ("slice_file_name", "fsID", "fold", "class")


def read(folder: Path) -> Corpus:
    """Read the corpus in `folder`: metadata/UrbanSound8K.csv, and audio/fold1 to audio/fold10.

    Folds are the corpus's own; excerpts of one Freesound recording (fsID) are one group. Every clip is under the
    corpus's licence, which it states for all; whom to credit, by FREESOUNDCREDITS.txt, is in the clip's source.
    Raises InputError naming the table and line where a column or value is missing, or wrong.
    Source: urbansounddataset.weebly.com/urbansound8k.html, "Meta-data Files Included", and its FREESOUNDCREDITS.txt.
    """
    authors = _authors(folder / _CREDITS)
    entries = Entries()
    for row in table.rows(folder / _TABLE, _COLUMNS):
        name, recording, fold, label = row.need(*_COLUMNS)
        path = row.inside(folder / "audio", f"fold{fold}/{name}")
        source = f"freesound.org sound {recording}" + (f" by {authors[recording]}" if recording in authors else "")
        entries.add(row.where, Clip(path, (label,), row.number("fold"), LICENCE, source, group=recording))
    return Corpus(
        folder.resolve().name,
        entries.clips.clips(),
        entries.labels,
        faults=entries.faults.faults(),
        seconds=(0.0, 4.05),  # "<=4s", and a little
        licence=LICENCE,
        citation=CITATION,
    )


def _authors(credits: Path) -> dict[str, str]:
    """Freesound's users by the number of their sound: lines of "[soundid] by [username]"."""
    if not credits.is_file():
        return {}
    lines = credits.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    parts = (line.strip().partition(" by ") for line in lines)
    return {number: author for number, by, author in parts if by and number.isdigit()}


def _recognises(folder: Path) -> bool:
    return (folder / _TABLE).is_file()


LAYOUT = Layout("urbansound8k", f"{_TABLE}, beside audio/fold1 to fold10", _recognises, read)
