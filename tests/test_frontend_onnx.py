"""The front end as ONNX models, run in onnxruntime, against NumPy, which is its definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq import goldens
from edgeq.audio import frontend
from edgeq.audio.frontend import PRESETS, FrontendSpec, with_derivatives
from edgeq.export.frontend_onnx import features_onnx, logmel_onnx
from edgeq.runtime.web_page import FrontEnd


def models(spec: FrontendSpec) -> FrontEnd:
    return FrontEnd(logmel_onnx(spec), features_onnx(spec), spec, "a test")


def assert_equal(spec: FrontendSpec, samples: np.ndarray) -> None:
    """Not equal to the last bit: a sum may take its terms in another order."""
    expected, gated = frontend.recording_features(samples, spec)
    found, also_gated = models(spec).windows(samples)
    assert found.dtype == np.float32 and found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-6)
    np.testing.assert_array_equal(also_gated, gated)


SPECS = {
    **PRESETS,
    **{f"{name} time": with_derivatives(spec) for name, spec in PRESETS.items()},
    **{
        f"{name} power-frequency": with_derivatives(spec, "power-frequency")
        for name, spec in PRESETS.items()
        if spec.power == 2.0
    },
    # Other rates, an STFT whose length is no power of two, a shorter window in it, frames that are not centred, HTK's
    # scale, statistics and windows that overlap by an uneven part.
    "22 kHz": FrontendSpec(
        sample_rate=22_050, n_fft=600, win_length=551, hop_length=221, n_mels=24, fmin=30.0, fmax=11_025.0,
        window="hamming", centre=False, mel_scale="htk", mel_norm="none", derivatives="time", derivative_width=5,
        mean=(-20.0, 0.1, 0.0, 0.0), std=(15.0, 2.0, 1.0, 0.5), window_seconds=0.7, window_hop_seconds=0.3, gate=-20.0,
    ),
    "8 kHz": FrontendSpec(
        sample_rate=8_000, n_fft=256, win_length=200, hop_length=160, n_mels=16, fmin=50.0, fmax=4_000.0,
        log="ln", power=1.0, floor=1e-5, window_hop_seconds=2.0, end_frame=True, pad="repeat",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SPECS)
def test_features_are_those_of_numpy(name):
    spec = SPECS[name]
    sound = goldens.waveform(5, spec)
    longer = np.concatenate([sound, np.zeros(spec.sample_rate, np.float32), sound[: len(sound) // 3]])
    assert_equal(spec, longer)


@pytest.mark.parametrize("name", ["edge-16k", "22 kHz", "8 kHz"])
def test_a_recording_shorter_than_a_window_is_padded(name):
    spec = SPECS[name]
    assert_equal(spec, goldens.waveform(2, spec)[: spec.win_length + 3])


def test_beside_a_loud_band_a_floor_of_float32_would_show():
    """A pure tone, and the dcase2022 front end's floor of 2^-52: float32 spectra are noise where this one is empty."""
    spec = PRESETS["dcase2022"]
    tone = (0.9 * np.sin(2 * np.pi * 1_000.0 * np.arange(2 * spec.sample_rate) / spec.sample_rate)).astype(np.float32)
    assert_equal(spec, tone)


def test_silence_and_a_full_scale_square():
    spec = SPECS["edge-32k time"]
    assert_equal(spec, np.zeros(spec.window_samples, np.float32))
    assert_equal(spec, np.sign(np.sin(np.arange(2.0 * spec.window_samples))).astype(np.float32))


@given(
    gate=st.floats(-80, 20),
    level=st.floats(-60, 0),
    seed=st.integers(0, 99),
)
@settings(max_examples=15, deadline=None)
def test_the_gate_is_that_of_numpy(gate, level, seed):
    spec = replace(SPECS["8 kHz"], gate=gate, window_hop_seconds=0.25)
    draw = np.random.default_rng(seed)
    samples = draw.normal(size=2 * spec.sample_rate) * 10 ** (level / 20) * np.linspace(0, 1, 2 * spec.sample_rate)
    assert_equal(spec, samples.astype(np.float32))


def test_equal_specs_give_equal_files():
    spec = SPECS["edge-16k time"]
    assert logmel_onnx(spec) == logmel_onnx(replace(spec)) and features_onnx(spec) == features_onnx(replace(spec))
