"""TAU Urban Acoustic Scenes 2022 Mobile, development set: ten scenes, ten cities, nine devices, clips of 1 s."""

from __future__ import annotations

from pathlib import Path

from edgeq.corpora import table
from edgeq.corpora.clips import Clip
from edgeq.corpora.corpus import Corpus
from edgeq.corpora.entries import Entries
from edgeq.corpora.layout import Layout
from edgeq.errors import InputError

LICENCE = "Tampere University, non-commercial use only"
CITATION = (
    'T. Heittola, A. Mesaros and T. Virtanen, "Acoustic scene classification in DCASE 2020 Challenge: '
    'generalization across devices and low complexity solutions", DCASE 2020; zenodo.org/record/6337421'
)

_TABLE = "meta.csv"
_SETUP = {"training": "evaluation_setup/fold1_train.csv", "testing": "evaluation_setup/fold1_evaluate.csv"}
_COLUMNS = ("filename", "scene_label", "identifier", "source_label")


def read(folder: Path) -> Corpus:
    """Read the development set in `folder`: meta.csv (with tabs), evaluation_setup/, and audio/.

    The split is the challenge's own: fold1_train.csv is for training, fold1_evaluate.csv for testing, and clips in
    neither (the setup leaves some out) have none. device is a, b, c or s1 to s6; city is the beginning of `identifier`
    (lisbon-1000), which names the place of recording, and is the clip's group.
    Raises InputError naming the table and line where a column or value is missing, or the setup names a clip that
    meta.csv does not, or one twice.
    Source: zenodo.org/record/6337421, README of the set, "Content" and "Usage"; the set's own files.
    """
    splits = _splits(folder)
    entries = Entries()
    seen: set[str] = set()
    for row in table.rows(folder / _TABLE, _COLUMNS, delimiter="\t"):
        name, label, place, device = row.need(*_COLUMNS)
        path, split, city = row.inside(folder, name), splits.get(name), place.partition("-")[0]
        clip = Clip(path, (label,), None, LICENCE, split=split, group=place, device=device, city=city)
        entries.add(row.where, clip)
        seen.add(name)
    if unknown := [name for name in splits if name not in seen]:
        raise InputError(f"{folder / _TABLE}: lacks {unknown[0]}, which evaluation_setup/ names; restore both")
    return Corpus(
        folder.resolve().name,
        entries.clips.clips(),
        entries.labels,
        faults=entries.faults.faults(),
        seconds=(1.0, 1.0),
        licence=LICENCE,
        citation=CITATION,
    )


def _splits(folder: Path) -> dict[str, str]:
    """The split of each clip that the evaluation setup names, by its file name there."""
    found: dict[str, str] = {}
    for split, name in _SETUP.items():
        for row in table.rows(folder / name, ("filename",), delimiter="\t"):
            (clip,) = row.need("filename")
            if clip in found:
                raise InputError(f"{row.where}: {clip} is in the setup twice; restore {', '.join(_SETUP.values())}")
            found[clip] = split
    return found


def _recognises(folder: Path) -> bool:
    return "scene_label" in table.header(folder / _TABLE, delimiter="\t")


LAYOUT = Layout("tau2022", "meta.csv with tabs and a column scene_label, beside evaluation_setup/", _recognises, read)
