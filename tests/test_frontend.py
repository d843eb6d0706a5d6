"""The NumPy front end against librosa and scipy, over rates, windows and mel scales; its specs against bad input."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import fields, replace

import librosa
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import get_window, savgol_filter

from edgeq.audio.frontend import (
    PRESETS,
    FrontendSpec,
    cut,
    derivative_kernel,
    features,
    frame_count,
    gated,
    logmel,
    mel_centres,
    mel_filterbank,
    pad,
    recording_features,
    stft_window,
    with_derivatives,
)
from edgeq.errors import InputError

EDGE = PRESETS["edge-32k"]
SMALL = FrontendSpec(
    sample_rate=8_000,
    n_fft=256,
    win_length=200,
    hop_length=80,
    n_mels=20,
    fmin=100.0,
    fmax=4_000.0,
    window_seconds=0.2,
    window_hop_seconds=0.1,
)
VARIANTS = {
    **PRESETS,
    "short window": SMALL,
    "htk": replace(SMALL, mel_scale="htk", window="hamming", power=1.0),
    "no area norm": replace(SMALL, mel_norm="none", log="ln", floor=1e-5, floor_rule="add"),
    "not centred": replace(SMALL, centre=False, mel_scale="htk", mel_norm="none"),
    "22 kHz": replace(SMALL, sample_rate=22_050, n_fft=1024, win_length=1023, hop_length=511, n_mels=80, fmax=11_025.0),
    "96 kHz": replace(SMALL, sample_rate=96_000, n_fft=4096, win_length=4000, hop_length=4096, n_mels=96, fmin=0.0),
}


def noise(samples: int, seed: int = 0, level: float = 0.1) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(samples) * level).astype(np.float32)


def librosa_filters(spec: FrontendSpec) -> np.ndarray:
    return librosa.filters.mel(
        sr=spec.sample_rate,
        n_fft=spec.n_fft,
        n_mels=spec.n_mels,
        fmin=spec.fmin,
        fmax=spec.fmax,
        htk=spec.mel_scale == "htk",
        norm="slaney" if spec.mel_norm == "slaney" else None,
        dtype=np.float64,
    )


def librosa_logmel(waveform: np.ndarray, spec: FrontendSpec) -> np.ndarray:
    spectrum = librosa.stft(
        waveform.astype(np.float64),
        n_fft=spec.n_fft,
        hop_length=spec.hop_length,
        win_length=spec.win_length,
        window=spec.window,
        center=spec.centre,
        pad_mode="reflect",
    )
    mel = librosa_filters(spec) @ np.abs(spectrum) ** spec.power
    lifted = mel + spec.floor if spec.floor_rule == "add" else np.maximum(mel, spec.floor)
    return 10 * np.log10(lifted) if spec.log == "db" else np.log(lifted)


@pytest.mark.parametrize("name", VARIANTS)
def test_window_and_filters_are_those_of_scipy_and_librosa(name: str) -> None:
    spec = VARIANTS[name]
    window = librosa.util.pad_center(get_window(spec.window, spec.win_length, fftbins=True), size=spec.n_fft)
    np.testing.assert_allclose(stft_window(spec), window, atol=1e-12)
    expected = librosa_filters(spec)
    np.testing.assert_allclose(mel_filterbank(spec), expected, rtol=0, atol=1e-10 * expected.max())
    centres = librosa.mel_frequencies(spec.n_mels + 2, fmin=spec.fmin, fmax=spec.fmax, htk=spec.mel_scale == "htk")
    np.testing.assert_allclose(mel_centres(spec), centres[1:-1], rtol=1e-12)


@pytest.mark.parametrize("name", VARIANTS)
def test_logmel_equals_librosa(name: str) -> None:
    spec = VARIANTS[name]
    # A tone, noise and digital silence; a length that is no multiple of the hop.
    samples = 150 * spec.hop_length + spec.n_fft + 37
    waveform = noise(samples) + np.sin(np.arange(samples) * 0.3).astype(np.float32)
    waveform[samples // 2 : samples // 2 + 3 * spec.n_fft] = 0.0
    found, expected = logmel(waveform, spec), librosa_logmel(waveform, spec)
    assert found.dtype == np.float32
    assert found.shape == expected.shape == (spec.n_mels, frame_count(samples, spec))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:n_fft=.* is too large:UserWarning")
@pytest.mark.parametrize("name", VARIANTS)
def test_shortest_waveform_reflects_as_librosa_does(name: str) -> None:
    spec = VARIANTS[name]
    waveform = noise(spec.least_samples, seed=1)
    np.testing.assert_allclose(logmel(waveform, spec), librosa_logmel(waveform, spec), rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match=f"{len(waveform) - 1} samples"):
        logmel(waveform[1:], spec)


def test_logmel_of_a_long_recording_needs_little_beside_it() -> None:
    spec = PRESETS["edge-16k"]
    waveform = noise(600 * spec.sample_rate)
    logmel(waveform[: spec.n_fft], spec)
    tracemalloc.start()
    result = logmel(waveform, spec)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - result.nbytes < 16e6 < waveform.nbytes


OF_BINS = {
    "panns-32k": with_derivatives(PRESETS["panns-32k"], "power-frequency"),
    "edge-16k, floor added": with_derivatives(PRESETS["edge-16k"], "power-frequency"),
    "few bins, wide": replace(
        with_derivatives(replace(SMALL, n_fft=32, win_length=32, hop_length=20, n_mels=2, log="ln"), "power-frequency"),
        derivative_width=21,
    ),
}


def delta(spectra: np.ndarray, width: int = 5) -> np.ndarray:
    """Regression deltas over the last axis, by the formula that torchaudio documents for compute_deltas."""
    half, last = (width - 1) // 2, spectra.shape[-1] - 1
    places = np.arange(last + 1)
    total = np.zeros_like(spectra)
    for n in range(1, half + 1):
        total += n * (spectra[..., np.minimum(places + n, last)] - spectra[..., np.maximum(places - n, 0)])
    return total / (2 * sum(n * n for n in range(1, half + 1)))


@pytest.mark.parametrize("name", OF_BINS)
def test_deltas_over_frequency_are_those_of_the_public_code(name: str) -> None:
    spec = OF_BINS[name]
    samples = 60 * spec.hop_length + spec.n_fft
    waveform = noise(samples) + np.sin(np.arange(samples) * 0.3).astype(np.float32)
    spectrum = librosa.stft(
        waveform.astype(np.float64), n_fft=spec.n_fft, hop_length=spec.hop_length, window="hann", pad_mode="reflect"
    )
    spectra = [np.abs(spectrum.T) ** 2]
    for _ in range(3):
        spectra.append(delta(spectra[-1], spec.derivative_width))
    # Frames by components by bins, through the mel filters.
    mel = np.moveaxis(np.stack(spectra, axis=1) @ librosa_filters(spec).T, 0, -1)
    expected = np.maximum(mel, 0) + spec.floor if spec.floor_rule == "add" else np.maximum(mel, spec.floor)
    logs = logmel(waveform, spec).astype(np.float64)
    found = 10 ** (logs / 10) if spec.log == "db" else np.exp(logs)
    assert found.shape == (spec.logmel_rows, expected.shape[-1]) == (4 * spec.n_mels, frame_count(samples, spec))
    # Powers, not logarithms: where a delta nearly cancels its logarithm is any.
    np.testing.assert_allclose(
        found.reshape(expected.shape), expected, rtol=1e-5, atol=1e-12 * expected.max() + 1e-6 * spec.floor
    )
    # The first component is the log-mel that it always was.
    np.testing.assert_allclose(logs[: spec.n_mels], logmel(waveform, with_derivatives(spec, "none")), rtol=1e-6)


def test_a_steady_tone_has_derivatives_in_one_reading_only() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(32_000) / 32_000).astype(np.float32)
    of_time, of_bins = (
        recording_features(tone, with_derivatives(EDGE, derivatives))[0][0, 1:, :, 10:-10]
        for derivatives in ("time", "power-frequency")
    )
    assert np.abs(of_time).max() < 0.01
    assert (of_bins.max(axis=(1, 2)) > 0).all()
    assert of_bins.min() == -60, "its floor"


def test_half_of_the_deltas_of_noise_lie_at_the_floor() -> None:
    inputs, _ = recording_features(noise(320_000), OF_BINS["panns-32k"])
    shares = (inputs <= -100).mean(axis=(0, 2, 3))
    assert shares == pytest.approx([0, 0.497, 0.456, 0.500], abs=0.01)


def test_deltas_of_another_spectrogram_are_refused() -> None:
    with pytest.raises(InputError, match=r"power is '1\.0', expected 2 \(power\) with derivatives 'power-frequency'"):
        with_derivatives(PRESETS["dcase2022"], "power-frequency")
    with pytest.raises(InputError, match="derivatives is 'frequency', expected 'none' or 'time' or 'power-frequency'"):
        with_derivatives(EDGE, "frequency")


def test_either_reading_is_asked_for_and_changed_alike() -> None:
    time, bins = with_derivatives(EDGE), with_derivatives(EDGE, "power-frequency")
    assert (time.derivative_width, bins.derivative_width) == (9, 5)
    assert with_derivatives(time, "power-frequency") == bins
    assert with_derivatives(bins) == time
    assert with_derivatives(bins, "none") == EDGE
    assert len({EDGE.hash, time.hash, bins.hash, replace(bins, derivative_width=9).hash}) == 4
    assert time.input_shape == bins.input_shape == (4, 64, 50)
    assert (EDGE.logmel_rows, time.logmel_rows, bins.logmel_rows) == (64, 64, 256)


def test_rows_become_components_and_only_the_log_mel_is_gated() -> None:
    spec = replace(
        with_derivatives(SMALL, "power-frequency"), mean=(0.0, 1.0, 2.0, 3.0), std=(1.0, 2.0, 4.0, 8.0), gate=-30.0
    )
    windows = noise(2 * 80 * 20).reshape(2, 80, 20) - 31.0
    windows[0, 20:] = 0.0
    windows[1, 7, 3] = -29.0
    assert gated(windows, spec).tolist() == [True, False]
    inputs = features(windows, spec)
    for component in range(4):
        rows = windows[:, 20 * component : 20 * component + 20]
        np.testing.assert_allclose(inputs[:, component], (rows - component) / 2**component, rtol=1e-5)
    for function in (cut, features):
        with pytest.raises(InputError, match=r"shape .*: expected \((n, )?80, frames\)"):
            function(windows[0, :20] if function is cut else windows[:, :20], spec)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("width", [5, 9, 21])
def test_derivatives_are_savitzky_golay_with_replicated_edges(width: int, order: int) -> None:
    spec = replace(with_derivatives(SMALL), derivative_width=width)
    windows = noise(3 * 20 * 40, level=10.0).reshape(3, 20, 40)
    expected = savgol_filter(windows.astype(np.float64), width, order, deriv=order, axis=2, mode="nearest")
    np.testing.assert_allclose(features(windows, spec)[:, order], expected, rtol=1e-5, atol=1e-5)
    half = width // 2
    delta = librosa.feature.delta(windows, width=width, order=order, axis=2)
    np.testing.assert_allclose(features(windows, spec)[:, order, :, half:-half], delta[..., half:-half], atol=1e-4)


def test_derivative_kernels_are_exact_on_polynomials() -> None:
    frames = np.arange(9) - 4.0
    assert derivative_kernel(9, 1) @ (3 * frames + 5) == pytest.approx(3)
    assert derivative_kernel(9, 2) @ (2 * frames**2 + frames) == pytest.approx(4)
    assert derivative_kernel(9, 3) @ (frames**3 - frames**2) == pytest.approx(6)
    assert derivative_kernel(5, 1) == pytest.approx(np.array([-2, -1, 0, 1, 2]) / 10)


def test_features_are_normalised_component_by_component() -> None:
    plain = with_derivatives(SMALL)
    spec = replace(plain, mean=(-20.0, 0.5, 0.0, 1.0), std=(12.0, 2.0, 0.5, 0.25))
    windows = cut(logmel(noise(8_000), SMALL), SMALL)
    raw, normalised = features(windows, plain), features(windows, spec)
    assert normalised.shape == (len(windows), *spec.input_shape) == (len(windows), 4, 20, 20)
    assert normalised.dtype == np.float32
    for component in range(4):
        expected = (raw[:, component] - spec.mean[component]) / spec.std[component]
        np.testing.assert_allclose(normalised[:, component], expected, rtol=1e-5, atol=1e-5)
    single = replace(SMALL, mean=(-20.0,), std=(12.0,))
    np.testing.assert_array_equal(features(windows, single)[:, 0], normalised[:, 0])


def test_windows_are_slices_that_fit() -> None:
    spectrogram = np.arange(20 * 75, dtype=np.float32).reshape(20, 75)
    windows = cut(spectrogram, SMALL)
    assert (SMALL.window_frames, SMALL.window_hop_frames) == (20, 10)
    assert windows.shape == (6, 20, 20)
    for index, window in enumerate(windows):
        np.testing.assert_array_equal(window, spectrogram[:, 10 * index : 10 * index + 20])
    assert len(cut(spectrogram[:, :20], SMALL)) == 1
    with pytest.raises(InputError, match="19 frames"):
        cut(spectrogram[:, :19], SMALL)
    with pytest.raises(InputError, match="shape"):
        cut(spectrogram[:19], SMALL)


def test_gate_is_absolute() -> None:
    windows = np.full((3, 20, 20), -60.0, np.float32)
    windows[1, 3, 4] = -29.0
    windows[2] = -31.0
    assert gated(windows, replace(SMALL, gate=-30.0)).tolist() == [True, False, True]
    assert gated(windows, SMALL).tolist() == [False, False, False]


def test_silence_is_gated_by_the_edge_presets_and_a_whisper_is_not() -> None:
    for name in ("edge-32k", "edge-16k"):
        spec = PRESETS[name]
        time = np.arange(spec.sample_rate) / spec.sample_rate
        tone = np.sin(2 * np.pi * 1000 * time).astype(np.float32)
        level = {decibels: recording_features(tone * 10 ** (decibels / 20), spec)[1].all() for decibels in (-50, -75)}
        assert level == {-50: False, -75: True}, name
        inputs, silent = recording_features(np.zeros(spec.sample_rate, np.float32), spec)
        assert silent.all()
        assert np.isfinite(inputs).all()


def test_short_recordings_are_padded_by_rule() -> None:
    short = noise(700)
    silence_behind = pad(short, SMALL)
    assert len(silence_behind) == SMALL.window_samples == 1600
    np.testing.assert_array_equal(silence_behind[:700], short)
    assert not silence_behind[700:].any()
    repeated = pad(short, replace(SMALL, pad="repeat"))
    np.testing.assert_array_equal(repeated, np.concatenate([short, short, short[:200]]))
    long = noise(1601)
    assert pad(long, SMALL) is long
    assert len(pad(short[:200], SMALL)) == 1600
    with pytest.raises(InputError, match="199 samples"):
        pad(short[:199], SMALL)


@pytest.mark.parametrize("name", VARIANTS)
def test_one_window_of_samples_gives_one_window(name: str) -> None:
    spec = VARIANTS[name]
    inputs, silent = recording_features(noise(spec.win_length), spec)
    assert inputs.shape == (1, *spec.input_shape)
    assert silent.shape == (1,)


def test_presets_have_the_published_shapes() -> None:
    assert PRESETS["dcase2022"].input_shape == (1, 40, 51)
    assert PRESETS["panns-32k"].input_shape == (1, 64, 1001)
    assert EDGE.input_shape == (1, 64, 50)
    assert PRESETS["edge-16k"].input_shape == (1, 64, 50)
    assert with_derivatives(EDGE).input_shape == (4, 64, 50)
    # Five seconds at half a second: nine windows.
    assert recording_features(noise(5 * 32_000), EDGE)[0].shape == (9, 1, 64, 50)


@pytest.mark.parametrize(
    "waveform",
    [
        noise(16_000).reshape(2, 8_000),
        np.zeros(8_000, np.int16),
        [0.0] * 8_000,
        np.zeros(0, np.float32),
        np.zeros(1, np.float32),
        np.full(8_000, np.nan, np.float32),
        np.array([np.inf, -np.inf] * 4_000, np.float32),
        np.full(8_000, 1e300),
    ],
    ids=["two rows", "integers", "a list", "empty", "one sample", "NaN", "infinite", "beyond float32"],
)
def test_bad_waveforms_are_refused(waveform: np.ndarray) -> None:
    for function in (logmel, pad, recording_features):
        with pytest.raises(InputError, match="waveform"):
            function(waveform, SMALL)


def test_spec_survives_json_and_its_hash_tells_specs_apart() -> None:
    for spec in (*VARIANTS.values(), *OF_BINS.values(), with_derivatives(EDGE)):
        again = FrontendSpec.from_json(json.loads(json.dumps(spec.to_json())))
        assert again == spec
        assert again.hash == spec.hash
    assert len({spec.hash for spec in VARIANTS.values()}) == len(VARIANTS)
    assert replace(EDGE, fmin=50).hash == EDGE.hash
    assert replace(EDGE, gate=-31.0).hash != EDGE.hash


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sample_rate", 999),
        ("sample_rate", 32_000.0),
        ("sample_rate", True),
        ("n_fft", 1023),
        ("n_fft", 1 << 17),
        ("win_length", 1025),
        ("hop_length", 0),
        ("hop_length", 1025),
        ("n_mels", 0),
        ("n_mels", "64"),
        ("fmin", -1.0),
        ("fmin", 16_000.0),
        ("fmax", 16_001.0),
        ("fmax", float("nan")),
        ("window", "blackman"),
        ("centre", 1),
        ("power", 1.5),
        ("mel_scale", None),
        ("mel_norm", ["slaney"]),
        ("log", "log2"),
        ("floor", 0.0),
        ("floor", 10**400),
        ("floor_rule", "clip"),
        ("derivatives", "frequency"),
        ("derivative_width", 8),
        ("mean", (0.0, 0.0)),
        ("mean", 0.0),
        ("mean", (float("inf"),)),
        ("std", (0.0,)),
        ("std", (1e-300,)),
        ("std", ("1",)),
        ("std", ()),
        ("window_seconds", 0.0),
        ("window_seconds", 0.005),
        ("window_seconds", 1e9),
        ("window_hop_seconds", -1.0),
        ("end_frame", "no"),
        ("pad", "reflect"),
        ("gate", float("nan")),
        ("gate", "-30"),
    ],
)
def test_spec_names_the_field_that_is_wrong(field: str, value: object) -> None:
    with pytest.raises(InputError, match=f"front end: {field} is .* expected") as caught:
        FrontendSpec.from_json({**EDGE.to_json(), field: value})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


def test_spec_with_other_fields_is_refused() -> None:
    with pytest.raises(InputError, match=r"unknown fields \['colour'\]"):
        FrontendSpec.from_json({**EDGE.to_json(), "colour": "pink"})
    with pytest.raises(InputError, match=r"missing fields \['n_fft'\]"):
        FrontendSpec.from_json({key: value for key, value in EDGE.to_json().items() if key != "n_fft"})
    with pytest.raises(InputError, match="found list"):
        FrontendSpec.from_json([1, 2])  # type: ignore[arg-type]


def test_filters_without_a_bin_are_refused() -> None:
    with pytest.raises(InputError, match="spans no bin"):
        mel_filterbank(replace(SMALL, n_fft=64, win_length=64, hop_length=64, n_mels=128))


json_values = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.floats(), max_size=3)
)


@given(field=st.sampled_from([f.name for f in fields(FrontendSpec)]), value=json_values)
def test_any_json_gives_a_spec_that_works_or_an_input_error(field: str, value: object) -> None:
    try:
        spec = FrontendSpec.from_json({**SMALL.to_json(), field: value})
        if spec.window_samples > 100_000:
            return
        inputs, _ = recording_features(noise(spec.win_length), spec)
    except InputError as error:
        assert "\n" not in str(error)
        return
    assert inputs.shape[1:] == spec.input_shape
    assert np.isfinite(inputs).all()


@pytest.mark.filterwarnings("ignore:n_fft=.* is too large:UserWarning")
@given(
    n_fft=st.integers(8, 64).map(lambda half: 2 * half),
    window=st.floats(0.1, 1.0),
    hop=st.floats(0.05, 1.0),
    centre=st.booleans(),
    extra=st.integers(0, 300),
)
def test_any_framing_equals_librosa(n_fft: int, window: float, hop: float, centre: bool, extra: int) -> None:
    spec = replace(
        SMALL,
        n_fft=n_fft,
        win_length=max(2, round(window * n_fft)),
        hop_length=max(1, round(hop * n_fft)),
        n_mels=2,
        centre=centre,
    )
    waveform = noise(spec.least_samples + extra, seed=extra)
    np.testing.assert_allclose(logmel(waveform, spec), librosa_logmel(waveform, spec), rtol=1e-4, atol=1e-4)
