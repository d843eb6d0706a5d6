"""Recordings of any rate, channel count and length as mono samples at one rate, in bounded memory."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from edgeq import quiet
from edgeq.errors import InputError

SAMPLE_RATES = (1_000, 768_000)
MAX_CHANNELS = 64
SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff")
_FORMATS = "expected WAV, FLAC, Ogg or MP3; convert it, for example with `ffmpeg -i FILE out.wav`"
_MAX_BLOCK_VALUES = 1 << 22


class EmptyRecording(InputError):
    """A recording without samples."""


@dataclass(frozen=True)
class Recording:
    """What a recording's header says. sample_rate in Hz; seconds is what it promises, before anything is decoded.

    subtype: how samples are held, as libsndfile calls it: PCM_16, VORBIS.
    """

    path: Path
    sample_rate: int
    channels: int
    seconds: float
    subtype: str


def recordings(folder: Path | str) -> list[Path]:
    """Recordings in a folder and those below it, by their file names' endings, sorted; hidden ones are passed over.

    Raises InputError where the folder is missing, not a folder, or holds none.
    """
    return list(each_recording(folder))


def each_recording(folder: Path | str) -> Iterator[Path]:
    """`recordings`, one after the other: of those that are there, no more than the names in one folder are held."""
    folder, found = Path(folder), False
    if not folder.is_dir():
        raise InputError(f"{folder}: not a folder, expected one with recordings; check the path")
    for path in _below(folder):
        found = True
        yield path
    if not found:
        raise InputError(f"{folder}: no recordings in it, expected files ending in {', '.join(SUFFIXES)}")


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or a link to one; a link that leads round in a circle is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _below(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            found = sorted(
                (entry.name, is_folder(entry) and not entry.is_symlink())
                for entry in entries
                if entry.name[0] != "." and (is_folder(entry) or Path(entry.name).suffix.lower() in SUFFIXES)
            )
    except PermissionError:
        return
    for name, further in found:
        if further:
            yield from _below(folder / name)
        elif (folder / name).is_file():
            yield folder / name


def info(path: Path | str) -> Recording:
    """Read a recording's header. Raises InputError as `blocks` does, but for faults that only decoding shows."""
    with _opened(Path(path)) as handle:
        seconds = handle.frames / handle.samplerate
        return Recording(Path(path), handle.samplerate, handle.channels, seconds, handle.subtype)


def blocks(path: Path | str, sample_rate: int, seconds: float = 10.0) -> Iterator[np.ndarray]:
    """Decode a recording block by block: the mean of its channels, resampled as one stream.

    path: WAV, FLAC, Ogg (Vorbis, Opus), MP3 or anything else that libsndfile reads. sample_rate: Hz wanted.
    seconds: recording decoded at a time, which bounds the memory whatever the length; the samples do not depend on it.
    Yields float32 (n,), full scale +-1, n at least 1 and not always the same.
    Raises InputError where the file is missing, a directory, empty, not decodable, holds no samples or NaN, has a
    sample rate or channel count out of range, or holds less than its container promises. A WAV written to a pipe
    promises nothing (a length of 0x7FFF0000 or more) and is taken as it is.
    """
    path = Path(path)
    if not SAMPLE_RATES[0] <= sample_rate <= SAMPLE_RATES[1]:
        raise InputError(f"sample rate {sample_rate!r} Hz: expected {SAMPLE_RATES[0]} to {SAMPLE_RATES[1]}")
    if not seconds > 0:
        raise InputError(f"blocks of {seconds!r} seconds: expected more than 0")
    with _opened(path) as handle:
        stream = soxr.ResampleStream(handle.samplerate, sample_rate, 1, dtype="float32")
        for samples in _mono(path, handle, seconds):
            resampled = samples if handle.samplerate == sample_rate else stream.resample_chunk(samples)
            if len(resampled):
                yield resampled
        if handle.samplerate != sample_rate:
            tail = stream.resample_chunk(np.zeros(0, np.float32), last=True)
            if len(tail):
                yield tail


def read(path: Path | str, sample_rate: int) -> np.ndarray:
    """A whole recording: the blocks of `blocks`, end to end. Returns float32 (samples,); raises as `blocks` does."""
    return np.concatenate([np.zeros(0, np.float32), *blocks(path, sample_rate)])


