"""RAVDESS: 24 actors speak two sentences in eight emotions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgeq.corpora.clips import Clip
from edgeq.corpora.corpus import Corpus
from edgeq.corpora.faults import Fault
from edgeq.corpora.layout import Layout, lying_in
from edgeq.errors import InputError

LICENCE = "CC BY-NC-SA 4.0"
CITATION = (
    'S. R. Livingstone and F. A. Russo, "The Ryerson Audio-Visual Database of Emotional Speech and Song (RAVDESS)", '
    "PLoS ONE 13(5), 2018; zenodo.org/record/1188976"
)

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
ACTORS = 24
FOLDS = 4

_NAME = re.compile(r"(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)")
_RANGES = (3, 2, len(EMOTIONS), 2, 2, 2, ACTORS)
_AUDIO, _SPEECH = 3, 1


@dataclass(frozen=True)
class Name:
    """What the name of a recording says, each counted from 1.

    modality: 1 full, 2 video only, 3 audio only. channel: 1 speech, 2 song. emotion: into EMOTIONS. intensity: 1
    normal, 2 strong. statement, repetition: 1 or 2. actor: 1 to 24, odd ones are men.
    """

    modality: int
    channel: int
    emotion: int
    intensity: int
    statement: int
    repetition: int
    actor: int

    def __str__(self) -> str:
        parts = (self.modality, self.channel, self.emotion, self.intensity, self.statement, self.repetition, self.actor)
        return "-".join(f"{part:02}" for part in parts)

    @property
    def fold(self) -> int:
        """1 to 4: actors by pairs of a man and a woman in turn (1, 2 in the first, 3, 4 in the second), six a fold."""
        return (self.actor - 1) // 2 % FOLDS + 1


def decode_name(stem: str) -> Name:
    """The parts of a recording's name, as in 03-01-06-01-02-01-12.

    Raises InputError where it is no such name, a part is out of range, or neutral, which has one intensity, is strong.
    Source: zenodo.org/record/1188976, "File naming convention".
    """
    match = _NAME.fullmatch(stem)
    if match is None:
        raise InputError(f"{stem}: expected seven numbers of two digits, as in 03-01-06-01-02-01-12")
    parts = tuple(map(int, match.groups()))
    for part, most in zip(parts, _RANGES, strict=True):
        if not 1 <= part <= most:
            raise InputError(f"{stem}: found {part:02}, expected 01 to {most:02} there")
    name = Name(*parts)
    if name.emotion == 1 and name.intensity == 2:
        raise InputError(f"{stem}: neutral and strong, expected neutral speech in normal intensity (01) only")
    return name


def read(folder: Path) -> Corpus:
    """Read the speech recordings in `folder`: Actor_01 to Actor_24, there or one folder further down.

    As in the quaternion paper (section V.A), speech only: 60 recordings an actor, 1440 in all; song (02) and video (01,
    02) are left out. Folds are those of `Name.fold`; no actor lies in two. The paper has four folds as well, of
    three quarters and a quarter, and does not say which.
    Raises InputError as `decode_name` does, and where a recording lies with another actor.
    Source: zenodo.org/record/1188976, "Audio-only files" and "File naming convention".
    """
    found: dict[str, Path] = {}
    for actor in _actors(folder):
        for path in sorted(actor.glob("[!.]*.wav")):
            name = decode_name(path.stem)
            if actor.name != f"Actor_{name.actor:02}":
                raise InputError(f"{path}: its name says actor {name.actor}; expected it in Actor_{name.actor:02}")
            if path.stem in found:
                raise InputError(f"{path}: lies in {found[path.stem].parent} too; keep one of them")
            if (name.modality, name.channel) == (_AUDIO, _SPEECH):
                found[path.stem] = path
    home = _actors(folder)[0].parent
    clips: list[Clip] = []
    faults: list[Fault] = []
    for name in _published():
        path = found.get(str(name), home / f"Actor_{name.actor:02}" / f"{name}.wav")
        if str(name) in found:
            clips.append(Clip(path, (EMOTIONS[name.emotion - 1],), name.fold, LICENCE, group=f"actor {name.actor}"))
        else:
            faults.append(Fault(path, "missing", f"{path} is not there; restore it"))
    return Corpus(
        folder.resolve().name,
        tuple(clips),
        EMOTIONS,
        faults=tuple(faults),
        licence=LICENCE,
        citation=CITATION,
    )


def _published() -> list[Name]:
    """The names of all speech recordings, in order."""
    return [
        Name(_AUDIO, _SPEECH, emotion, intensity, statement, repetition, actor)
        for actor in range(1, ACTORS + 1)
        for emotion in range(1, len(EMOTIONS) + 1)
        for intensity in ((1,) if emotion == 1 else (1, 2))
        for statement in (1, 2)
        for repetition in (1, 2)
    ]


def _actors(folder: Path) -> list[Path]:
    homes = folder, *lying_in(folder, "*", folders=True)
    found = [path for home in homes for path in lying_in(home, "Actor_??", folders=True)]
    return sorted(path for path in found if any(_NAME.fullmatch(one.stem) for one in path.glob("*.wav")))


def _recognises(folder: Path) -> bool:
    return bool(_actors(folder))


LAYOUT = Layout("ravdess", "Actor_01/03-01-01-01-01-01-01.wav and so on", _recognises, read)
