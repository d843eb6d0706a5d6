"""A packed corpus: shards beside an index that is small enough for millions of clips; any clip is read by itself."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgeq.audio import frontend as frontends
from edgeq.audio.frontend import FrontendSpec
from edgeq.audio.maps import at_speed, logmel_spec
from edgeq.corpora import orders
from edgeq.corpora.clips import SPLITS, Clips, Columns
from edgeq.corpora.columns import Coded, Texts
from edgeq.errors import InputError, naming

INDEX, ARRAYS, FORMAT = "index.json", "index.npz", 2

_KEYS = (
    "name", "labels", "multi_label", "clips", "hours", "licence", "citation", "licences", "logmel", "source_sha256",
    "arrays_sha256", "shards", "damaged", "damaged_sha256", "index_sha256",
)  # fmt: skip
_READ = (
    "offsets", "sizes", "checksums", "seconds", "fold", "split", "clip_licence", "positive_counts", "positive_labels"
)  # fmt: skip
_LATER = "key_ends", "key_bytes", "recording_number", "recording_sha256"
"""Arrays that few ask for: read when the first does."""


@dataclass(frozen=True)
class Shard:
    """One file of a packed corpus. clips: how many it holds. size: bytes. sha256: of all of them."""

    file: str
    clips: int
    size: int
    sha256: str


class Recordings(NamedTuple):
    """What clips were packed from: number, (clips,), of each in its corpus; sha256 of its file, uint8 (clips, 32)."""

    number: np.ndarray
    sha256: np.ndarray


@dataclass(frozen=True, eq=False)
class Packed:
    """A packed corpus, opened: what it says of its clips as arrays, and the clips themselves when they are asked for.

    frontend: what its log-mel was computed with (a `maps.logmel_spec`); None where it holds recordings. speeds: at
    which it has log-mel, the first is 1. step: what one code stands for where codes are int16. clips: what is known of
    them without reading them; their paths are folder/key, where no file is. shard_starts: the first clip of each shard.
    offsets, sizes, checksums: of each clip's data at each speed, (clips, speeds): first byte, how many, their CRC-32.
    seconds: of each recording. damaged: sha256 of each that could not be packed. licence, citation: of the corpus as a
    whole, empty where unknown. hash: sha256 of the index, which holds those of the shards.
    """

    folder: Path
    name: str
    labels: tuple[str, ...]
    multi_label: bool
    frontend: FrontendSpec | None
    speeds: tuple[float, ...]
    step: float | None
    clips: Clips
    shards: tuple[Shard, ...]
    shard_starts: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    checksums: np.ndarray
    seconds: np.ndarray
    damaged: tuple[str, ...]
    licence: str
    citation: str
    hash: str

    def __len__(self) -> int:
        return len(self.clips)

    def __repr__(self) -> str:
        return f"Packed({self.name!r}, {str(self.folder)!r}, {len(self)} clips in {len(self.shards)} shards)"

    @property
    def keys(self) -> tuple[str, ...]:
        """What each clip is called in its shard: its path in the corpus, without the ending."""
        return tuple(self.key(clip) for clip in range(len(self)))

    def key(self, clip: int) -> str:
        """What a clip is called in its shard."""
        return self.clips.name(clip)

    @cached_property
    def recordings(self) -> Recordings:
        """What its clips were packed from: few ask, so it is read when the first does."""
        return Recordings(*_read_later(self.folder, "recording_number", "recording_sha256"))

    def order(self, seed: int, epoch: int, clips: np.ndarray | None = None) -> np.ndarray:
        """In which order an epoch hears all clips, or these: a permutation that seed and epoch alone decide."""
        chosen = np.arange(len(self)) if clips is None else clips
        return orders.shuffled(chosen, self.shard_starts, seed, epoch)

    def balanced_order(
        self, seed: int, epoch: int, clips: np.ndarray | None = None, count: int | None = None
    ) -> np.ndarray:
        """`count` of all clips, or of these, so that classes take turns: see `orders.balanced`.

        count: by default as many as there are. A function of seed and epoch, with clips of near shards together as in
        `order`; clips of rare classes come more than once.
        """
        chosen = np.arange(len(self)) if clips is None else np.asarray(clips, np.int64)
        counts, labels = self.clips.take(chosen).held()
        drawn = orders.balanced(chosen, counts, labels, len(chosen) if count is None else count, seed, epoch)
        return orders.shuffled(drawn, self.shard_starts, seed, epoch)

    def check_frontend(self, spec: FrontendSpec, speeds: Sequence[float] = (1.0,)) -> None:
        """Raises InputError where it holds log-mel that is not this front end's, or lacks one of the speeds."""
        if self.frontend is None:
            return
        mend = "pack again with --features RECIPE, or without --features, which suits every front end"
        own, wanted = self.frontend.to_json(), logmel_spec(spec).to_json()
        other = [name for name in wanted if own[name] != wanted[name]]
        if other:
            found = ", ".join(f"{name} {own[name]}, not {wanted[name]}" for name in other[:3])
            raise InputError(f"{self.folder}: packed with another front end: {found}; {mend}")
        if lacking := [f"{speed:g}" for speed in speeds if speed not in self.speeds]:
            raise InputError(f"{self.folder}: packed without speed {', '.join(lacking)}; {mend}")

    def read(
        self, clips: Sequence[int] | np.ndarray, spec: FrontendSpec | None = None, speed: float = 1.0
    ) -> list[np.ndarray]:
        """Log-mel of the clips at these indices: read where it was packed, else computed from the recordings.

        spec: by default the one it was packed with. Returns one float32 (spec.logmel_rows, frames) a clip. From any
        number of threads or processes. Raises InputError as `check_frontend`, where no clip has that index, where
        recordings were packed and there is no spec, or naming the clip's shard where its bytes are damaged.
        """
        spec = spec or self.frontend
        if spec is None:
            raise InputError(f"{self.folder}: holds recordings, no log-mel; say by which front end it is computed")
        self.check_frontend(spec, (speed,))
        return [self._logmel(int(clip), spec, speed) for clip in clips]

    def waveform(self, clip: int, sample_rate: int) -> np.ndarray:
        """A packed recording, as `decode.read` gives it: float32 (samples,) at sample_rate.

        Raises InputError where log-mel was packed, no clip has that index, or its bytes in the shard are damaged.
        """
        import soundfile
        import soxr

        if self.frontend is not None:
            raise InputError(f"{self.folder}: holds log-mel, no recordings; pack again without --features")
        samples, rate = soundfile.read(io.BytesIO(self._bytes(clip, 0)), dtype="float32")
        if rate == sample_rate:
            return samples
        stream = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32")
        return stream.resample_chunk(samples, last=True)

    def check(self) -> None:
        """Compare every shard with its sha256. Raises InputError naming the first that is damaged."""
        for shard in self.shards:
            path = self.folder / shard.file
            with _reading(path), path.open("rb") as handle:
                digest = hashlib.file_digest(handle, "sha256")
            if digest.hexdigest() != shard.sha256:
                raise _damaged(path, f"damaged: its sha256 is not the one in {INDEX}")

    def _logmel(self, clip: int, spec: FrontendSpec, speed: float) -> np.ndarray:
        if self.frontend is None:
            return frontends.logmel(at_speed(self.waveform(clip, spec.sample_rate), speed, spec), spec)
        data = self._bytes(clip, self.speeds.index(speed))
        if self.step is None:
            values = np.frombuffer(data, "<f2").astype(np.float32)
        else:
            values = np.frombuffer(data, "<i2") * np.float32(self.step)
        return values.reshape(spec.logmel_rows, -1)

    def _bytes(self, clip: int, speed: int) -> bytes:
        if not 0 <= clip < len(self):
            raise InputError(f"{self.folder}: no clip {clip}, expected 0 to {len(self) - 1}")
        shard = self.shards[int(np.searchsorted(self.shard_starts, clip, side="right")) - 1]
        path = self.folder / shard.file
        with _reading(path), path.open("rb", buffering=0) as handle:
            handle.seek(int(self.offsets[clip, speed]))
            data = handle.read(int(self.sizes[clip, speed]))
        if zlib.crc32(data) != self.checksums[clip, speed]:
            raise _damaged(path, f"damaged: the CRC-32 of its clip {self.key(clip)} is not the one in {ARRAYS}")
        return data


