"""The torch front end against the NumPy definition, and its gradients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from edgeq.audio.frontend import PRESETS, FrontendSpec, cut, features, frame_count, logmel, with_derivatives  # noqa: E402
from edgeq.audio.frontend_torch import Features, LogMel  # noqa: E402
from edgeq.errors import InputError  # noqa: E402

EDGE = PRESETS["edge-32k"]
VARIANTS = {
    **PRESETS,
    "not centred": replace(EDGE, centre=False, window="hamming", win_length=800),
    "htk, magnitude, no norm": replace(PRESETS["edge-16k"], mel_scale="htk", mel_norm="none", power=1.0, log="ln"),
}


def noise(*shape: int, level: float = 0.1) -> np.ndarray:
    return (np.random.default_rng(0).standard_normal(shape) * level).astype(np.float32)


@pytest.mark.parametrize("level", [1.0, 1e-3, 0.0])
@pytest.mark.parametrize("name", VARIANTS)
def test_logmel_equals_numpy(name: str, level: float) -> None:
    spec = VARIANTS[name]
    waveforms = noise(3, spec.sample_rate + 123, level=level)
    waveforms[1, : spec.sample_rate // 2] = 0.0
    found = LogMel(spec)(torch.from_numpy(waveforms))
    assert found.dtype == torch.float32
    expected = np.stack([logmel(waveform, spec) for waveform in waveforms])
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-3)
    # Almost everywhere much closer: the rest are cells that nearly cancel in float32.
    assert np.mean(np.abs(found.numpy() - expected)) < 1e-5


@pytest.mark.parametrize("level", [1.0, 1e-3, 0.0])
@pytest.mark.parametrize("name", ["panns-32k", "edge-16k"])
def test_deltas_over_frequency_equal_numpy(name: str, level: float) -> None:
    spec = with_derivatives(PRESETS[name], "power-frequency")
    waveforms = noise(2, spec.sample_rate + 123, level=level)
    waveforms[1, : spec.sample_rate // 2] = 0.0
    found = LogMel(spec)(torch.from_numpy(waveforms)).numpy()
    expected = np.stack([logmel(waveform, spec) for waveform in waveforms])
    assert found.shape == expected.shape == (2, 256, frame_count(waveforms.shape[1], spec))
    # As powers: the logarithm of what nearly cancels in float32 is any.
    found, expected = 10 ** (found / 10.0), 10 ** (expected / 10.0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * expected.max())


@pytest.mark.parametrize("frames", [1, 4, 50])
@pytest.mark.parametrize("derivatives", ["none", "time", "power-frequency"])
def test_features_equal_numpy(derivatives: str, frames: int) -> None:
    spec = with_derivatives(EDGE, derivatives)
    spec = replace(spec, mean=(-5.0, 0.1, 0.0, -0.2)[: spec.components], std=(12.0, 2.0, 0.7, 0.3)[: spec.components])
    windows = noise(5, spec.logmel_rows, frames, level=20.0)
    found = Features(spec)(torch.from_numpy(windows))
    assert found.shape == (5, spec.components, 64, frames)
    np.testing.assert_allclose(found.numpy(), features(windows, spec), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("derivatives", ["time", "power-frequency"])
def test_waveform_to_network_input_is_differentiable(derivatives: str) -> None:
    small = replace(EDGE, sample_rate=4_000, fmax=2_000.0, n_fft=256, win_length=256, n_mels=8, hop_length=64)
    spec = with_derivatives(small, derivatives)
    chain = torch.nn.Sequential(LogMel(spec), Features(spec)).double()
    waveforms = torch.from_numpy(noise(2, 400)).double().requires_grad_()
    assert torch.autograd.gradcheck(chain, (waveforms,), fast_mode=True)


@pytest.mark.parametrize("spec", [*VARIANTS.values(), with_derivatives(EDGE, "power-frequency")])
def test_silence_has_finite_gradients(spec: FrontendSpec) -> None:
    waveforms = torch.zeros(1, spec.sample_rate // 2, requires_grad=True)
    LogMel(spec)(waveforms).sum().backward()
    assert torch.isfinite(waveforms.grad).all()


def test_modules_add_nothing_to_a_state_dict() -> None:
    assert not torch.nn.Sequential(LogMel(EDGE), Features(EDGE)).state_dict()


@pytest.mark.parametrize("derivatives", ["time", "power-frequency"])
def test_whole_chain_equals_numpy_on_windows_of_a_recording(derivatives: str) -> None:
    spec = with_derivatives(EDGE, derivatives)
    windows = cut(logmel(noise(3 * 32_000), spec), spec)
    found = Features(spec)(torch.from_numpy(windows.copy())).numpy()
    np.testing.assert_allclose(found, features(windows, spec), rtol=1e-4, atol=1e-4)


def test_wrong_shapes_are_refused() -> None:
    for shape in ((32_000,), (1, 1, 32_000), (1, EDGE.least_samples - 1)):
        with pytest.raises(InputError, match="waveforms of shape"):
            LogMel(EDGE)(torch.zeros(shape))
    for shape in ((64, 50), (1, 63, 50), (1, 64, 0), (1, 1, 64, 50)):
        with pytest.raises(InputError, match="windows of shape"):
            Features(EDGE)(torch.zeros(shape))
