"""The front end in C against NumPy's: real and synthetic sounds, any spec, any blocks; on the host and simulated."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq import bundle
from edgeq.audio import decode
from edgeq.audio.frontend import (
    PRESETS,
    FrontendSpec,
    cut,
    derivative_kernel,
    features,
    gated,
    logmel,
    mel_filterbank,
    pad,
    reflected,
    stft_window,
    with_derivatives,
)
from edgeq.classify import classify
from edgeq.cortexm import build, decision, emit, frontend, host, targets
from edgeq.cortexm.frontend import FrontendSources
from edgeq.cortexm.simulate import Machine
from edgeq.cortexm.targets import Target
from edgeq.errors import InputError
from edgeq.graph import from_tflite, reference
from edgeq.graph.ir import Quantization

ZOO = sorted(path.name for path in (ROOT / "models").iterdir() if (path / "bundle.json").is_file())
SMALL = FrontendSpec(
    sample_rate=4_000,
    n_fft=128,
    win_length=100,
    hop_length=40,
    n_mels=8,
    fmin=100.0,
    fmax=2_000.0,
    floor=1e-6,
    window_seconds=0.2,
    window_hop_seconds=0.1,
)
VARIANTS = {
    "small": SMALL,
    "not centred": replace(SMALL, centre=False, floor_rule="add"),
    "window as long as the FFT": with_derivatives(replace(SMALL, win_length=128, log="ln")),
    "magnitude": with_derivatives(replace(SMALL, power=1.0, floor=1e-4, window="hamming", mel_scale="htk")),
    "frames side by side": replace(SMALL, hop_length=128, gate=-10.0),
    "windows with gaps": replace(SMALL, window_hop_seconds=0.5, mel_norm="none"),
    "repeated": replace(SMALL, pad="repeat", window_seconds=0.7),
    "end frame": replace(SMALL, end_frame=True, n_fft=150, win_length=77),
    "a frame a sample": replace(SMALL, hop_length=1, window_seconds=0.01, n_mels=3, n_fft=64, win_length=64),
    "thirty": replace(SMALL, n_fft=30, win_length=29, hop_length=11, n_mels=2, fmin=200.0),
    "four hundred": replace(PRESETS["edge-16k"], n_fft=400, win_length=400, hop_length=160, n_mels=40),
    "over bins": with_derivatives(replace(SMALL, floor=1e-3), "power-frequency"),
    "over bins, added": with_derivatives(
        replace(PRESETS["edge-16k"], gate=-20.0, window_seconds=0.3, window_hop_seconds=0.1), "power-frequency"
    ),
    "nine hundred": with_derivatives(replace(PRESETS["edge-16k"], n_fft=900, win_length=800, hop_length=400)),
}
DRIVER = """
#include "{p}_frontend.c"

static void {p}_keep(int32_t place, float *logmels, int8_t *codes, uint8_t *gated)
{{
  const edgeq_frontend *f = &{p}_frontend;
  for (int frame = 0; frame < f->frames; frame++) {{
    memcpy(logmels + (place * f->frames + frame) * f->rows,
           f->logmel + (f->state->slot + frame) % f->frames * f->rows, (size_t)f->rows * sizeof *logmels);
  }}
  gated[place] = {p}_frontend_window(codes + place * f->frames * f->n_mels * f->components);
}}

int32_t {p}_record(const int16_t *pcm, const int32_t *blocks, int32_t count, int32_t room, float *logmels,
                   int8_t *codes, uint8_t *gated);
