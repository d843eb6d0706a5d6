"""From a corpus on disk to shards: in parallel, resumable after a kill, the same bytes whoever makes them."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import math
import multiprocessing
import os
import re
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from multiprocessing import connection
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import soundfile

from edgeq import atomic, corpora
from edgeq.audio import decode, frontend
from edgeq.audio.frontend import FrontendSpec
from edgeq.audio.maps import logmel_spec
from edgeq.corpora import packed, shards
from edgeq.corpora.corpus import SPLITS, Clip, Corpus
from edgeq.corpora.shards import Content, Damaged, Entry
from edgeq.errors import InputError
from edgeq.progress import progress

SHARD_MEGABYTES = 256
MAX_DAMAGED = 0.01
_SAMPLED = 256  # headers that say how long clips are
_TEMPORARY = ".shard-*", f".{packed.ARRAYS}.*", f".{packed.INDEX}.*", f"{packed.UNFINISHED}/.*"


@dataclass(frozen=True, eq=False)
class _Part:
    """What one shard is to hold. fingerprint: of all that its bytes follow from, as far as sizes and times tell."""

    number: int
    clips: tuple[tuple[str, Clip], ...]
    content: Content
    fingerprint: str

    @property
    def file(self) -> str:
        return f"shard-{self.number:06d}.tar"


@dataclass(frozen=True)
class _Done:
    """A shard that is there, as it is noted beside it until all are."""

    fingerprint: str
    size: int
    sha256: str
    entries: tuple[Entry, ...]
    damaged: tuple[Damaged, ...]


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
    where the folder does not tell.
    Returns corpus, packed (the folder), clips, hours, bytes, shards, damaged (file and reason of each clip left out),
    missing (what the corpus's tables name and it lacks), kept (shards that were there already).
    Raises InputError where two clips would have one key, more than max_damaged of the clips are damaged, a process died
    or the disk is full (saying what is kept), or `output` holds another packed corpus; and as `corpora.open`.
    """
    folder, output = Path(folder), Path(output)
    content = Content(None if spec is None else logmel_spec(spec), tuple(speeds), dtype)
    if dtype not in shards.DTYPES or content.speeds[:1] != (1.0,) or not shard_megabytes > 0:
        raise InputError(
            f"dtype {dtype}, speeds {speeds}, shards of {shard_megabytes} MB: expected {' or '.join(shards.DTYPES)}, "
            "1 as the first speed, more than 0 MB"
        )
    corpus = corpora.open(folder, layout)
    keyed = _in_order(folder, corpus)
    parts = _parts(keyed, content, shard_megabytes)
    source = _source(corpus, parts)
    finished = _finished(output, source)
    todo = [part for part in parts if not _kept(output, part, finished)]
    if todo:
        # First of all: by it a run that goes on knows the folder for one of its own.
        (output / packed.UNFINISHED).mkdir(parents=True, exist_ok=True)
        with (
            progress(f"{corpus.name}: packing", sum(len(part.clips) for part in todo)) as advance,
            closing(_written(output, todo, jobs or os.cpu_count() or 1, len(parts))) as made,
        ):
            for part, sha256 in made:
                _check_anew(output / part.file, sha256, finished)
                advance(len(part.clips))
    if finished is None:
        _bring_together(output, folder, corpus, parts, source, max_damaged)
    shutil.rmtree(output / packed.UNFINISHED, ignore_errors=True)
    return _result(folder, output, corpus, len(parts) - len(todo))


def _in_order(folder: Path, corpus: Corpus) -> list[tuple[str, Clip]]:
    """Each clip with its key, in the order of the shards: by the keys' hashes, so that every shard is a mixture."""
    keyed = [(_key(folder, clip.path), clip) for clip in corpus.clips]
    twice = {key for key, count in Counter(key for key, _ in keyed).items() if count > 1}
    if twice:
        key = min(twice)
        files = ", ".join(str(clip.path) for other, clip in keyed if other == key)
        raise InputError(
            f"{corpus.name}: {files} would all be {key}; a clip's name without its ending has to be its own: "
            "rename or remove all but one"
        )
    return sorted(keyed, key=lambda pair: hashlib.sha256(pair[0].encode()).digest())


def _key(folder: Path, path: Path) -> str:
    """A clip's path in its corpus, without the ending. WebDataset ends keys at the first dot and skips __names__."""
    inside = path.relative_to(folder) if path.is_relative_to(folder) else Path(*path.parts[path.is_absolute() :])
    key = quote(os.fsencode(inside.with_suffix("").as_posix()), safe="/").replace(".", "%2E")
    return f"%5F{key[1:]}" if key.startswith("__") else key


