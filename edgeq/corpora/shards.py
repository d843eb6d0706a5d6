"""One shard of a packed corpus: a tar file as WebDataset reads it, the same bytes wherever it is written."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import soundfile

from edgeq import atomic
from edgeq.audio import decode, frontend
from edgeq.audio.frontend import FrontendSpec
from edgeq.audio.maps import at_speed
from edgeq.corpora.clips import Clip
from edgeq.corpora.corpus import file_hash
from edgeq.errors import InputError, naming

DTYPES = ("float16", "int16")
TOLD = ("fold", "split", "licence", "source", "group", "device", "city")
"""What KEY.json has of a clip beside its labels, where the corpus says it."""

_BLOCK = 512  # of tar
_LOSSLESS_IN_16 = ("PCM_S8", "PCM_U8", "PCM_16")
_LOSSLESS = (*_LOSSLESS_IN_16, "PCM_24", "PCM_32", "FLOAT", "DOUBLE")
_HEADROOM_DB = 60.0


@dataclass(frozen=True)
class Content:
    """What shards keep of a recording: itself, as FLAC, or its log-mel at each of `speeds`.

    frontend: None for recordings; else a `maps.logmel_spec`. speeds: the first is 1. dtype: one of DTYPES; float16 is
    off by up to 0.03 dB where the log-mel is near -100 dB, int16 by half a step, `step`.
    """

    frontend: FrontendSpec | None = None
    speeds: tuple[float, ...] = (1.0,)
    dtype: str = "float16"

    @cached_property
    def step(self) -> float | None:
        """What one code of int16 stands for, in the log-mel's units; None for other content.

        The smallest power of 2 that reaches from the floor to 60 dB above the log-mel of any sound at full scale.
        """
        if self.frontend is None or self.dtype != "int16":
            return None
        spec = self.frontend
        loudest = float(np.abs(frontend.stft_window(spec)).sum()) ** spec.power
        highest = float(frontend.mel_filterbank(spec).sum(axis=1).max()) * loudest * 10 ** (_HEADROOM_DB / 10)
        nepers = max(abs(math.log(spec.floor)), abs(math.log(highest)))
        most = nepers * 10 / math.log(10) if spec.log == "db" else nepers
        return float(2.0 ** math.ceil(math.log2(most / np.iinfo(np.int16).max)))


class Entry(NamedTuple):
    """Where a clip lies in its shard: for each speed the first byte of its data, how many there are, and their CRC-32.

    number: of the clip, among those that the shard was to hold. seconds, sha256: of the recording and its file.
    """

    number: int
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    checksums: tuple[int, ...]
    seconds: float
    sha256: str


class Damaged(NamedTuple):
    """A clip that cannot be used, and why. number: as in Entry. sha256: of its file, empty where that has none."""

    number: int
    reason: str
    sha256: str


@dataclass(frozen=True)
class Written:
    """A shard that was written: its size and sha256, what is in it, and what could not be."""

    size: int
    sha256: str
    entries: tuple[Entry, ...]
    damaged: tuple[Damaged, ...]


def write(path: Path, clips: Sequence[tuple[str, Clip]], content: Content) -> Written:
    """Write a shard of clips, each under its key, whole or not at all; clips that cannot be decoded are left out.

    A clip becomes KEY.json (labels, fold and what else its corpus says), and KEY.flac, or KEY.npy with one
    KEY.speedS.npy for each further speed S. FLAC holds the mean of the channels at the recording's own rate, in 16 bits
    where these hold it exactly or it was compressed with loss, else in 24; what lies beyond full scale is cut off.
    A .npy holds (logmel_rows, frames), little-endian. Bytes depend on the recordings and on libsndfile's version alone.
    Raises OSError as `atomic.opened`.
    """
    entries: list[Entry] = []
    damaged: list[Damaged] = []
    with atomic.opened(path) as handle:
        tar = _Tar(handle)
        for number, (key, clip) in enumerate(clips):
            try:
                # Log-mel of a recording that is too short says nothing of the file; a decoder's message begins with it.
                with naming(clip.path):
                    files, seconds = _flac(clip.path) if content.frontend is None else _maps(clip.path, content)
            except InputError as error:
                sha256 = file_hash(clip.path) if clip.path.is_file() and os.access(clip.path, os.R_OK) else ""
                damaged.append(Damaged(number, str(error).removeprefix(f"{clip.path}: "), sha256))
                continue
            tar.add(f"{key}.json", _facts(clip, seconds))
            places = [tar.add(f"{key}.{suffix}", data) for suffix, data, _ in files]
            skipped = [header for _, _, header in files]
            offsets = tuple(place + header for place, header in zip(places, skipped, strict=True))
            sizes = tuple(len(data) - header for _, data, header in files)
            checksums = tuple(zlib.crc32(memoryview(data)[header:]) for _, data, header in files)
            entries.append(Entry(number, offsets, sizes, checksums, seconds, file_hash(clip.path)))
        tar.end()
    return Written(tar.size, tar.digest.hexdigest(), tuple(entries), tuple(damaged))


class _Tar:
    """A tar file under way: what time and owner would be is the same for every file."""

    def __init__(self, handle: BinaryIO) -> None:
        self.handle, self.size, self.digest = handle, 0, hashlib.sha256()

    def add(self, name: str, data: bytes) -> int:
        """Append a file; returns where its data begin."""
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self._append(info.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict"))
        start = self.size
        self._append(data)
        self._append(bytes(-len(data) % _BLOCK))
        return start

    def end(self) -> None:
        self._append(bytes(2 * _BLOCK))

    def _append(self, data: bytes) -> None:
        self.handle.write(data)
        self.digest.update(data)
        self.size += len(data)


_File = tuple[str, bytes, int]
"""Suffix, content, and how many of its bytes come before the data."""


def _flac(path: Path) -> tuple[list[_File], float]:
    recording = decode.info(path)
    enough = recording.subtype not in _LOSSLESS or (recording.subtype in _LOSSLESS_IN_16 and recording.channels == 1)
    bits = 16 if enough else 24
    buffer, samples = io.BytesIO(), 0
    with soundfile.SoundFile(buffer, "w", recording.sample_rate, 1, f"PCM_{bits}", format="FLAC") as out:
        for block in decode.blocks(path, recording.sample_rate):
            out.write(_codes(block, bits))
            samples += len(block)
    return [("flac", buffer.getvalue(), 0)], samples / recording.sample_rate


def _codes(samples: np.ndarray, bits: int) -> np.ndarray:
    """Samples as whole numbers, as decoding divides them: libsndfile's own conversion multiplies by one less."""
    scale = 1 << (bits - 1)
    codes = np.clip(np.rint(samples.astype(np.float64) * scale), -scale, scale - 1)
    return codes.astype(np.int16) if bits == 16 else codes.astype(np.int32) << (32 - bits)