class _Forward(soundfile.SoundFile):
    """A decoder that only reads on.

    soundfile seeks to where it is after every read of a file that it may seek in, and in Opus and MP3 that changes the
    samples after the place.
    """

    def seekable(self) -> bool:
        return False


@contextmanager
def _opened(path: Path) -> Iterator[soundfile.SoundFile]:
    """The decoder of a file whose header is in order; whatever goes wrong inside is told as an InputError."""
    _check_file(path)
    try:
        # Linux has names that are no text; there the decoder takes the bytes themselves.
        name = os.fsencode(path) if os.name == "posix" else path
        with quiet.native_stderr():
            handle = _Forward(name)
        with handle:
            _check_header(path, handle)
            yield handle
    except InputError:
        raise
    # soundfile passes on several kinds for one damaged file: its own, TypeError for a file named .raw, and ValueError.
    except (soundfile.SoundFileError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{path}: cannot be decoded, damaged or of another kind; {_FORMATS}") from error


def _check_file(path: Path) -> None:
    try:
        status = path.stat()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{str(path)[:200]!r}: cannot be opened ({reason}); check path and permissions") from error
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{path}: a directory, expected a recording; name a file inside it")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path}: not a regular file, expected a recording; save the sound to a file first")
    if status.st_size == 0:
        raise EmptyRecording(f"{path}: an empty file, expected a recording; copy or record it again")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: no permission to read it; change its owner or mode")


def _check_header(path: Path, handle: soundfile.SoundFile) -> None:
    least, most = SAMPLE_RATES
    if not least <= handle.samplerate <= most:
        raise InputError(
            f"{path}: sample rate {handle.samplerate} Hz, expected {least} to {most}; the header is damaged, "
            f"or resample the recording"
        )
    if not 1 <= handle.channels <= MAX_CHANNELS:
        raise InputError(f"{path}: {handle.channels} channels, expected 1 to {MAX_CHANNELS}; mix it down first")
    if handle.frames < 1:
        raise EmptyRecording(f"{path}: holds no samples, or lacks its end; copy or record it again")
    if _cut_short(handle.extra_info, handle.channels):
        raise _truncated(path)


def _mono(path: Path, handle: soundfile.SoundFile, seconds: float) -> Iterator[np.ndarray]:
    size = int(min(max(1.0, seconds * handle.samplerate), _MAX_BLOCK_VALUES // handle.channels))
    decoded = 0
    while len(block := _read(handle, size)):
        decoded += len(block)
        samples = block[:, 0] if handle.channels == 1 else block.mean(axis=1)
        # Checked after the mix, which opposite infinities turn into NaN: nothing that is not finite gets past.
        if not np.isfinite(samples).all():
            raise InputError(f"{path}: NaN or infinite samples; repair the recording")
        yield np.ascontiguousarray(samples)
    if decoded < handle.frames:
        raise _truncated(path, f" ({decoded} of {handle.frames} samples)")


def _read(handle: soundfile.SoundFile, size: int) -> np.ndarray:
    with quiet.native_stderr():
        return handle.read(size, dtype="float32", always_2d=True)


def _cut_short(log: str, channels: int) -> bool:
    """Whether libsndfile noted, while it parsed the header, that the file ends before its container does.

    It quietly takes what is there. For a length it writes "data : 176400 (should be 88178)"; for Ogg, which promises
    no length, that the last page does not end the stream or is not whole.
    """
    for match in re.finditer(r"(?:data|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)", log):
        promised, present = int(match[1]), int(match[2])
        # A frame too many is a careless writer's; the largest lengths mean "unknown".
        if promised - present > 8 * channels and promised < 0x7FFF0000:
            return True
    return re.search(r"Ogg ?: (Last page lacks|Junk after)|does not match value from 'ds64' chunk", log) is not None


def _truncated(path: Path, detail: str = "") -> InputError:
    return InputError(
        f"{path}: truncated, the file ends before the recording does{detail}; copy it again, or keep what is there "
        f"with `ffmpeg -i FILE out.wav`"
    )
