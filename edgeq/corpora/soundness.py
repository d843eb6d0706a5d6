"""Which clips of a corpus can be used: recordings are damaged, empty, or cut short."""

from __future__ import annotations

import math
import multiprocessing
import signal
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from edgeq.audio import decode
from edgeq.audio.decode import EmptyRecording, Recording
from edgeq.corpora.columns import Numbers
from edgeq.corpora.corpus import Corpus
from edgeq.corpora.faults import Fault, Faults, GrowingFaults
from edgeq.errors import InputError
from edgeq.progress import Advance

MOST_UNSOUND = 0.1
"""The share of clips that may be left out."""

_TOGETHER = 64  # clips that a process is given at a time
_WORTH_A_PROCESS = 1000  # clips


@dataclass(frozen=True, eq=False)
class Headers:
    """What the headers of clips say, each (clips,). Where a clip cannot be used: rate and channels 0, seconds NaN."""

    sample_rates: np.ndarray
    channels: np.ndarray
    seconds: np.ndarray

    @property
    def usable(self) -> np.ndarray:
        """Which clips can be used: bool (clips,)."""
        return self.sample_rates > 0


@dataclass(frozen=True, eq=False)
class Soundness:
    """Which clips of a corpus can be used.

    headers: of each clip, in the corpus's order. faults: of those that cannot be used, "unreadable", "empty" or
    "short"; tolerated where every copy of the corpus has them.
    """

    headers: Headers
    faults: Faults


def soundness(
    corpus: Corpus, decoded: bool = True, jobs: int = 1, advance: Advance | None = None, least: float = 0.0
) -> Soundness:
    """Read every clip.

    decoded: to its end, as damage behind the header shows only then; else its header. jobs: processes at most, which
    small corpora have no use for. advance is told of each clip. least: seconds, below which a clip cannot be used.
    Raises InputError where a process dies.
    """
    defects = set(corpus.defects)
    rates, channels, seconds, faults = Numbers(), Numbers(), array("d"), GrowingFaults()
    jobs = min(jobs, len(corpus.clips) // _WORTH_A_PROCESS)
    for found in _read_all((clip.path for clip in corpus.clips), decoded, least, jobs):
        if isinstance(found, Fault):
            faults.append(replace(found, tolerated=found.path in defects))
            rate, channel_count, length = 0, 0, math.nan
        else:
            rate, channel_count, length = found.sample_rate, found.channels, found.seconds
        rates.append(rate)
        channels.append(channel_count)
        seconds.append(length)
        if advance is not None:
            advance(1)
    return Soundness(Headers(rates.column(), channels.column(), np.array(seconds)), faults.faults())


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


def _read_all(paths: Iterator[Path], decoded: bool, least: float, jobs: int) -> Iterator[Recording | Fault]:
    """Each recording's header, or what is wrong with it, in order; few paths are taken ahead of what was asked for."""
    if jobs < 2:
        yield from (_read_one(path, decoded, least) for path in paths)
        return
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _leave_ctrl_c)
    running: deque[Future[list[Recording | Fault]]] = deque()
    try:
        while (together := list(islice(paths, _TOGETHER))) or running:
            if together:
                running.append(pool.submit(_read, together, decoded, least))
            if len(running) > 2 * jobs or not together:
                yield from running.popleft().result()
    except BrokenProcessPool as error:
        raise InputError("a process that read recordings died; run again with --jobs 1 to see at which one") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_ctrl_c() -> None:
    """Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _read(paths: Iterable[Path], decoded: bool, least: float) -> list[Recording | Fault]:
    return [_read_one(path, decoded, least) for path in paths]


def _read_one(path: Path, decoded: bool, least: float) -> Recording | Fault:
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