def is_packed(folder: Path | str) -> bool:
    """Whether a folder holds a packed corpus, or one that is being packed."""
    folder = Path(folder)
    return (folder / UNFINISHED).is_dir() or all((folder / name).is_file() for name in (INDEX, ARRAYS))


UNFINISHED = ".packing"
"""Folder in a packed corpus for what packing has yet to bring together."""


def open(folder: Path | str) -> Packed:
    """Open a packed corpus; what is read of a clip is compared with its checksum each time.

    Raises InputError where the folder holds none, it is unfinished, a shard is missing or of another size, or the index
    is damaged.
    """
    folder = Path(folder)
    table, sha256 = read_index(folder)
    with naming(folder / INDEX):
        try:
            packed = _from(folder, table, sha256)
        except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"damaged ({type(error).__name__}: {error}); {_anew(folder)}") from error
    for shard in packed.shards:
        path = folder / shard.file
        if not path.is_file():
            raise InputError(f"{path}: missing; run the same edgeq data pack again, which makes it alone anew")
        if (size := path.stat().st_size) != shard.size:
            raise _damaged(path, f"damaged: {size} bytes, expected {shard.size}")
    return packed


def read_index(folder: Path) -> tuple[dict[str, Any], str]:
    """What index.json of a packed corpus says, and its sha256.

    Raises InputError where there is none to be read, it lacks something, or it says other than when it was written.
    """
    path = folder / INDEX
    try:
        content = path.read_bytes()
    except OSError as error:
        if (folder / UNFINISHED).is_dir():
            raise InputError(f"{folder}: its packing was not finished; run the same edgeq data pack again") from error
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a packed corpus") from error
    try:
        table = json.loads(content)
        if table["format"] != FORMAT:
            raise InputError(
                f"{path}: format {table['format']!r}, expected {FORMAT}: it was packed by another version of edgeq; "
                f"remove {folder} and run edgeq data pack again"
            )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not the index of a packed corpus; {_anew(folder)}") from error
    if lacks := [name for name in _KEYS if name not in table]:
        raise _of_another_version(path, lacks[0])
    if table["index_sha256"] != index_hash(table):
        raise InputError(f"{path}: damaged: what it says is not what was packed; {_anew(folder)}")
    return table, hashlib.sha256(content).hexdigest()


