"""Which clips of a corpus can be used: recordings are damaged, empty, or cut short."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgeq.audio import decode
from edgeq.audio.decode import EmptyRecording, Recording
from edgeq.corpora.corpus import Clip, Corpus, Fault
from edgeq.errors import InputError
from edgeq.progress import Advance

MOST_UNSOUND = 0.1
"""The share of clips that may be left out."""


@dataclass(frozen=True)
class Soundness:
    """Which clips of a corpus can be used.

    recordings: what each clip's header says, in the corpus's order, None where the clip cannot be used. faults: of
    those, "unreadable" or "empty"; tolerated where every copy of the corpus has them.
    """

    recordings: tuple[Recording | None, ...]
    faults: tuple[Fault, ...]


def soundness(corpus: Corpus, decoded: bool = True, advance: Advance | None = None) -> Soundness:
    """Read every clip.

    decoded: to its end, as damage behind the header shows only then; else its header. advance is told of each clip.
    """
    recordings: list[Recording | None] = []
    faults: list[Fault] = []
    for clip in corpus.clips:
        try:
            recordings.append(_read(clip, decoded))
        except InputError as error:
            recordings.append(None)
            kind = "empty" if isinstance(error, EmptyRecording) else "unreadable"
            faults.append(Fault(clip.path, kind, str(error), tolerated=clip.path in corpus.defects))
        if advance is not None:
            advance(1)
    return Soundness(tuple(recordings), tuple(faults))


def sound(
    corpus: Corpus, most: float = MOST_UNSOUND, decoded: bool = True, advance: Advance | None = None
) -> tuple[Corpus, tuple[Fault, ...]]:
    """The corpus without the clips that cannot be used, and what is wrong with those.

    decoded, advance: as in `soundness`. Raises InputError where they are more than a share `most` of all clips.
    """
    found = soundness(corpus, decoded, advance)
    check_share(corpus.name, found.faults, len(corpus.clips), most)
    kept = tuple(clip for clip, one in zip(corpus.clips, found.recordings, strict=True) if one is not None)
    return replace(corpus, clips=kept), found.faults


def check_share(name: str, faults: Sequence[Fault], clips: int, most: float = MOST_UNSOUND) -> None:
    """Raises InputError where a corpus has more faults than a share `most` of its clips, or one in each."""
    if faults and (len(faults) > most * clips or len(faults) == clips):
        raise InputError(
            f"{name}: {len(faults)} of {clips} clips cannot be used, and no more than {most:.0%} are left out; mend or "
            f"remove them. The first: {faults[0].what}"
        )


def _read(clip: Clip, decoded: bool) -> Recording:
    recording = decode.info(clip.path)
    if decoded:
        for _ in decode.blocks(clip.path, recording.sample_rate):
            pass
    return recording
