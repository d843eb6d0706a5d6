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
    those, "unreadable", "empty" or "short"; tolerated where every copy of the corpus has them.
    """

    recordings: tuple[Recording | None, ...]
    faults: tuple[Fault, ...]


def soundness(
    corpus: Corpus, decoded: bool = True, jobs: int = 1, advance: Advance | None = None, least: float = 0.0
) -> Soundness:
    """Read every clip.

    decoded: to its end, as damage behind the header shows only then; else its header. jobs: processes at most, which
    small corpora have no use for. advance is told of each clip. least: seconds, below which a clip cannot be used.
    Raises InputError where a process dies.
    """
    defects = set(corpus.defects)
    recordings: list[Recording | None] = []
    faults: list[Fault] = []
    for found in _read_all([clip.path for clip in corpus.clips], decoded, least, jobs):
        if isinstance(found, Recording):
            recordings.append(found)
        else:
            recordings.append(None)
            faults.append(replace(found, tolerated=found.path in defects))
        if advance is not None:
            advance(1)
    return Soundness(tuple(recordings), tuple(faults))


def sound(corpus: Corpus, faults: Sequence[Fault]) -> Corpus:
    """The corpus without the clips that have faults. Raises InputError as `check_share`."""
    check_share(corpus.name, [fault.what for fault in faults], len(corpus.clips))
    unsound = {fault.path for fault in faults}
    return corpus.select(lambda clip: clip.path not in unsound) if faults else corpus


def check_share(name: str, wrong: Sequence[str], clips: int) -> None:
    """Raises InputError where more clips cannot be used than a share MOST_UNSOUND of all, or none can.

    wrong: what is wrong with each of those.
    """
    if wrong and (len(wrong) > MOST_UNSOUND * clips or len(wrong) == clips):
        raise InputError(
            f"{name}: {len(wrong)} of {clips} clips cannot be used, and no more than {MOST_UNSOUND:.0%} are left out; "
            f"mend or remove them. The first: {wrong[0]}"
        )


def _read_all(paths: Sequence[Path], decoded: bool, least: float, jobs: int) -> Iterator[Recording | Fault]:
    """Each recording's header, or what is wrong with it, in order."""
    jobs = min(jobs, len(paths) // _WORTH_A_PROCESS)
    if jobs < 2:
        for path in paths:
            yield _read(path, decoded, least)
        return
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _leave_ctrl_c)
    try:
        yield from pool.map(partial(_read, decoded=decoded, least=least), paths, chunksize=_TOGETHER)
    except BrokenProcessPool as error:
        raise InputError("a process that read recordings died; run again with --jobs 1 to see at which one") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_ctrl_c() -> None:
    """Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _read(path: Path, decoded: bool, least: float) -> Recording | Fault:
    try:
        recording = decode.info(path)
        if decoded:
            for _ in decode.blocks(path, recording.sample_rate):
                pass
    except InputError as error:
        return Fault(path, "empty" if isinstance(error, EmptyRecording) else "unreadable", str(error))
    if recording.seconds < least:
        return Fault(path, "short", f"{path}: {recording.seconds:.3f} s, expected at least {least:.3f} s")
    return recording