def index_hash(table: Mapping[str, Any]) -> str:
    """sha256 of what an index says, but for what it says this is: of JSON with keys sorted, so that layout is free."""
    told = {name: value for name, value in table.items() if name != "index_sha256"}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def read_arrays(folder: Path, table: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of a packed corpus but those that few ask for, which have to be there.

    Raises InputError where they are not those that its index means, or one is missing.
    """
    path = folder / ARRAYS
    check_arrays(folder, table)
    with np.load(path, allow_pickle=False) as arrays:
        if lacks := [name for name in (*_READ, *_LATER) if name not in arrays.files]:
            raise _of_another_version(path, lacks[0])
        return {name: arrays[name] for name in _READ}


def check_arrays(folder: Path, table: Mapping[str, Any]) -> None:
    """Raises InputError where the arrays of a packed corpus are not those that its index means."""
    path = folder / ARRAYS
    try:
        with path.open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha256")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {_anew(folder)}") from error
    if digest.hexdigest() != table["arrays_sha256"]:
        raise InputError(f"{path}: damaged: its sha256 is not the one in {INDEX}; {_anew(folder)}")


def _of_another_version(path: Path, lacks: str) -> InputError:
    return InputError(
        f"{path}: lacks {lacks}: it was packed by another version of edgeq; remove {path.parent} and run edgeq data "
        "pack again"
    )


def _anew(folder: Path) -> str:
    return f"restore it, or remove {folder} and run edgeq data pack again"


def _read_later(folder: Path, *names: str) -> tuple[np.ndarray, ...]:
    """Arrays of a packed corpus that was opened. Raises InputError where they are gone since."""
    path = folder / ARRAYS
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return tuple(arrays[name] for name in names)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: changed since it was opened ({error}); {_anew(folder)}") from error


def _from(folder: Path, table: Mapping[str, Any], sha256: str) -> Packed:
    shards = tuple(Shard(**one) for one in table["shards"])
    logmel = table["logmel"]
    starts = np.cumsum([0, *(shard.clips for shard in shards)])[:-1]
    arrays = read_arrays(folder, table)
    return Packed(
        folder=folder,
        name=table["name"],
        labels=tuple(table["labels"]),
        multi_label=table["multi_label"],
        frontend=None if logmel is None else FrontendSpec.from_json(logmel["frontend"]),
        speeds=(1.0,) if logmel is None else tuple(logmel["speeds"]),
        step=None if logmel is None else logmel["step"],
        clips=_clips(folder, table, arrays),
        damaged=tuple(table["damaged_sha256"]),
        licence=table["licence"],
        citation=table["citation"],
        shards=shards,
        shard_starts=starts,
        hash=sha256,
        **{name: arrays[name] for name in ("offsets", "sizes", "checksums", "seconds")},
    )


def _clips(folder: Path, table: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Clips:
    count = len(arrays["fold"])
    folds, fold_codes = np.unique(arrays["fold"], return_inverse=True)
    none = np.broadcast_to(np.uint8(0), count)
    empty = Texts(none, np.zeros(0, np.uint8))
    label_ends = np.cumsum(arrays["positive_counts"], dtype=np.int64)
    return Clips(
        Columns(
            folder=Coded((f"{folder}{os.sep}",), none),
            name=_Keys(folder, count),
            labels=tuple(table["labels"]),
            label=arrays["positive_labels"],
            label_ends=label_ends,
            fold=Coded(tuple(None if fold < 0 else fold for fold in folds.tolist()), _small(fold_codes, len(folds))),
            split=Coded((None, *SPLITS), _small(arrays["split"] + 1, len(SPLITS))),
            licence=Coded(tuple(table["licences"]), arrays["clip_licence"]),
            source=empty,
            group=empty,
            device=Coded(("",), none),
            city=Coded(("",), none),
        )
    )


def _small(numbers: np.ndarray, most: int) -> np.ndarray:
    return numbers.astype(np.min_scalar_type(most))


@dataclass(frozen=True, eq=False)
class _Keys:
    """What clips are called in their shards: few ask, so they are read when the first is."""

    folder: Path
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, clip: int) -> str:
        return self._texts[clip]

    @cached_property
    def _texts(self) -> Texts:
        return Texts(*_read_later(self.folder, "key_ends", "key_bytes"))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _damaged(path, f"cannot be read ({error.strerror})") from error


def _damaged(path: Path, found: str) -> InputError:
    mend = "remove that shard and run the same edgeq data pack again, which makes it alone anew"
    return InputError(f"{path}: {found}; {mend}")
