"""Decoding against soundfile and soxr used directly, and against files that are not what they say."""

from __future__ import annotations

import os
import struct
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given
from hypothesis import strategies as st

from edgeq.audio.decode import Recording, blocks, info, read, recordings
from edgeq.errors import InputError

FORMATS = {
    "wav": ("a.wav", "PCM_16"),
    "wav float": ("a.wav", "FLOAT"),
    "wav 24 bits": ("a.wav", "PCM_24"),
    "flac": ("a.flac", "PCM_16"),
    "ogg vorbis": ("a.ogg", "VORBIS"),
    "ogg opus": ("a.ogg", "OPUS"),
    "mp3": ("a.mp3", "MPEG_LAYER_III"),
    "aiff": ("a.aiff", "PCM_16"),
}


def recording(samples: int, channels: int, rate: int) -> np.ndarray:
    time = np.arange(samples)[:, None] / rate
    tones = 0.3 * np.sin(2 * np.pi * 200 * time * np.arange(1, channels + 1))
    return (tones + np.random.default_rng(0).standard_normal((samples, channels)) * 0.05).astype(np.float32)


def write(folder: Path, kind: str, samples: int = 30_000, channels: int = 2, rate: int = 24_000) -> Path:
    name, subtype = FORMATS[kind]
    soundfile.write(folder / name, recording(samples, channels, rate), rate, subtype=subtype)
    return folder / name


@pytest.mark.parametrize("rate", [24_000, 16_000, 32_000, 44_100])
@pytest.mark.parametrize("kind", FORMATS)
def test_read_is_the_mean_of_the_channels_resampled(tmp_path: Path, kind: str, rate: int) -> None:
    path = write(tmp_path, kind)
    decoded, source_rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = decoded.mean(axis=1)
    expected = mono if rate == source_rate else soxr.resample(mono, source_rate, rate)
    found = read(path, rate)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert np.abs(found).max() > 0.2


@pytest.mark.parametrize("kind", FORMATS)
def test_blocks_of_any_size_are_the_same_samples(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind)
    whole = read(path, 32_000)
    for seconds in (1e-9, 0.0107, 0.3, 1e9):
        if seconds < 1e-3 and kind != "wav":
            continue  # one sample at a time is slow
        pieces = list(blocks(path, 32_000, seconds))
        assert all(len(piece) and piece.dtype == np.float32 for piece in pieces)
        np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_info_is_what_the_header_says(tmp_path: Path) -> None:
    path = write(tmp_path, "flac", channels=3)
    assert info(path) == info(str(path)) == Recording(path, 24_000, 3, 1.25, "PCM_16")


def test_recordings_are_found_below_a_folder(tmp_path: Path) -> None:
    for name in ("b.wav", "deep/down/a.FLAC", "deep/c.txt", ".hidden/d.wav", ".e.wav", "f.ogg/g.mp3"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert recordings(tmp_path) == [tmp_path / name for name in ("b.wav", "deep/down/a.FLAC", "f.ogg/g.mp3")]
    for name, says in (("absent", "not a folder"), ("b.wav", "not a folder"), ("bare", "no recordings")):
        (tmp_path / "bare").mkdir(exist_ok=True)
        with pytest.raises(InputError, match=says):
            recordings(tmp_path / name)


@pytest.mark.parametrize("channels", [1, 2, 8, 64])
def test_channels_are_averaged(tmp_path: Path, channels: int) -> None:
    levels = np.linspace(-0.5, 0.9, channels, dtype=np.float32)
    soundfile.write(tmp_path / "a.wav", np.tile(levels, (500, 1)), 8_000, subtype="FLOAT")
    np.testing.assert_allclose(read(tmp_path / "a.wav", 8_000), np.full(500, levels.mean()), atol=1e-6)


@pytest.mark.parametrize("rate", [1_000, 11_025, 768_000])
def test_rates_at_the_edges_keep_length_and_pitch(tmp_path: Path, rate: int) -> None:
    tone = np.sin(2 * np.pi * 100 * np.arange(rate) / rate)
    soundfile.write(tmp_path / "a.wav", tone, rate, subtype="FLOAT")
    found = read(tmp_path / "a.wav", 8_000)
    assert abs(len(found) - 8_000) <= 1
    assert np.abs(np.fft.rfft(found[:8_000], 8_000)).argmax() == 100


def test_an_hour_needs_no_more_memory_than_a_block(tmp_path: Path) -> None:
    path = tmp_path / "hour.flac"
    with soundfile.SoundFile(path, "w", 4_000, 1, subtype="PCM_16") as handle:
        for _ in range(60):
            handle.write(np.zeros(60 * 4_000, np.int16))
    tracemalloc.start()
    samples = sum(len(piece) for piece in blocks(path, 8_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert samples == 3_600 * 8_000
    assert peak < 5e6


def test_one_sample_and_silence_decode(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "one.wav", np.array([0.5]), 8_000, subtype="FLOAT")
    assert read(tmp_path / "one.wav", 8_000).tolist() == [0.5]
    assert len(read(tmp_path / "one.wav", 1_000)) <= 1
    soundfile.write(tmp_path / "silence.flac", np.zeros(8_000), 8_000)
    assert not read(tmp_path / "silence.flac", 16_000).any()


def no_file(folder: Path) -> Path:
    return folder / "absent.wav"


def a_directory(folder: Path) -> Path:
    return folder


def an_impossible_name(folder: Path) -> Path:
    return folder / ("a" * 5_000)


def a_name_with_a_null(folder: Path) -> Path:
    return folder / "a\0.wav"


def a_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.wav")
    return folder / "pipe.wav"


def empty(folder: Path) -> Path:
    (folder / "a.wav").touch()
    return folder / "a.wav"


def text(folder: Path) -> Path:
    (folder / "a.wav").write_text("RIFF said the text file, and WAVE\n" * 40)
    return folder / "a.wav"


def headerless(folder: Path) -> Path:
    (folder / "a.raw").write_bytes(bytes(4_000))
    return folder / "a.raw"


def no_samples(folder: Path) -> Path:
    return write(folder, "wav", samples=0)


def one_hertz(folder: Path) -> Path:
    return write(folder, "wav", samples=50, rate=1)


def a_megahertz(folder: Path) -> Path:
    return write(folder, "wav", rate=1_000_000)


def many_channels(folder: Path) -> Path:
    return write(folder, "wav", samples=50, channels=65)


def not_a_number(folder: Path) -> Path:
    return with_sample(folder, np.nan)


def infinite(folder: Path) -> Path:
    return with_sample(folder, -np.inf)


def with_sample(folder: Path, value: float) -> Path:
    samples = recording(30_000, 2, 24_000)
    samples[29_000, 1] = value
    soundfile.write(folder / "a.wav", samples, 24_000, subtype="FLOAT")
    return folder / "a.wav"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (no_file, "no such file"),
        (a_directory, "a directory"),
        (an_impossible_name, "cannot be opened"),
        (a_name_with_a_null, "cannot be opened"),
        (a_pipe, "not a regular file"),
        (empty, "an empty file"),
        (text, "cannot be decoded"),
        (headerless, "cannot be decoded"),
        (no_samples, "holds no samples"),
        (one_hertz, "sample rate 1 Hz"),
        (a_megahertz, "sample rate 1000000 Hz"),
        (many_channels, "65 channels"),
        (not_a_number, "NaN or infinite"),
        (infinite, "NaN or infinite"),
    ],
)
def test_bad_files_are_one_clear_line(tmp_path: Path, make: Callable[[Path], Path], says: str) -> None:
    path = make(tmp_path)
    with pytest.raises(InputError, match=says) as caught:
        read(path, 16_000)
    assert "\n" not in str(caught.value)
    assert path.name[:100].replace("\0", "") in str(caught.value).replace("\\x00", "")


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.9])
def test_truncated_files_are_refused(tmp_path: Path, kind: str, kept: float) -> None:
    path = write(tmp_path, kind)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(InputError, match=r"truncated|cannot be decoded|holds no samples"):
        read(path, 16_000)


