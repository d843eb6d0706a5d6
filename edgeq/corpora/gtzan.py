"""GTZAN: 1000 tracks of 30 s, ten genres of a hundred."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path

from edgeq.corpora.clips import Clip
from edgeq.corpora.corpus import Corpus
from edgeq.corpora.faults import Fault
from edgeq.corpora.layout import Layout
from edgeq.errors import InputError

LICENCE = "none stated; excerpts of published music"
CITATION = (
    'G. Tzanetakis and P. Cook, "Musical genre classification of audio signals", IEEE Transactions on Speech and Audio '
    "Processing 10 (2002)"
)

GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
TRACKS = 100
FOLDS = 10
SEED = "gtzan folds 1"
DEFECT = "jazz.00054"
"""The track that is damaged in the copies that go round as WAV."""

_PARENTS = ("genres", "genres_original", "")
_TRACK = re.compile(r"(?P<genre>[a-z]+)\.(?P<number>\d{5})")


def read(folder: Path) -> Corpus:
    """Read the corpus in `folder`: genres/<genre>/<genre>.00000.wav to .00099.wav, or .au as first published.

    genres may be called genres_original, or be the folder itself. Folds are those of `fold`, as the corpus has none.
    Artists and whole excerpts come back in it, so that folds drawn at random, these too, flatter a classifier (B. L.
    Sturm, "The GTZAN dataset", arXiv:1306.1461, 2013).
    Raises InputError where a file in a genre's folder is no such track.
    Source: marsyas.info/downloads/datasets.html, "GTZAN Genre Collection".
    """
    home = _home(folder)
    if home is None:
        raise InputError(f"{folder}: not found: {LAYOUT.holds}")
    clips: list[Clip] = []
    faults: list[Fault] = []
    for genre in GENRES:
        found = _tracks(home / genre, genre) if (home / genre).is_dir() else {}
        for number in range(TRACKS):
            name = f"{genre}.{number:05}"
            if number in found:
                clips.append(Clip(found[number], (genre,), fold(genre, number)))
            else:
                path = home / genre / f"{name}.wav"
                faults.append(Fault(path, "missing", f"{path} is not there; restore it", tolerated=name == DEFECT))
    return Corpus(
        folder.resolve().name,
        tuple(clips),
        GENRES,
        faults=tuple(faults),
        defects=tuple(clip.path for clip in clips if clip.path.name == f"{DEFECT}.wav"),
        seconds=(29.9, 30.7),
        licence=LICENCE,
        citation=CITATION,
    )


def fold(genre: str, number: int) -> int:
    """The fold, 1 to 10, of a track: ten of each genre lie in each, whichever of them are there.

    Tracks of a genre are put in the order of sha256("gtzan folds 1 <genre>.<number>") and dealt out in turn.
    number: 0 to 99.
    """
    return _order(genre).index(number) % FOLDS + 1


@cache
def _order(genre: str) -> tuple[int, ...]:
    def key(number: int) -> str:
        return hashlib.sha256(f"{SEED} {genre}.{number:05}".encode()).hexdigest()

    return tuple(sorted(range(TRACKS), key=key))


def _home(folder: Path) -> Path | None:
    """The folder of the genres."""
    homes = (folder / parent for parent in _PARENTS)
    return next((home for home in homes if any(_tracks_lie_in(home / genre) for genre in GENRES)), None)


def _tracks_lie_in(folder: Path) -> bool:
    return any(_TRACK.fullmatch(path.stem) for path in folder.glob(f"{folder.name}.*"))


def _tracks(folder: Path, genre: str) -> dict[int, Path]:
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in (".wav", ".au"):
            continue
        track = _TRACK.fullmatch(path.stem)
        if track is None or track["genre"] != genre or int(track["number"]) >= TRACKS:
            raise InputError(f"{path}: expected {genre}.00000 to {genre}.{TRACKS - 1:05} in this folder; remove it")
        if int(track["number"]) in found:
            raise InputError(f"{path}: there is {found[int(track['number'])].name} too; keep one of them")
        found[int(track["number"])] = path
    return found


def _recognises(folder: Path) -> bool:
    return _home(folder) is not None


LAYOUT = Layout("gtzan", "genres/<genre>/<genre>.00000.wav", _recognises, read)
