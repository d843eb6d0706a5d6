"""The shards of a plan, written in processes of their own; each is noted beside it when it is done."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import connection
from pathlib import Path

from edgeq import atomic
from edgeq.corpora import packed, shards
from edgeq.corpora.clips import Clip
from edgeq.corpora.pack_plan import Part, Plan
from edgeq.corpora.shards import Content, Damaged, Entry
from edgeq.errors import InputError

_TEMPORARY = ".shard-*", f".{packed.ARRAYS}.*", f".{packed.INDEX}.*", f"{packed.UNFINISHED}/.*"


@dataclass(frozen=True)
class Done:
    """A shard that is there, as it is noted beside it until all are."""

    fingerprint: str
    size: int
    sha256: str
    entries: tuple[Entry, ...]
    damaged: tuple[Damaged, ...]


def written(output: Path, plan: Plan, todo: Sequence[Part], jobs: int) -> Generator[tuple[Part, str], None, None]:
    """Make these shards of a plan, on `jobs` processes, so that numerical libraries are set up alike for any number.

    Gives each with its sha256 as it is done, in any order. Raises InputError where one cannot be written or a process
    died, saying how many are kept.
    """
    remove_temporary(output)
    before = set(multiprocessing.active_children())
    total = len(plan.parts)
    made = total - len(todo)
    with _one_thread_each():
        pool = ProcessPoolExecutor(min(jobs, len(todo)), multiprocessing.get_context("spawn"), _begin)
        try:
            waiting = iter(todo)
            running: dict[Future[str], Part] = {}
            while True:
                for part in waiting:
                    running[pool.submit(_make, output, part, plan.clips(part), plan.content)] = part
                    if len(running) >= 2 * jobs:
                        break
                if not running:
                    break
                ready, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in ready:
                    part = running.pop(future)
                    sha256 = future.result()
                    made += 1
                    yield part, sha256
        except BrokenProcessPool as error:
            raise InputError(
                f"{output}: a process that packed ended early (too little memory?); {_told(made, total)}; run the same "
                "command again, with fewer --jobs"
            ) from error
        except OSError as error:
            raise InputError(_unwritable(output, error, made, total)) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - before:
                process.terminate()
                process.join()
            remove_temporary(output)


def noted(output: Path, part: Part) -> Done | None:
    """What was noted of a shard when it was finished; None where it was not, or would now be another."""
    try:
        table = json.loads(_note(output, part.number).read_bytes())
        done = Done(
            fingerprint=table["fingerprint"],
            size=table["size"],
            sha256=table["sha256"],
            entries=tuple(
                Entry(number, tuple(at), tuple(size), tuple(checksum), seconds, recording)
                for number, at, size, checksum, seconds, recording in table["entries"]
            ),
            damaged=tuple(Damaged(*one) for one in table["damaged"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return done if done.fingerprint == part.fingerprint else None


def remove_temporary(output: Path) -> None:
    """What a killed process left behind."""
    for pattern in _TEMPORARY:
        for path in output.glob(pattern):
            path.unlink(missing_ok=True)


def _note(output: Path, number: int) -> Path:
    return output / packed.UNFINISHED / f"{number:06d}.json"


def _make(output: Path, part: Part, clips: Sequence[tuple[str, Clip]], content: Content) -> str:
    made = shards.write(output / part.file, clips, content)
    done = Done(part.fingerprint, made.size, made.sha256, made.entries, made.damaged)
    # Last: a shard without its note is made anew.
    atomic.write_text(_note(output, part.number), json.dumps(asdict(done)))
    return made.sha256


def _unwritable(output: Path, error: OSError, made: int, total: int) -> str:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    mend = "free some space" if full else "mend that"
    place = error.filename or output
    return f"{place}: {error.strerror or error}; {_told(made, total)}; {mend} and run the same command again"


def _told(made: int, total: int) -> str:
    return f"{made} of {total} shards are finished and kept"


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let processes that are started now use one thread each in numerical libraries: they read this on loading."""
    names = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _begin() -> None:
    """Set up a process that packs: Ctrl-C is its parent's to handle, and it does not outlive that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def leave() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=leave, daemon=True).start()
