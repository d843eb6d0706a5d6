"""Labelled recordings on disk, read by the layout they are found in."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

from edgeq.corpora import (
    audioset,
    esc50,
    folders,
    fsdd,
    gtzan,
    labelled,
    packed,
    ravdess,
    speech_commands,
    tau2022,
    urbansound8k,
)
from edgeq.corpora.clips import Clip
from edgeq.corpora.corpus import Corpus
from edgeq.corpora.faults import Fault, Faults
from edgeq.corpora.layout import Layout
from edgeq.errors import InputError

__all__ = ["LAYOUTS", "Clip", "Corpus", "Fault", "Layout", "layout", "open", "recognised"]

LAYOUTS = (
    audioset.LAYOUT,
    gtzan.LAYOUT,
    esc50.LAYOUT,
    esc50.ESC10,
    ravdess.LAYOUT,
    tau2022.LAYOUT,
    urbansound8k.LAYOUT,
    speech_commands.LAYOUT,
    fsdd.LAYOUT,
    labelled.LAYOUT,
    folders.LAYOUT,
)
"""All layouts that are known. The last is what is left where none of the others is recognised."""

_NAMED = 3  # of what lies in a folder that is no corpus


def open(folder: Path | str, name: str | None = None) -> Corpus:
    """Read a corpus in the layout the folder holds, or in the one of LAYOUTS that has this name.

    Raises InputError where `layout` or the layout's reader does, or an entry of its tables is at fault and the corpus
    is not known for that: so `faults` of what is returned are tolerated.
    """
    folder = Path(folder)
    corpus = layout(folder, name).read(folder)
    faults = Faults.of(corpus.faults)
    if wrong := faults.counted(tolerated=False):
        more = f" ({wrong - 1} more; edgeq data check {folder} lists them)" if wrong > 1 else ""
        raise InputError(f"{next(faults.untolerated()).what}{more}")
    return corpus


def layout(folder: Path | str, name: str | None = None) -> Layout:
    """The layout that a folder holds, or that of a name.

    Raises InputError where the folder is missing, holds none of LAYOUTS or several, or no layout has the name.
    """
    folder = Path(folder)
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise InputError(
            f"{folder}: found {found}, expected the folder of a corpus; give the folder that holds the recordings"
        )
    if packed.is_packed(folder):
        raise InputError(f"{folder}: a packed corpus, expected recordings; give the folder that it was packed from")
    if name is not None:
        chosen = next((one for one in LAYOUTS if one.name == name), None)
        if chosen is None:
            raise InputError(f"corpus {name}: expected one of {', '.join(one.name for one in LAYOUTS)}")
        return chosen
    holds, last = recognised(folder), LAYOUTS[-1]
    if len(holds) > 1:
        told = " and ".join(f"{one.name} ({one.holds})" for one in holds)
        raise InputError(f"{folder}: holds {told}; expected one of them: give each corpus a folder of its own")
    if not holds and not last.recognises(folder):
        raise InputError(
            f"{folder}: found {_found(folder)}, expected a corpus in one of these layouts: "
            f"{', '.join(one.name for one in LAYOUTS)}; edgeq data check --help says by what each is known"
        )
    return holds[0] if holds else last


def recognised(folder: Path) -> tuple[Layout, ...]:
    """Those of LAYOUTS that a folder holds; one folder a class, which many folders look like, is not told."""
    return tuple(one for one in LAYOUTS[:-1] if one.recognises(folder))


def _found(folder: Path) -> str:
    """What lies in a folder, the first few by name."""
    try:
        with os.scandir(folder) as entries:
            some = [one.name for one in islice(entries, _NAMED + 1)]
    except PermissionError:
        return "no right to look into it"
    if not some:
        return "nothing"
    return ", ".join(sorted(some[:_NAMED])) + (" and more" if len(some) > _NAMED else "")
