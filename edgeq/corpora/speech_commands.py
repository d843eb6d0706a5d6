"""Speech Commands: one-second recordings of single words, a folder a word."""

from __future__ import annotations

import re
from pathlib import Path

from edgeq.audio import decode
from edgeq.corpora import folders, table
from edgeq.corpora.clips import Clip
from edgeq.corpora.corpus import Corpus
from edgeq.corpora.faults import Fault
from edgeq.corpora.layout import Layout
from edgeq.errors import InputError

LICENCE = "CC BY 4.0"
CITATION = 'P. Warden, "Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition", arXiv:1804.03209, 2018'

BACKGROUND = "_background_noise_"

_LISTS = {"validation": "validation_list.txt", "testing": "testing_list.txt"}
_SPEAKER = re.compile(r"(?P<speaker>[0-9a-f]+)_nohash_\d+")


def read(folder: Path) -> Corpus:
    """Read the corpus in `folder`: one folder a word, validation_list.txt and testing_list.txt.

    Every word is a class (30 in version 0.01, 35 in 0.02). Clips that neither list names are for training. A speaker
    (the file name before _nohash_) is one group, and lies in one split. The minutes of noise in _background_noise_ are
    no words and are left out.
    Raises InputError where a list leads out of the folder, names a clip twice, or a word has no recording.
    Source: README.md of version 0.02, "Organization" and "Partitioning".
    """
    splits = _splits(folder)
    clips: list[Clip] = []
    words = [word for word in folders.class_folders(folder) if word.name != BACKGROUND]
    for word in words:
        for path in decode.recordings(word):
            split = splits.pop(path.relative_to(folder).as_posix(), "training")
            speaker = _SPEAKER.fullmatch(path.stem)
            clips.append(Clip(path, (word.name,), None, LICENCE, "", split, speaker["speaker"] if speaker else ""))
    faults = [
        Fault(folder / name, "missing", f"{folder / _LISTS[split]}: {folder / name} is not there; restore it")
        for name, split in splits.items()
    ]
    return Corpus(
        folder.resolve().name,
        tuple(clips),
        tuple(word.name for word in words),
        faults=tuple(faults),
        seconds=(0.0, 1.0),
        licence=LICENCE,
        citation=CITATION,
    )


def _splits(folder: Path) -> dict[str, str]:
    """The split of each clip that a list names, by its path in the folder."""
    found: dict[str, str] = {}
    for split, name in _LISTS.items():
        for where, (line, *_) in table.lines(folder / name):
            if Path(line).is_absolute() or ".." in Path(line).parts:
                raise InputError(f"{where}: {line!r} leads out of {folder}; expected a path below it")
            if line in found:
                raise InputError(f"{where}: {line} is listed twice; restore {' and '.join(_LISTS.values())}")
            found[line] = split
    return found


def _recognises(folder: Path) -> bool:
    return all((folder / name).is_file() for name in _LISTS.values())


LAYOUT = Layout(
    "speech-commands", "validation_list.txt and testing_list.txt, beside one folder a word", _recognises, read
)