def _parts(keyed: Sequence[tuple[str, Clip]], content: Content, shard_megabytes: float) -> list[_Part]:
    each = max(1, int(shard_megabytes * 2**20 / _clip_bytes(keyed, content)))
    count = math.ceil(len(keyed) / each)
    ends = [len(keyed) * number // count for number in range(count + 1)]
    found = []
    for number, (start, end) in enumerate(pairwise(ends)):
        clips = tuple(keyed[start:end])
        found.append(_Part(number, clips, content, _fingerprint(clips, content)))
    return found


def _clip_bytes(keyed: Sequence[tuple[str, Clip]], content: Content) -> float:
    """About how many bytes a clip will take in a shard, by the headers of some."""
    chosen = np.unique(np.linspace(0, len(keyed) - 1, _SAMPLED).round().astype(int))
    found = []
    for index in chosen:
        try:
            recording = decode.info(keyed[index][1].path)
        except InputError:
            continue
        found.append(2048 + _data_bytes(recording, content))
    return sum(found) / len(found) if found else 1 << 20


def _data_bytes(recording: decode.Recording, content: Content) -> float:
    spec = content.frontend
    if spec is None:
        return recording.seconds * recording.sample_rate * 2 * 0.6  # what FLAC leaves of 16 bits
    samples = max(recording.seconds * spec.sample_rate, spec.window_samples)
    return sum(2 * spec.logmel_rows * frontend.frame_count(int(samples / speed), spec) for speed in content.speeds)


def _fingerprint(clips: Sequence[tuple[str, Clip]], content: Content) -> str:
    digest = hashlib.sha256(_content_facts(content).encode())
    for key, clip in clips:
        status = clip.path.stat()
        digest.update(f"{key}\t{_clip_facts(clip)}\t{status.st_size}\t{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _source(corpus: Corpus, parts: Sequence[_Part]) -> str:
    """sha256 of what a packed corpus is made from, but for times: another copy of a corpus is the same."""
    digest = hashlib.sha256(_content_facts(parts[0].content).encode())
    digest.update(json.dumps([corpus.name, corpus.labels, corpus.multi_label, len(parts)]).encode())
    for part in parts:
        for key, clip in part.clips:
            digest.update(f"{key}\t{_clip_facts(clip)}\t{clip.path.stat().st_size}\n".encode())
    return digest.hexdigest()


def _content_facts(content: Content) -> str:
    spec = None if content.frontend is None else content.frontend.to_json()
    return json.dumps([packed.FORMAT, soundfile.__libsndfile_version__, spec, content.speeds, content.dtype])


def _clip_facts(clip: Clip) -> str:
    return json.dumps([getattr(clip, name) for name in ("labels", *shards.TOLD)])


def _finished(output: Path, source: str) -> dict[str, Any] | None:
    """The index in `output` where there is one already: then it has to be of this very corpus."""
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
    return table


def _kept(output: Path, part: _Part, finished: Mapping[str, Any] | None) -> bool:
    """Whether a shard is there already and need not be made."""
    if finished is not None:
        size = finished["shards"][part.number]["size"]
    else:
        done = _noted(output, part)
        if done is None:
            return False
        size = done.size
    place = output / part.file
    return place.is_file() and place.stat().st_size == size


def _note(output: Path, number: int) -> Path:
    return output / packed.UNFINISHED / f"{number:06d}.json"


def _noted(output: Path, part: _Part) -> _Done | None:
    """What was noted of a shard when it was finished; None where it was not, or would now be another."""
    try:
        table = json.loads(_note(output, part.number).read_bytes())
        done = _Done(
            fingerprint=table["fingerprint"],
            size=table["size"],
            sha256=table["sha256"],
            entries=tuple(
                Entry(number, tuple(at), tuple(size), tuple(crc), secs)
                for number, at, size, crc, secs in table["entries"]
            ),
            damaged=tuple(Damaged(*one) for one in table["damaged"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return done if done.fingerprint == part.fingerprint else None


def _written(output: Path, todo: Sequence[_Part], jobs: int, total: int) -> Generator[tuple[_Part, str], None, None]:
    """Make the shards in processes of their own, so that numerical libraries are set up alike for any number of jobs.

    Gives each with its sha256 as it is done, in any order. Raises InputError where one cannot be written or a process
    died.
    """
    _remove_temporary(output)
    before = set(multiprocessing.active_children())
    made = total - len(todo)
    with _one_thread_each():
        pool = ProcessPoolExecutor(min(jobs, len(todo)), multiprocessing.get_context("spawn"), _begin)
        try:
            waiting = iter(todo)
            running: dict[Future[str], _Part] = {}
            while True:
                for part in waiting:
                    running[pool.submit(_make, output, part)] = part
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
            _remove_temporary(output)


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


def _make(output: Path, part: _Part) -> str:
    written = shards.write(output / part.file, part.clips, part.content)
    done = _Done(part.fingerprint, written.size, written.sha256, written.entries, written.damaged)
    # Last: a shard without its note is made anew.
    atomic.write_text(_note(output, part.number), json.dumps(asdict(done)))
    return written.sha256


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


def _remove_temporary(output: Path) -> None:
    """What a killed process left behind."""
    for pattern in _TEMPORARY:
        for path in output.glob(pattern):
            path.unlink(missing_ok=True)


def _bring_together(
    output: Path, folder: Path, corpus: Corpus, parts: Sequence[_Part], source: str, max_damaged: float
) -> None:
    """Write the index of shards that are all there, from what was noted of each."""
    damaged: list[dict[str, str]] = []
    files: list[packed.Shard] = []
    rows: list[dict[str, np.ndarray]] = []
    label = {name: number for number, name in enumerate(corpus.labels)}
    licences = sorted({clip.licence for clip in corpus.clips})
    licence = {name: number for number, name in enumerate(licences)}
    for part in parts:
        done = _noted(output, part)
        if done is None:
            raise InputError(f"{output / part.file}: what was noted of it is gone; run the same command again")
        damaged += [
            {"file": _inside(folder, part.clips[one.number][1].path), "reason": one.reason} for one in done.damaged
        ]
        files.append(packed.Shard(part.file, len(done.entries), done.size, done.sha256))
        rows.append(_arrays(part, done.entries, label, licence))
    _check_damaged(corpus, damaged, max_damaged)
    arrays = {name: np.concatenate([one[name] for one in rows]) for name in rows[0]}
    arrays["key_ends"] = np.cumsum(arrays["key_ends"])
    _remove_temporary(output)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    table = {
        "format": packed.FORMAT,
        "name": corpus.name,
        "labels": corpus.labels,
        "multi_label": corpus.multi_label,
        "clips": len(arrays["fold"]),
        "hours": float(arrays["seconds"].sum(dtype=np.float64)) / 3600,
        "licence": corpus.licence,
        "citation": corpus.citation,
        "licences": licences,
        "logmel": _logmel_facts(parts[0].content),
        "source_sha256": source,
        "arrays_sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
        "shards": [asdict(one) for one in files],
        "damaged": damaged,
    }
    for path in output.glob("shard-*.tar"):  # of an earlier plan
        if re.fullmatch(r"shard-\d{6}\.tar", path.name) and path.name not in {one.file for one in files}:
            path.unlink()
    atomic.write_bytes(output / packed.ARRAYS, buffer.getvalue())
    atomic.write_text(output / packed.INDEX, json.dumps(table, indent=1, ensure_ascii=False) + "\n")


def _logmel_facts(content: Content) -> dict[str, Any] | None:
    spec = content.frontend
    if spec is None:
        return None
    said = {"dtype": content.dtype, "step": content.step, "speeds": content.speeds}
    return {"frontend": spec.to_json(), "sha256": spec.hash, **said}


def _check_damaged(corpus: Corpus, damaged: Sequence[Mapping[str, str]], most: float) -> None:
    share = len(damaged) / len(corpus.clips)
    if share <= most and len(damaged) < len(corpus.clips):
        return
    some = "; ".join(f"{one['file']}: {one['reason']}" for one in damaged[:3])
    more = f"; and {len(damaged) - 3} more" if len(damaged) > 3 else ""
    raise InputError(
        f"{corpus.name}: {len(damaged)} of {len(corpus.clips)} clips cannot be used ({share:.1%}, at most "
        f"{most:.1%} may): {some}{more}. Mend or remove them, or raise --max-damaged, and run again: finished shards "
        "are kept"
    )


def _arrays(
    part: _Part, entries: Sequence[Entry], label: Mapping[str, int], licence: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """The index of one shard, as `packed.Packed` has that of all; key_ends: how long each key is."""
    pairs = [part.clips[entry.number] for entry in entries]
    keys, clips = [key.encode() for key, _ in pairs], [clip for _, clip in pairs]
    speeds = len(part.content.speeds)
    return {
        "offsets": np.array([entry.offsets for entry in entries], np.int64).reshape(-1, speeds),
        "sizes": np.array([entry.sizes for entry in entries], np.int64).reshape(-1, speeds),
        "checksums": np.array([entry.checksums for entry in entries], np.uint32).reshape(-1, speeds),
        "seconds": np.array([entry.seconds for entry in entries], np.float32),
        "positive_counts": np.array([len(clip.labels) for clip in clips], np.int32),
        "positive_labels": np.array([label[name] for clip in clips for name in clip.labels], np.int32),
        "fold": np.array([-1 if clip.fold is None else clip.fold for clip in clips], np.int32),
        "split": np.array([-1 if clip.split is None else SPLITS.index(clip.split) for clip in clips], np.int8),
        "clip_licence": np.array([licence[clip.licence] for clip in clips], np.int32),
        "key_ends": np.array([len(key) for key in keys], np.int64),
        "key_bytes": np.frombuffer(b"".join(keys), np.uint8),
    }


def _inside(folder: Path, path: Path) -> str:
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def _result(folder: Path, output: Path, corpus: Corpus, kept: int) -> dict[str, Any]:
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
        "missing": [_inside(folder, path) for path in corpus.missing],
    }
