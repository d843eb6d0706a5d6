"""The front end in torch: batched and differentiable, held by tests to the NumPy definition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeq.audio.frontend import DERIVATIVE_ORDERS, FrontendSpec, derivative_kernel, mel_filterbank, stft_window
from edgeq.errors import InputError


class LogMel(nn.Module):
    """Log-mel of a batch of waveforms: (batch, samples) to (batch, spec.logmel_rows, frames), as `frontend.logmel`.

    Works in the dtype it is moved to, float32 at first. Raises InputError where the waveforms have another shape or
    fewer samples than spec.least_samples.
    """

    window: Tensor
    filterbank: Tensor
    delta: Tensor

    def __init__(self, spec: FrontendSpec) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("window", _constant(stft_window(spec)), persistent=False)
        self.register_buffer("filterbank", _constant(mel_filterbank(spec)), persistent=False)
        self.register_buffer("delta", _kernels(spec, (1,)), persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        spec = self.spec
        if waveforms.ndim != 2 or waveforms.shape[1] < spec.least_samples:
            raise InputError(
                f"waveforms of shape {tuple(waveforms.shape)}: expected (batch, samples) with at least "
                f"{spec.least_samples} samples"
            )
        spectrum = torch.stft(
            waveforms,
            spec.n_fft,
            spec.hop_length,
            window=self.window,
            center=spec.centre,
            pad_mode="reflect",
            return_complex=True,
        )
        power = spectrum.real**2 + spectrum.imag**2
        if spec.power == 1.0:
            power = _root(power)
        spectra = [power]
        if spec.derivatives == "power-frequency":
            for _ in DERIVATIVE_ORDERS:
                spectra.append(_derivatives(spectra[-1].mT, self.delta)[:, 0].mT)
        mel = torch.cat([self.filterbank @ one for one in spectra], dim=1)
        lifted = mel.clamp(min=0) + spec.floor if spec.floor_rule == "add" else mel.clamp(min=spec.floor)
        return 10.0 * lifted.log10() if spec.log == "db" else lifted.log()


class Features(nn.Module):
    """Network inputs of a batch of windows: (batch, spec.logmel_rows, frames) to (batch, components, n_mels, frames).

    Time derivatives and normalisation, as `frontend.features`; training runs it after augmentation. Raises InputError
    where the windows have another shape.
    """

    kernels: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, spec: FrontendSpec) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("kernels", _kernels(spec, DERIVATIVE_ORDERS), persistent=False)
        self.register_buffer("mean", torch.tensor(spec.mean).reshape(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).reshape(-1, 1, 1), persistent=False)

    def forward(self, logmel: Tensor) -> Tensor:
        rows = self.spec.logmel_rows
        if logmel.ndim != 3 or logmel.shape[1] != rows or logmel.shape[2] < 1:
            raise InputError(f"windows of shape {tuple(logmel.shape)}: expected (batch, {rows}, frames)")
        components = logmel.unflatten(1, (-1, self.spec.n_mels))
        if self.spec.derivatives == "time":
            components = torch.cat([components, _derivatives(logmel, self.kernels)], dim=1)
        return (components - self.mean) / self.std


def _derivatives(values: Tensor, kernels: Tensor) -> Tensor:
    """Derivatives along the last axis, edges replicated: (batch, rows, n) to (batch, kernels, rows, n)."""
    batch, rows, length = values.shape
    half = kernels.shape[2] // 2
    padded = F.pad(values, (half, half), mode="replicate").reshape(batch * rows, 1, length + 2 * half)
    return F.conv1d(padded, kernels).reshape(batch, rows, len(kernels), length).transpose(1, 2)


def _kernels(spec: FrontendSpec, orders: Sequence[int]) -> Tensor:
    return torch.stack([_constant(derivative_kernel(spec.derivative_width, order)) for order in orders])[:, None]


def _root(power: Tensor) -> Tensor:
    # The gradient of a root is infinite at 0 and would turn digital silence into NaN: 0 stays 0, with gradient 0.
    silent = power == 0
    return torch.where(silent, 0.0, torch.where(silent, 1.0, power).sqrt())


def _constant(values: np.ndarray) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)
