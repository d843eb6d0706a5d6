"""Which clips of a corpus can be used: recordings are damaged, empty, or cut short."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from edgeq.audio import decode
from edgeq.audio.decode import EmptyRecording, Recording
from edgeq.corpora.corpus import Corpus, Fault
from edgeq.errors import InputError
from edgeq.progress import Advance

MOST_UNSOUND = 0.1
"""The share of clips that may be left out."""

_TOGETHER = 64  # clips that a process is given at a time
_WORTH_A_PROCESS = 1000  # clips


@dataclass(frozen=True)
class Soundness:
    """Which clips of a corpus can be used.

    recordings: what each clip's header says, in the corpus's order, None where the clip cannot be used. faults: of
    those, "unreadable" or "empty"; tolerated where every copy of the corpus has them.
    """

    recordings: tuple[Recording | None, ...]
    faults: tuple[Fault, ...]


def soundness(corpus: Corpus, decoded: bool = True, jobs: int = 1, advance: Advance | None = None) -> Soundness:
    """Read every clip.

    decoded: to its end, as damage behind the header shows only then; else its header. jobs: processes at most, which
    small corpora have no use for. advance is told of each clip. Raises InputError where a process dies.
    """
    defects = set(corpus.defects)
    recordings: list[Recording | None] = []
    faults: list[Fault] = []
    for found in _read_all([clip.path for clip in corpus.clips], decoded, jobs):
        if isinstance(found, Recording):
            recordings.append(found)
        else:
            recordings.append(None)
            faults.append(replace(found, tolerated=found.path in defects))
        if advance is not None:
            advance(1)
    return Soundness(tuple(recordings), tuple(faults))


def sound(
    corpus: Corpus,
    most: float = MOST_UNSOUND,
    decoded: bool = True,
    jobs: int = 1,
    advance: Advance | None = None,
) -> tuple[Corpus, tuple[Fault, ...]]:
    """The corpus without the clips that cannot be used, and what is wrong with those.

    decoded, jobs, advance: as in `soundness`. Raises InputError as it does, and where they are more than a share `most`
    of all clips.
    """
    found = soundness(corpus, decoded, jobs, advance)
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


def _read_all(paths: Sequence[Path], decoded: bool, jobs: int) -> Iterator[Recording | Fault]:
    """Each recording's header, or what is wrong with it, in order."""
    jobs = min(jobs, len(paths) // _WORTH_A_PROCESS)
    if jobs < 2:
        for path in paths:
            yield _read(path, decoded)
        return
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _leave_ctrl_c)
    try:
        yield from pool.map(partial(_read, decoded=decoded), paths, chunksize=_TOGETHER)
    except BrokenProcessPool as error:
        raise InputError("a process that read recordings died; run again with --jobs 1 to see at which one") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_ctrl_c() -> None:
    """Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _read(path: Path, decoded: bool) -> Recording | Fault:
    try:
        recording = decode.info(path)
        if decoded:
            for _ in decode.blocks(path, recording.sample_rate):
                pass
    except InputError as error:
        return Fault(path, "empty" if isinstance(error, EmptyRecording) else "unreadable", str(error))
    return recording