int32_t {p}_record(const int16_t *pcm, const int32_t *blocks, int32_t count, int32_t room, float *logmels,
                   int8_t *codes, uint8_t *gated)
{{
  int32_t windows = 0;
  for (int32_t block = 0; block < count; block++) {{
    size_t left = (size_t)blocks[block];
    while (left > 0) {{
      const size_t taken = {p}_frontend_push(pcm, left);
      pcm += taken;
      left -= taken;
      if ({p}_frontend_ready()) {{
        if (windows < room) {{
          {p}_keep(windows, logmels, codes, gated);
        }}
        windows++;
      }}
    }}
  }}
  while ({p}_frontend_finish()) {{
    if (windows < room) {{
      {p}_keep(windows, logmels, codes, gated);
    }}
    windows++;
  }}
  return windows;
}}
"""
MATHS = """
#include <string.h>
#include "edgeq_frontend_math.h"
void maths(const float *x, int32_t count, float *logs, float *roots, int32_t *rounded);
void maths(const float *x, int32_t count, float *logs, float *roots, int32_t *rounded)
{
  for (int32_t index = 0; index < count; index++) {
    logs[index] = edgeq_log(x[index]);
    roots[index] = edgeq_square_root(x[index]);
    rounded[index] = edgeq_round(x[index] - 200.0f, -131, 124);
  }
}
"""


@dataclass(frozen=True)
class Recorded:
    """What a front end makes of a recording: log-mel windows (n, rows, frames), codes NHWC, and which are gated."""

    logmels: np.ndarray
    codes: np.ndarray
    gated: np.ndarray

    def equals(self, other: Recorded) -> bool:
        return all(np.array_equal(value, getattr(other, name)) for name, value in vars(self).items())


class Compiled:
    """Front ends in one library."""

    def __init__(self, specs: Mapping[str, tuple[FrontendSpec, Quantization]]) -> None:
        self.specs = specs
        self.sources = {name: frontend.emit(*spec, name) for name, spec in specs.items()}
        files = {"maths.c": MATHS}
        for sources in self.sources.values():
            files |= sources.files
            files[f"{sources.prefix}_driver.c"] = DRIVER.format(p=sources.prefix)
        with tempfile.TemporaryDirectory() as place:
            for name, text in files.items():
                Path(place, name).write_text(text)
            # One unit, optimised less: a front end each would be compiled for longer than all else takes.
            units = sorted(name for name in files if name.endswith("_driver.c"))
            Path(place, "all.c").write_text("".join(f'#include "{name}"\n' for name in ["maths.c", *units]))
            command = [*host.compiler(), *host.FLAGS, "-O1", "-shared", "-fPIC", "-o", "it.so", "all.c"]
            subprocess.run(command, cwd=place, check=True)
            self.library = ctypes.CDLL(str(Path(place, "it.so")))

    def record(self, name: str, pcm: np.ndarray, sizes: Sequence[int] = (1 << 30,)) -> Recorded:
        spec = self.specs[name][0]
        blocks, left = [], len(pcm)
        while left:
            blocks.append(min(left, sizes[len(blocks) % len(sizes)]))
            left -= blocks[-1]
        components, mels, frames = spec.input_shape
        room = 2 + len(pcm) // (spec.window_hop_frames * spec.hop_length)
        logmels = np.zeros((room, frames, spec.logmel_rows), np.float32)
        codes = np.zeros((room, mels, frames, components), np.int8)
        gates = np.zeros(room, np.uint8)
        taken = np.array(blocks, np.int32)
        function = getattr(self.library, f"{self.sources[name].prefix}_record")
        count = function(at(pcm), at(taken), len(taken), room, at(logmels), at(codes), at(gates))
        assert count <= room
        return Recorded(logmels[:count].transpose(0, 2, 1), codes[:count], gates[:count].astype(bool))


def at(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def waveform(pcm: np.ndarray) -> np.ndarray:
    return (pcm / 32768).astype(np.float32)


def expected(pcm: np.ndarray, spec: FrontendSpec, quantization: Quantization) -> Recorded:
    windows = cut(logmel(pad(waveform(pcm), spec), spec), spec)
    seen = features(windows, spec)
    return Recorded(windows, reference.quantize(quantization, np.moveaxis(seen, 1, -1)), gated(windows, spec))


def frames_and_error(pcm: np.ndarray, spec: FrontendSpec) -> tuple[np.ndarray, np.ndarray]:
    """Frames under the STFT window, and how far off float32 each one's bins are."""
    padded = pad(waveform(pcm), spec)
    before = spec.n_fft // 2 if spec.centre else 0
    frames = 1 + (len(padded) + 2 * before - spec.n_fft) // spec.hop_length
    samples = reflected(padded, -before, -before + (frames - 1) * spec.hop_length + spec.n_fft)
    cells = np.lib.stride_tricks.sliding_window_view(samples, spec.n_fft)[:: spec.hop_length] * stft_window(spec)
    return cells, 8 * 2.0**-24 * np.sqrt((cells**2).sum(axis=1))