def test_the_decoder_s_own_chatter_stays_off_the_screen(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, "mp3")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="truncated"):
        read(path, 16_000)
    os.write(2, b"still there")
    assert capfd.readouterr().err == "still there"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has file names that are no text")
def test_a_name_that_is_no_text_is_a_name(tmp_path: Path) -> None:
    path = write(tmp_path, "wav")
    odd = path.rename(tmp_path / os.fsdecode(b"\xff\xfe.wav"))
    assert len(read(odd, 16_000)) > 0


def test_a_name_too_long_is_told_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="File name too long") as caught:
        read(tmp_path / ("x" * 5000), 16_000)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFF000])
def test_a_wav_written_to_a_pipe_is_taken_as_it_is(tmp_path: Path, length: int) -> None:
    path = write(tmp_path, "wav")
    whole, content = read(path, 24_000), bytearray(path.read_bytes())
    place = content.index(b"data") + 4
    content[place : place + 4] = struct.pack("<I", length)
    path.write_bytes(content)
    np.testing.assert_array_equal(read(path, 24_000), whole)


@pytest.mark.parametrize("rate", [0, 999, 768_001])
def test_a_rate_out_of_range_is_refused(tmp_path: Path, rate: int) -> None:
    with pytest.raises(InputError, match="sample rate"):
        read(write(tmp_path, "wav"), rate)
    with pytest.raises(InputError, match="seconds"):
        next(blocks(tmp_path / "a.wav", 16_000, seconds=0.0))


@pytest.fixture(scope="module", params=["wav", "flac", "ogg vorbis"])
def sound(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    path = write(tmp_path_factory.mktemp("fuzz"), request.param, samples=1_500)
    return path, path.read_bytes()


@given(data=st.data())
def test_damaged_bytes_decode_or_are_refused(sound: tuple[Path, bytes], data: st.DataObject) -> None:
    path, good = sound
    content = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, 100) | st.integers(0, len(content)))
        content[start : start + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    path.write_bytes(content)
    try:
        samples = read(path, 8_000)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert samples.dtype == np.float32
        assert np.isfinite(samples).all()


@given(content=st.binary(max_size=200), magic=st.sampled_from([b"", b"RIFF", b"fLaC", b"OggS", b"ID3", b"FORM"]))
def test_arbitrary_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes, magic: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "arbitrary.wav"
    path.write_bytes(magic + content)
    with pytest.raises(InputError):
        read(path, 8_000)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_says_so(tmp_path: Path) -> None:
    path = write(tmp_path, "wav")
    path.chmod(0)
    with pytest.raises(InputError, match="no permission"):
        read(path, 16_000)


def test_real_recordings_decode_whole(esc10: Path) -> None:
    clips = sorted(esc10.rglob("*.ogg"))
    assert len(clips) >= 100
    for path in clips[::40]:
        header = info(path)
        assert header.sample_rate == 44_100
        assert len(read(path, 32_000)) == pytest.approx(header.seconds * 32_000, abs=1)
