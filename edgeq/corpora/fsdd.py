"""Free Spoken Digit Dataset: speakers say the digits, fifty times each."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from edgeq.audio import decode
from edgeq.corpora.clips import Clip
from edgeq.corpora.corpus import Corpus
from edgeq.corpora.layout import Layout
from edgeq.errors import InputError

LICENCE = "CC BY-SA 4.0"
CITATION = "Z. Jackson and others, Free Spoken Digit Dataset, github.com/Jakobovski/free-spoken-digit-dataset"

DIGITS = tuple("0123456789")

_HOMES = ("recordings", "audio")
_NAME = re.compile(r"(?P<digit>[0-9])_(?P<speaker>[^_]+)_(?P<index>\d+)")


@dataclass(frozen=True)
class Name:
    """What the name of a recording says: the digit, who speaks, and which of their recordings of it, from 0."""

    digit: str
    speaker: str
    index: int


def decode_name(stem: str) -> Name:
    """The parts of a recording's name, as in 7_jackson_32. Raises InputError where it is no such name."""
    match = _NAME.fullmatch(stem)
    if match is None:
        raise InputError(f"{stem}: expected a digit, a speaker and a number, as in 7_jackson_32")
    return Name(match["digit"], match["speaker"], int(match["index"]))


def read(folder: Path) -> Corpus:
    """Read the recordings in `folder`, below recordings/ (as published) or audio/.

    A fold is a speaker, from 1 in the order of their names: the corpus's own split (number 0 to 4 for testing) lets a
    model hear every speaker in training, and is not used. A speaker is one group.
    Raises InputError where a recording's name is no digit, speaker and number.
    Source: the corpus's README, "Organization" and "Usage".
    """
    paths = decode.recordings(_home(folder) or folder)
    names = [decode_name(path.stem) for path in paths]
    speakers = sorted({name.speaker for name in names})
    clips = tuple(
        Clip(path, (name.digit,), speakers.index(name.speaker) + 1, LICENCE, group=name.speaker)
        for path, name in zip(paths, names, strict=True)
    )
    return Corpus(folder.resolve().name, clips, DIGITS, licence=LICENCE, citation=CITATION)


def _home(folder: Path) -> Path | None:
    """The folder of the recordings."""
    for home in (folder / name for name in _HOMES):
        one = _recording(home) if home.is_dir() else None
        if one is not None and _NAME.fullmatch(one.stem):
            return home
    return None


def _recording(home: Path) -> Path | None:
    """Some recording below a folder, as `decode.recordings` finds them: of a corpus of millions, one will do."""
    folders = []
    try:
        with os.scandir(home) as entries:
            for entry in entries:
                if entry.name[0] == ".":
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(home / entry.name)
                elif Path(entry.name).suffix.lower() in decode.SUFFIXES:
                    return home / entry.name
    except PermissionError:
        return None
    return next(filter(None, map(_recording, folders)), None)


def _recognises(folder: Path) -> bool:
    return _home(folder) is not None


LAYOUT = Layout("fsdd", "recordings/ or audio/ with recordings named 7_jackson_32.wav", _recognises, read)
