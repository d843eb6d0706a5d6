"""From a corpus on disk to shards: in parallel, resumable after a kill, the same bytes whoever makes them."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from edgeq import corpora
from edgeq.audio.frontend import FrontendSpec
from edgeq.audio.maps import logmel_spec
from edgeq.corpora import pack_shards, packed, shards
from edgeq.corpora.faults import Faults
from edgeq.corpora.pack_index import bring_together, inside
from edgeq.corpora.pack_plan import Part, Plan, plan
from edgeq.corpora.shards import Content
from edgeq.errors import InputError
from edgeq.progress import progress

SHARD_MEGABYTES = 256
MAX_DAMAGED = 0.01

_LOCK = "lock"


def pack(
    folder: Path | str,
    output: Path | str,
    spec: FrontendSpec | None = None,
    speeds: Sequence[float] = (1.0,),
    dtype: str = "float16",
    shard_megabytes: float = SHARD_MEGABYTES,
    jobs: int | None = None,
    max_damaged: float = MAX_DAMAGED,
    layout: str | None = None,
) -> dict[str, Any]:
    """Write a corpus as WebDataset shards with an index, for `packed.open`.

    spec: pack log-mel of this front end, at speeds (the first is 1), as dtype (float16 or int16); None: pack recordings
    as FLAC, see `shards.write`. Clips lie in an order drawn from their names, about shard_megabytes in a shard. jobs:
    processes, by default one a core; the bytes are the same for any number. Each shard is whole or absent, and the
    index comes last: after a kill, or on a disk that was full, the same call goes on with the shards that are missing.
    Clips that cannot be decoded, or hold less than an STFT window, are left out and listed. layout: of the corpus,
    where the folder does not tell. Memory grows by about 200 bytes a clip.
    Returns corpus, packed (the folder), clips, hours, bytes, shards, damaged (file and reason of each clip left out),
    missing (what the corpus's tables name and it lacks), kept (shards that were there already).
    Raises InputError where two clips would have one key, more than max_damaged of the clips are damaged, a process died
    or the disk is full (saying what is kept), or `output` holds another packed corpus or is being packed into; and as
    `corpora.open`.
    """
    folder, output = Path(folder), Path(output)
    content = Content(None if spec is None else logmel_spec(spec), tuple(speeds), dtype)
    if dtype not in shards.DTYPES or content.speeds[:1] != (1.0,) or not shard_megabytes > 0:
        raise InputError(
            f"dtype {dtype}, speeds {speeds}, shards of {shard_megabytes} MB: expected {' or '.join(shards.DTYPES)}, "
            "1 as the first speed, more than 0 MB"
        )
    planned = plan(folder, corpora.open(folder, layout), content, shard_megabytes)
    kept = len(planned.parts)
    if not _complete(output, planned):
        with _alone(output):
            kept = _pack(output, planned, jobs or os.cpu_count() or 1, max_damaged)
            shutil.rmtree(output / packed.UNFINISHED, ignore_errors=True)
        # NFS keeps a file that is open, and its folder: now it is closed. One who packs by now keeps what he has.
        with suppress(OSError):
            (output / packed.UNFINISHED).rmdir()
    return _result(output, planned, kept)


def _complete(output: Path, planned: Plan) -> bool:
    """Whether all is there and nothing is left to clear away."""
    finished = _finished(output, planned.source)
    if finished is None or (output / packed.UNFINISHED).is_dir():
        return False
    return all(_kept(output, part, finished) for part in planned.parts)


def _pack(output: Path, planned: Plan, jobs: int, max_damaged: float) -> int:
    """Make what is not there yet; returns how many shards were."""
    finished = _finished(output, planned.source)
    todo = [part for part in planned.parts if not _kept(output, part, finished)]
    if todo:
        with (
            progress(f"{planned.corpus.name}: packing", sum(map(len, todo))) as advance,
            closing(pack_shards.written(output, planned, todo, jobs)) as made,
        ):
            for part, sha256 in made:
                _check_anew(output / part.file, sha256, finished)
                advance(len(part))
    if finished is None:
        bring_together(output, planned, max_damaged)
    return len(planned.parts) - len(todo)


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Keep others from packing into a folder meanwhile; the kernel lets go when this process ends, however it does.

    Raises InputError where another does, saying who.
    """
    lock = output / packed.UNFINISHED / _LOCK
    while True:
        # First of all: by this folder a run that goes on knows `output` for one of its own.
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = lock.open("a+")
        except FileNotFoundError:
            continue  # whoever packed is done, and has cleared the folder away just now
        with handle:
            if not _locked(handle):
                handle.seek(0)
                raise InputError(
                    f"{output}: {handle.read() or 'another process'} packs into it; wait for its end, or choose "
                    "another folder with -o"
                )
            if not _lies_at(lock, handle):
                continue  # whoever held it is done, and has cleared it away
            handle.truncate(0)
            handle.write(f"process {os.getpid()} on {platform.node()}")
            handle.flush()
            yield
            return


def _locked(handle: TextIO) -> bool:
    """Lock a file; False where another process has. On Windows, and file systems without locks, nothing is locked."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        pass
    return True


def _lies_at(path: Path, handle: TextIO) -> bool:
    """Whether an open file is the one at a path."""
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _finished(output: Path, source: str) -> dict[str, Any] | None:
    """The index in `output` where there is one already: then it has to be whole, and of this very corpus."""
    if not (output / packed.INDEX).is_file():
        if output.is_dir() and not (output / packed.UNFINISHED).is_dir() and any(output.iterdir()):
            raise InputError(f"{output}: holds other files; choose another folder with -o")
        return None
    table, _ = packed.read_index(output)
    if table.get("source_sha256") != source:
        raise InputError(
            f"{output}: holds a packed corpus of other recordings or options; remove it, or choose another folder "
            "with -o"
        )
    packed.check_arrays(output, table)
    return table


def _kept(output: Path, part: Part, finished: Mapping[str, Any] | None) -> bool:
    """Whether a shard is there already and need not be made."""
    if finished is not None:
        size = finished["shards"][part.number]["size"]
    else:
        done = pack_shards.noted(output, part)
        if done is None:
            return False
        size = done.size
    place = output / part.file
    return place.is_file() and place.stat().st_size == size


def _check_anew(place: Path, sha256: str, finished: Mapping[str, Any] | None) -> None:
    """A shard that a finished corpus had lost has to be what it was."""
    if finished is None:
        return
    if sha256 not in (shard["sha256"] for shard in finished["shards"] if shard["file"] == place.name):
        place.unlink()
        raise InputError(
            f"{place}: came out other than it was: its recordings, or the library that encodes them, have changed "
            f"since; remove {place.parent} and pack anew"
        )


def _result(output: Path, planned: Plan, kept: int) -> dict[str, Any]:
    table, _ = packed.read_index(output)
    return {
        "corpus": table["name"],
        "packed": str(output),
        "clips": table["clips"],
        "hours": table["hours"],
        "bytes": sum(shard["size"] for shard in table["shards"]),
        "shards": len(table["shards"]),
        "kept": kept,
        "damaged": table["damaged"],
        "missing": [inside(planned.folder, one.path) for one in Faults.of(planned.corpus.faults).of_kind("missing")],
    }