def tolerance_over_bins(pcm: np.ndarray, spec: FrontendSpec, found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The same where rows are derivatives over bins: each bin's error, then those of its neighbours."""
    cells, off = frames_and_error(pcm, spec)
    values = np.abs(np.fft.rfft(cells, axis=1)) ** 2
    errors = 2 * off[:, None] * np.sqrt(values) + off[:, None] ** 2
    kernel, half = derivative_kernel(spec.derivative_width, 1), spec.derivative_width // 2
    rows = []
    for _ in range(spec.components):
        errors = errors + 2.0**-22 * np.abs(values)
        rows.append(mel_filterbank(spec) @ errors.T)
        values, errors = (
            np.apply_along_axis(np.correlate, 1, np.pad(one, [(0, 0), (half, half)], mode="edge"), weights)
            for one, weights in ((values, kernel), (errors, np.abs(kernel)))
        )
    factor = 10 / np.log(10) if spec.log == "db" else 1.0
    lifted = np.exp(np.float64(np.minimum(found, wanted)) / factor)
    return factor * (cut(np.concatenate(rows), spec) / lifted + 1e-6) + 5e-7 * np.abs(wanted)


def tolerance(pcm: np.ndarray, spec: FrontendSpec, windows: np.ndarray) -> np.ndarray:
    """How far float32 may take each cell of the log-mel windows.

    Each bin of a float32 transform is off by a small part of the frame's whole energy, the root of which is the mean
    magnitude of its bins: what that does to a mel follows by Cauchy and Schwarz.
    """
    _, off = frames_and_error(pcm, spec)
    off = cut(np.tile(off, (spec.n_mels, 1)), replace(spec, derivatives="none", mean=(0.0,), std=(1.0,)))
    weights = mel_filterbank(spec).sum(axis=1)[:, None]
    factor = 10 / np.log(10) if spec.log == "db" else 1.0
    lifted = np.exp(np.float64(windows) / factor)
    mels = np.maximum(lifted - (spec.floor if spec.floor_rule == "add" else 0.0), 0.0)
    of_mel = weights * off if spec.power == 1.0 else 2 * off * np.sqrt(mels * weights) + weights * off**2
    return factor * (of_mel / lifted + 1e-6) + 5e-7 * np.abs(windows)


def check(compiled: Compiled, name: str, pcm: np.ndarray, sizes: Sequence[int]) -> float:
    """Compare C with NumPy; returns the share of codes that are equal."""
    spec, quantization = compiled.specs[name]
    whole, wanted = compiled.record(name, pcm), expected(pcm, spec, quantization)
    assert whole.equals(compiled.record(name, pcm, sizes)), "the blocks show"
    assert whole.logmels.shape == wanted.logmels.shape
    if spec.derivatives == "power-frequency":
        allowed = tolerance_over_bins(pcm, spec, whole.logmels, wanted.logmels)
    else:
        allowed = tolerance(pcm, spec, wanted.logmels)
    assert (np.abs(whole.logmels - wanted.logmels) <= allowed).all()
    assert np.array_equal(whole.gated, wanted.gated)
    apart = np.abs(whole.codes.astype(int) - wanted.codes)
    assert apart.max() <= 1
    return float((apart == 0).mean())


def sounds(spec: FrontendSpec, seconds: float) -> dict[str, np.ndarray]:
    """Recordings that a front end may find hard, as 16-bit samples."""
    count = round(seconds * spec.sample_rate)
    chance, time = np.random.default_rng(count), np.arange(count) / spec.sample_rate
    some = {
        "noise": chance.standard_normal(count) * 3_000,
        "one bit": chance.integers(-1, 2, count),
        "silence": np.zeros(count),
        "full-scale sine": 32_767 * np.sin(2 * np.pi * spec.sample_rate / 32 * time),
        "square": 32_767 * np.sign(np.sin(2 * np.pi * spec.sample_rate / 73 * time)),
        "offset": np.full(count, -32_768),
        "clicks": np.where(np.arange(count) % 5_000 == 100, 32_767, 0),
        "chirp": 20_000 * np.sin(np.pi * spec.sample_rate / 2 / seconds * time**2),
        "starts and stops": chance.standard_normal(count) * 3_000 * (np.sin(9 * time) > 0),
    }
    return {name: np.rint(sound).clip(-32_768, 32_767).astype(np.int16) for name, sound in some.items()}


def calibrated(spec: FrontendSpec, recordings: Sequence[np.ndarray]) -> Quantization:
    """Codes for all that these recordings give."""
    seen = [features(cut(logmel(pad(waveform(pcm), spec), spec), spec), spec) for pcm in recordings]
    low, high = min(0.0, *(float(x.min()) for x in seen)), max(0.0, *(float(x.max()) for x in seen))
    scale = np.float32((high - low) / 255 or 1.0)
    return Quantization(np.array([scale], np.float32), np.array([np.rint(-128 - low / scale)], np.int32))


def of_zoo(name: str) -> tuple[FrontendSpec, Quantization]:
    opened = bundle.read(ROOT / "models" / name)
    graph = from_tflite.read(opened.folder / opened.exports["tflite-int8"])
    quantization = graph.tensors[graph.input].quantization
    assert quantization is not None
    return opened.frontend, quantization


@pytest.fixture(scope="module")
def zoo() -> Compiled:
    return Compiled({name: of_zoo(name) for name in ZOO})


@pytest.fixture(scope="module")
def variants() -> Compiled:
    specs = {}
    for name, spec in VARIANTS.items():
        mean, std = (-20.0, 0.1, 0.01, 0.0)[: spec.components], (9.0, 2.0, 0.7, 0.2)[: spec.components]
        standard = replace(spec, mean=mean, std=std)
        specs[name] = (standard, calibrated(standard, list(sounds(standard, 1.0).values())))
    return Compiled(specs)


@pytest.mark.parametrize("name", ZOO)
def test_zoo_on_synthetic_sounds(zoo: Compiled, name: str) -> None:
    spec = zoo.specs[name][0]
    shares = [check(zoo, name, pcm, [160, 1, 0, 1_021]) for pcm in sounds(spec, 1.7).values()]
    assert np.mean(shares) > 0.9999
    check(zoo, name, sounds(spec, 0.3)["noise"], [64])


@pytest.mark.parametrize("name", ZOO)
def test_zoo_on_real_clips(zoo: Compiled, name: str, esc10: Path) -> None:
    spec = zoo.specs[name][0]
    shares = []
    for path in sorted((esc10 / "audio").rglob("*.ogg"))[::40]:
        samples = np.concatenate(list(decode.blocks(path, spec.sample_rate)))
        pcm = np.rint(samples * 32_768).clip(-32_768, 32_767).astype(np.int16)
        shares.append(check(zoo, name, pcm, [spec.sample_rate // 100]))
    assert len(shares) >= 5 and np.mean(shares) > 0.9999


@pytest.mark.parametrize("name", VARIANTS)
def test_every_kind_of_front_end(variants: Compiled, name: str) -> None:
    spec = variants.specs[name][0]
    for pcm in sounds(spec, 1.0).values():
        check(variants, name, pcm, [7, 0, 300])
    lengths = (
        spec.win_length,
        spec.least_samples,
        max(spec.win_length, spec.window_samples - 1),
        2 * spec.window_samples,
    )
    for count in lengths:
        pcm = (np.random.default_rng(count).standard_normal(count) * 3_000).astype(np.int16)
        check(variants, name, pcm, [1])


@st.composite
def recordings(draw: st.DrawFn) -> tuple[FrontendSpec, np.ndarray, list[int]]:
    """A front end, a recording for it, and the sizes of its blocks."""
    n_fft = draw(st.sampled_from([16, 20, 32, 36, 50, 54, 64, 72, 90, 96, 128, 150, 200, 250, 256, 480]))
    derivatives = draw(st.sampled_from(["none", "time", "power-frequency"]))
    components = 1 if derivatives == "none" else 4
    spec = FrontendSpec(
        sample_rate=4_000,
        n_fft=n_fft,
        win_length=draw(st.integers(n_fft // 2, n_fft)),
        hop_length=draw(st.integers(n_fft // 8, n_fft)),
        n_mels=draw(st.integers(1, max(1, n_fft // 20))),
        fmin=draw(st.sampled_from([0.0, 100.0])),
        fmax=draw(st.sampled_from([1_500.0, 2_000.0])),
        window=draw(st.sampled_from(["hann", "hamming"])),
        centre=draw(st.booleans()),
        power=2.0 if derivatives == "power-frequency" else draw(st.sampled_from([1.0, 2.0])),
        mel_scale=draw(st.sampled_from(["slaney", "htk"])),
        mel_norm=draw(st.sampled_from(["slaney", "none"])),
        log=draw(st.sampled_from(["db", "ln"])),
        floor=draw(st.sampled_from([1e-6, 1e-3])),
        floor_rule=draw(st.sampled_from(["add", "max"])),
        derivatives=derivatives,
        derivative_width=draw(st.sampled_from([5, 9, 21])),
        mean=(-10.0, 0.0, 0.0, 0.0)[:components],
        std=(9.0, 2.0, 1.0, 0.5)[:components],
        window_seconds=draw(st.floats(n_fft / 4_000, 0.3)),
        window_hop_seconds=draw(st.floats(0.01, 0.4)),
        end_frame=draw(st.booleans()),
        pad=draw(st.sampled_from(["zero", "repeat"])),
        gate=draw(st.sampled_from([None, -20.0])),
    )
    count = draw(st.integers(spec.win_length, 3 * spec.window_samples))
    level = draw(st.sampled_from([1, 300, 9_000]))
    pcm = (np.random.default_rng(count).standard_normal(count) * level).clip(-32_768, 32_767).astype(np.int16)
    return spec, pcm, draw(st.lists(st.integers(0, 400), min_size=1, max_size=5).filter(any))


@settings(max_examples=2)
@given(st.lists(recordings(), min_size=12, max_size=12))
def test_any_front_end(drawn: list[tuple[FrontendSpec, np.ndarray, list[int]]]) -> None:
    made = {f"any {index}": case for index, case in enumerate(drawn) if spans_bins(case[0])}
    compiled = Compiled({name: (spec, calibrated(spec, [pcm])) for name, (spec, pcm, _) in made.items()})
    for name, (_, pcm, sizes) in made.items():
        check(compiled, name, pcm, sizes)


def spans_bins(spec: FrontendSpec) -> bool:
    try:
        mel_filterbank(spec)
    except InputError:
        return False
    return True


@pytest.mark.parametrize("name", ["small", "not centred", "repeated"])
def test_too_short_a_recording_has_no_windows(variants: Compiled, name: str) -> None:
    spec = variants.specs[name][0]
    pcm = sounds(spec, 1.0)["noise"][: spec.win_length - 1]
    with pytest.raises(InputError, match="one STFT window"):
        expected(pcm, *variants.specs[name])
    assert len(variants.record(name, pcm).codes) == 0
    check(variants, name, sounds(spec, 1.0)["noise"], [100])


def test_a_recording_can_be_forgotten(variants: Compiled) -> None:
    pcm = sounds(SMALL, 1.0)["noise"]
    assert variants.library.small_frontend_push(at(pcm), 333) == 333
    variants.library.small_frontend_start()
    check(variants, "small", pcm, [100])


def test_functions_of_floats(variants: Compiled) -> None:
    x = np.concatenate([np.geomspace(1e-37, 3e38, 200_000), np.linspace(0.3, 3, 99_999), np.arange(0.5, 401, 0.5)])
    x = x.astype(np.float32)
    logs, roots, rounded = np.empty_like(x), np.empty_like(x), np.empty(len(x), np.int32)
    variants.library.maths(at(x), len(x), at(logs), at(roots), at(rounded))
    np.testing.assert_allclose(logs, np.log(x.astype(np.float64)), rtol=3e-7, atol=1e-30)
    np.testing.assert_array_equal(roots, np.sqrt(x))
    np.testing.assert_array_equal(rounded, np.rint(x - np.float32(200)).clip(-131, 124))


def test_the_same_every_time() -> None:
    assert frontend.emit(*of_zoo(ZOO[0]), "one") == frontend.emit(*of_zoo(ZOO[0]), "one")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (replace(SMALL, n_fft=2 * 7 * 8), "a factor 7"),
        (replace(SMALL, n_mels=120), "spans no bin"),
    ],
)
def test_front_ends_without_c_are_refused(spec: FrontendSpec, words: str) -> None:
    with pytest.raises(InputError, match=words):
        frontend.emit(spec, Quantization(np.ones(1, np.float32), np.zeros(1, np.int32)), "refused")


@pytest.mark.parametrize("scale", [[0.0], [np.inf], [0.1, 0.2]])
def test_a_scale_that_is_none_is_refused(scale: list[float]) -> None:
    with pytest.raises(InputError, match="input scale"):
        frontend.emit(SMALL, Quantization(np.array(scale, np.float32), np.zeros(len(scale), np.int32)), "refused")


@pytest.fixture(scope="module")
def board() -> Target:
    for package in ("ziglang", "unicorn", "capstone", "elftools"):
        pytest.importorskip(package)
    return targets.find("stm32l496")


def simulated(sources: FrontendSources, spec: FrontendSpec, target: Target, pcm: np.ndarray) -> Recorded:
    """A recording, a hop at a time, on a simulated microcontroller; without the log-mels."""
    components, mels, frames = spec.input_shape
    size = components * mels * frames
    probe = f"#include <stdint.h>\nint16_t block[{spec.hop_length}];\nint8_t codes[{size}];\n"
    push, ready, fetch, finish = (f"{sources.prefix}_frontend_{word}" for word in ("push", "ready", "window", "finish"))
    roots = (push, ready, fetch, finish, "block", "codes")
    machine = Machine(build.link_files({**sources.files, "probe.c": probe}, target, roots), target, counting=False)
    codes, gates = [], []

    def keep() -> None:
        gates.append(machine.call(fetch, machine.address("codes")).value & 1 == 1)
        codes.append(np.frombuffer(machine.read(machine.address("codes"), size), np.int8))

    for start in range(0, len(pcm), spec.hop_length):
        block = pcm[start : start + spec.hop_length]
        machine.write(machine.address("block"), block.tobytes())
        taken = 0
        while taken < len(block):
            taken += machine.call(push, machine.address("block") + 2 * taken, len(block) - taken).value
            if machine.call(ready).value & 1:
                keep()
    while machine.call(finish).value & 1:
        keep()
    return Recorded(np.empty(0), np.reshape(codes, (-1, mels, frames, components)), np.array(gates))


@pytest.mark.parametrize("name", ["magnitude", "repeated", "end frame", "over bins"])
def test_a_microcontroller_gives_the_bits_of_the_host(variants: Compiled, board: Target, name: str) -> None:
    spec = variants.specs[name][0]
    pcm = sounds(spec, 1.5 if name == "repeated" else 0.6)["starts and stops"]
    found, wanted = simulated(variants.sources[name], spec, board, pcm), variants.record(name, pcm)
    assert len(found.codes) > 1
    assert found.equals(replace(wanted, logmels=found.logmels))


def test_memory_is_what_is_said(variants: Compiled, board: Target) -> None:
    sources = variants.sources["repeated"]
    roots = [f"{sources.prefix}_frontend_{word}" for word in ("push", "window")]
    elf = build.link_files(sources.files, board, roots)
    variables = [symbol for symbol in build.symbols(elf) if symbol.address >= board.ram.origin]
    assert sum(symbol.bytes for symbol in variables) == sources.ram_bytes
    assert sources.constants <= build.sizes(elf).flash < sources.constants + 12_000


@pytest.mark.slow
def test_the_example_in_the_header_labels_recordings(tmp_path: Path) -> None:
    """Samples through front end, model and decision, as the header says, and through LiteRT."""
    opened = bundle.read(ROOT / "models" / "esc10-qnano")
    graph = from_tflite.read(opened.folder / opened.exports["tflite-int8"])
    taken, given = graph.tensors[graph.input].quantization, graph.tensors[graph.output].quantization
    assert taken is not None and given is not None
    files = {
        **emit.emit(graph, opened.name, opened.labels).files,
        **frontend.emit(opened.frontend, taken, opened.name).files,
        **decision.emit(opened.decision, given, len(opened.labels), opened.name),
    }
    header = files["esc10_qnano_frontend.h"]
    example = header[
        header.index("     static esc10_qnano_decision clip;") : header.index("   A microphone that goes on")
    ]
    names = ["esc10_qnano", "esc10_qnano_decision", "esc10_qnano_frontend"]
    includes = "".join(f'#include "{name}.h"\n' for name in names)
    main = (
        "int main(void) { int16_t pcm[500]; size_t n; while ((n = fread(pcm, 2, 500, stdin))) heard(pcm, n); ended(); }"
    )
    files["main.c"] = f"#include <stdio.h>\n#include <string.h>\n{includes}{example}\n{main}\n"
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    command = [*host.compiler(), *host.FLAGS, "-o", "program", "main.c", *(f"{name}.c" for name in names)]
    subprocess.run(command, cwd=tmp_path, check=True)
    heard = set()
    for name, pcm in sounds(opened.frontend, 2.0).items():
        soundfile.write(tmp_path / "it.wav", pcm, opened.frontend.sample_rate, subtype="PCM_16")
        label = subprocess.run([tmp_path / "program"], input=pcm.tobytes(), capture_output=True, check=True).stdout
        (wanted,) = classify(opened, [tmp_path / "it.wav"], top=1, int8=True)
        assert label.decode().strip() == wanted.top[0].label, name
        heard.add(label)
    assert len(heard) > 1