def _maps(path: Path, content: Content) -> tuple[list[_File], float]:
    assert content.frontend is not None
    spec = content.frontend
    waveform = decode.read(path, spec.sample_rate)
    files = []
    for speed in content.speeds:
        data = _npy(frontend.logmel(at_speed(waveform, speed, spec), spec), content)
        files.append((f"speed{speed:g}.npy" if speed != 1 else "npy", *data))
    return files, len(waveform) / spec.sample_rate


def _npy(logmel: np.ndarray, content: Content) -> tuple[bytes, int]:
    values = logmel.astype("<f2")
    if content.step is not None:
        values = np.clip(np.rint(logmel / np.float32(content.step)), -32768, 32767).astype("<i2")
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, values, version=(1, 0), allow_pickle=False)
    return buffer.getvalue(), buffer.tell() - values.nbytes


def _facts(clip: Clip, seconds: float) -> bytes:
    facts: dict[str, Any] = {"labels": list(clip.labels), "file": clip.path.name, "seconds": round(seconds, 6)}
    facts |= dict(_told(clip))
    # What no UTF-8 can say of a file's name is told as JSON escapes it.
    return json.dumps(facts, ensure_ascii=False, sort_keys=True).encode("utf-8", "backslashreplace")


def _told(clip: Clip) -> Iterator[tuple[str, Any]]:
    """What the corpus says of a clip, where it does."""
    for name in TOLD:
        value = getattr(clip, name)
        if value is not None and value != "":
            yield name, value
