"""Where sound comes from that is no device: a file, at full speed or at its own, and a pipe."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgeq.audio import decode
from edgeq.errors import InputError
from edgeq.live.capture import Chunk, Ring, feed

_BLOCK_SECONDS = 0.02
_UNKNOWN_LENGTH = 0x7FFF0000  # of a WAV written to a pipe, or more
_ENCODINGS = {(1, 16): ("<i2", 2.0**-15), (1, 32): ("<i4", 2.0**-31), (3, 32): ("<f4", 1.0)}
_OTHERS = {b"OggS": "Ogg", b"fLaC": "FLAC", b"ID3": "MP3", b"\xff\xfb": "MP3", b"FORM": "AIFF", b"caff": "CAF"}
_RAW = "expected raw 16-bit little-endian PCM, or WAV"


@dataclass(frozen=True)
class Encoding:
    """How samples lie in a stream of bytes: rate in Hz, channels, and what a NumPy dtype times a scale says."""

    rate: int
    channels: int
    dtype: str = "<i2"
    scale: float = 2.0**-15
    length: int | None = None
    """Bytes of sound that the stream promises; None where it goes on until it ends."""

    @property
    def frame_bytes(self) -> int:
        return self.channels * np.dtype(self.dtype).itemsize


def recording(path: Path | str, sample_rate: int) -> Generator[Chunk, None, None]:
    """A recording as fast as it is taken, at that rate. Raises as `decode.blocks` does."""
    decode.info(path)
    return (Chunk(samples, sample_rate) for samples in decode.blocks(path, sample_rate))


def played(path: Path | str, sample_rate: int) -> Generator[Chunk, None, None]:
    """A recording in real time, as a microphone would hear it: who is late loses samples. Raises as `recording`."""
    decode.info(path)

    def fill(ring: Ring) -> None:
        size = round(_BLOCK_SECONDS * sample_rate)
        begun, sent = time.monotonic(), 0
        for samples in decode.blocks(path, sample_rate, seconds=1.0):
            for start in range(0, len(samples), size):
                block = samples[start : start + size]
                sent += len(block)
                time.sleep(max(0.0, begun + sent / sample_rate - time.monotonic()))
                if ring.closed:
                    return
                ring.write(block[:, None])

    return feed(sample_rate, fill)


def piped(descriptor: int, rate: int, channels: int) -> Generator[Chunk, None, None]:
    """Raw 16-bit PCM, or WAV, from a pipe; nothing is lost here: who writes waits while the listener is behind.

    descriptor: of the pipe. rate, channels: of raw PCM; WAV says its own.
    Raises InputError where it is closed, a terminal, another kind of file, empty, or ends inside a sample.
    """
    try:
        os.fstat(descriptor)
    except OSError:
        raise InputError(f"stdin: closed, {_RAW}; pipe sound into it") from None
    if os.isatty(descriptor):
        raise InputError(
            f"stdin: a terminal, {_RAW}; pipe sound into it: arecord -f S16_LE -r {rate} -t raw | edgeq live ..."
        )
    head = _exactly(descriptor, 4)
    encoding = Encoding(rate, channels)
    if head == b"RIFF":
        encoding, head = _wav_header(descriptor), b""
    for magic, name in _OTHERS.items():
        if head.startswith(magic):
            raise InputError(f"stdin: begins as {name}, {_RAW}; decode it: ffmpeg -i - -f wav - | edgeq live ...")
    if not head and encoding.length is None and not (head := _exactly(descriptor, encoding.frame_bytes)):
        raise InputError(f"stdin: ended before the first sample, {_RAW}; look at what writes to the pipe")
    return feed(encoding.rate, lambda ring: _pump(descriptor, head, encoding, ring))


def _pump(descriptor: int, held: bytes, encoding: Encoding, ring: Ring) -> None:
    """Move bytes from a pipe to a ring until either the pipe ends or what it promised is there."""
    size = round(_BLOCK_SECONDS * encoding.rate) * encoding.frame_bytes
    left = encoding.length
    while block := os.read(descriptor, size if left is None else min(size, left)):
        left = None if left is None else left - len(block)
        held += block
        whole = len(held) - len(held) % encoding.frame_bytes
        frames = np.frombuffer(held[:whole], encoding.dtype).reshape(-1, encoding.channels)
        while ring.room < len(frames) and not ring.closed:
            time.sleep(_BLOCK_SECONDS)
        if ring.closed:
            return
        ring.write((frames * encoding.scale).astype(np.float32))
        held = held[whole:]
        if left == 0:
            break
    if held or left:
        missing = f"{left} bytes before its header says" if left else "inside a sample"
        raise InputError(
            f"stdin: ended {missing}; {encoding.channels} channel(s) of {encoding.frame_bytes // encoding.channels} "
            "bytes were expected; look at what writes to the pipe, and at --rate and --channels"
        )


def _wav_header(descriptor: int) -> Encoding:
    """The encoding of a WAV stream whose first 4 bytes are read; leaves the stream at its first sample."""
    if _exactly(descriptor, 8)[4:] != b"WAVE":
        raise InputError(f"stdin: RIFF, but no WAVE, {_RAW}; convert it: ffmpeg -i - -f wav - | edgeq live ...")
    found = None
    while True:
        header = _exactly(descriptor, 8)
        if len(header) < 8:
            raise InputError("stdin: a WAV that ends before its samples; look at what writes to the pipe")
        name, length = struct.unpack("<4sI", header)
        if name == b"data":
            break
        content = _exactly(descriptor, length + length % 2)
        if name == b"fmt ":
            found = _format(content)
    if found is None:
        raise InputError("stdin: a WAV whose samples come before their format; convert it with ffmpeg")
    return found if length >= _UNKNOWN_LENGTH else replace(found, length=length)


def _format(content: bytes) -> Encoding:
    if len(content) < 16:
        raise InputError("stdin: a WAV with a damaged header; look at what writes to the pipe")
    kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", content[:16])
    if kind == 0xFFFE and len(content) >= 26:  # extensible: the kind is the first word of a GUID
        kind = struct.unpack("<H", content[24:26])[0]
    least, most = decode.SAMPLE_RATES
    if (kind, bits) not in _ENCODINGS or not least <= rate <= most or not 1 <= channels <= decode.MAX_CHANNELS:
        raise InputError(
            f"stdin: a WAV of kind {kind}, {bits} bits, {channels} channels, {rate} Hz: expected PCM of 16 or 32 bits "
            f"or float of 32; convert it: ffmpeg -i - -c:a pcm_s16le -f wav - | edgeq live ..."
        )
    return Encoding(rate, channels, *_ENCODINGS[kind, bits])


def _exactly(descriptor: int, count: int) -> bytes:
    """So many bytes, fewer at the end only."""
    taken = b""
    while len(taken) < count and (more := os.read(descriptor, min(count - len(taken), 1 << 16))):
        taken += more
    return taken
