"""From a waveform to what a network sees: the one definition that torch, streaming and C are tested against."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from edgeq.audio.spec import DERIVATIVE_ORDERS, PRESETS, FrontendSpec, with_derivatives
from edgeq.errors import InputError

__all__ = [
    "DERIVATIVE_ORDERS",
    "PRESETS",
    "FrontendSpec",
    "as_waveform",
    "cut",
    "derivative_kernel",
    "features",
    "frame_count",
    "gated",
    "logmel",
    "logmel_frames",
    "mel_centres",
    "mel_filterbank",
    "pad",
    "recording_features",
    "reflected",
    "stft_window",
    "with_derivatives",
]

_BLOCK_FRAMES = 128


def logmel(waveform: np.ndarray, spec: FrontendSpec) -> np.ndarray:
    """Log-mel spectrogram of a whole waveform.

    waveform: (samples,), float, mono at spec.sample_rate, full scale +-1. Returns float32 (spec.logmel_rows, frames),
    in dB or nepers by spec.log, with `frame_count` frames. With derivatives "power-frequency" the rows are the mels of
    the four components, one component after the other: these derivatives are of the spectrogram, not of its log-mel.
    Memory beyond input and result does not grow with the length.
    Raises InputError where the waveform has another shape or kind, NaN or infinity, or fewer samples than
    spec.least_samples.
    """
    waveform = as_waveform(waveform)
    if len(waveform) < spec.least_samples:
        raise InputError(
            f"waveform of {len(waveform)} samples: expected at least {spec.least_samples} at {spec.sample_rate} Hz, "
            f"one STFT window; give a longer recording"
        )
    frames = frame_count(len(waveform), spec)
    before = spec.n_fft // 2 if spec.centre else 0
    result = np.empty((spec.logmel_rows, frames), np.float32)
    for first in range(0, frames, _BLOCK_FRAMES):
        last = min(first + _BLOCK_FRAMES, frames)
        start = first * spec.hop_length - before
        stop = (last - 1) * spec.hop_length - before + spec.n_fft
        result[:, first:last] = logmel_frames(reflected(waveform, start, stop), spec)
    return result


def cut(logmel: np.ndarray, spec: FrontendSpec) -> np.ndarray:
    """Network windows of a log-mel spectrogram: those that fit, from frame 0, every spec.window_hop_frames.

    logmel: (spec.logmel_rows, frames). Returns a read-only view (n, spec.logmel_rows, window_frames).
    Raises InputError where none fits or the rows are not the spec's.
    """
    if logmel.ndim != 2 or logmel.shape[0] != spec.logmel_rows:
        raise InputError(f"log-mel of shape {logmel.shape}: expected ({spec.logmel_rows}, frames)")
    if logmel.shape[1] < spec.window_frames:
        raise InputError(
            f"log-mel of {logmel.shape[1]} frames: expected at least {spec.window_frames}, one window; "
            f"pad the recording to {spec.window_samples} samples"
        )
    windows = np.lib.stride_tricks.sliding_window_view(logmel, spec.window_frames, axis=1)
    return windows[:, :: spec.window_hop_frames].transpose(1, 0, 2)


def gated(windows: np.ndarray, spec: FrontendSpec) -> np.ndarray:
    """Which windows are too quiet to be judged.

    windows: (n, spec.logmel_rows, frames), log-mel before normalisation. Returns bool (n,): True where the largest
    value of the log-mel itself, not of derivatives, is below spec.gate; all False where the gate is None.
    """
    if spec.gate is None:
        return np.zeros(len(windows), bool)
    return np.asarray(windows[:, : spec.n_mels].max(axis=(1, 2)) < spec.gate)


def features(windows: np.ndarray, spec: FrontendSpec) -> np.ndarray:
    """What the network sees: windows with their derivatives, each component normalised.

    windows: (n, spec.logmel_rows, frames), log-mel. Returns float32 (n, components, n_mels, frames).
    Raises InputError where the windows have another shape.
    Source: quaternion paper, Eq. 8.
    """
    if windows.ndim != 3 or windows.shape[1] != spec.logmel_rows or windows.shape[2] < 1:
        raise InputError(f"windows of shape {windows.shape}: expected (n, {spec.logmel_rows}, frames)")
    components = [np.asarray(part, np.float64) for part in np.split(windows, spec.logmel_rows // spec.n_mels, axis=1)]
    if spec.derivatives == "time":
        components += [_derivative(components[0], spec.derivative_width, order) for order in DERIVATIVE_ORDERS]
    result = np.empty((len(windows), spec.components, spec.n_mels, windows.shape[2]), np.float32)
    for index, component in enumerate(components):
        result[:, index] = (component - spec.mean[index]) / spec.std[index]
    return result


def pad(waveform: np.ndarray, spec: FrontendSpec) -> np.ndarray:
    """Lengthen a recording that is shorter than one window, by spec.pad; a longer one comes back as it is.

    waveform: (samples,). Returns float32 (at least spec.window_samples,).
    Raises InputError where the waveform is shorter than spec.win_length samples, has another shape, or is not finite.
    """
    samples = as_waveform(waveform)
    if len(samples) < spec.win_length:
        raise InputError(
            f"waveform of {len(samples)} samples: expected at least {spec.win_length} at {spec.sample_rate} Hz, "
            f"one STFT window; give a longer recording"
        )
    if len(samples) >= spec.window_samples:
        return samples
    if spec.pad == "repeat":
        return np.resize(samples, spec.window_samples)
    return np.pad(samples, (0, spec.window_samples - len(samples)))


def recording_features(waveform: np.ndarray, spec: FrontendSpec) -> tuple[np.ndarray, np.ndarray]:
    """Network inputs of a whole recording: pad, log-mel, windows, derivatives, normalisation.

    waveform: (samples,). Returns float32 (n, components, n_mels, window_frames) and gated, bool (n,); n is at least 1.
    Raises InputError as `pad` does.
    """
    windows = cut(logmel(pad(waveform, spec), spec), spec)
    return features(windows, spec), gated(windows, spec)


def frame_count(samples: int, spec: FrontendSpec) -> int:
    """Frames of a waveform of that many samples (at least spec.least_samples)."""
    return 1 + (samples if spec.centre else samples - spec.n_fft) // spec.hop_length


@lru_cache(maxsize=16)
def stft_window(spec: FrontendSpec) -> np.ndarray:
    """Periodic STFT window, in the middle of n_fft samples. Returns float64 (n_fft,), read-only."""
    offset = 0.5 if spec.window == "hann" else 0.54
    phase = 2 * np.pi * np.arange(spec.win_length) / spec.win_length
    window = np.zeros(spec.n_fft)
    left = (spec.n_fft - spec.win_length) // 2
    window[left : left + spec.win_length] = offset - (1 - offset) * np.cos(phase)
    window.setflags(write=False)
    return window


@lru_cache(maxsize=16)
def mel_filterbank(spec: FrontendSpec) -> np.ndarray:
    """Triangular mel filters over the STFT's bins. Returns float64 (n_mels, n_fft // 2 + 1), read-only.

    Raises InputError where a filter is so narrow that it spans no bin.
    Source: Slaney's Auditory Toolbox (1998) or the HTK book, section 5.4, by spec.mel_scale; area norm 2 / bandwidth.
    """
    bins = np.arange(spec.n_fft // 2 + 1) * (spec.sample_rate / spec.n_fft)
    edges = _mel_edges(spec)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    filters = np.maximum(0.0, np.minimum(rising, falling))
    empty = np.flatnonzero(filters.max(axis=1) == 0.0)
    if len(empty):
        raise InputError(
            f"front end: mel filter {empty[0]} of {spec.n_mels} spans no bin of a {spec.n_fft}-point STFT at "
            f"{spec.sample_rate} Hz; use fewer mels or a larger n_fft"
        )
    if spec.mel_norm == "slaney":
        filters *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    filters.setflags(write=False)
    return filters


def mel_centres(spec: FrontendSpec) -> np.ndarray:
    """Where the mel filters have their peaks. Returns float64 (n_mels,), in Hz, lowest first."""
    return _mel_edges(spec)[1:-1]


@lru_cache(maxsize=16)
def derivative_kernel(width: int, order: int) -> np.ndarray:
    """Weights of `width` neighbours whose sum is the derivative of that order, per frame or bin, in the middle.

    The derivative of the least-squares polynomial of degree `order`; the first is the regression delta of speech
    recognition. Returns float64 (width,), read-only.
    Source: Savitzky and Golay (1964).
    """
    frames = np.arange(width) - width // 2
    kernel = math.factorial(order) * np.linalg.pinv(np.vander(frames, order + 1, increasing=True))[order]
    kernel.setflags(write=False)
    return kernel


def logmel_frames(samples: np.ndarray, spec: FrontendSpec) -> np.ndarray:
    """Log-mel of the STFT frames that fit whole into the samples, with no padding: what whole file and stream share.

    samples: (n,), n at least n_fft. Returns float64 (spec.logmel_rows, 1 + (n - n_fft) // hop_length).
    """
    frames = np.lib.stride_tricks.sliding_window_view(samples, spec.n_fft)[:: spec.hop_length]
    spectrum = np.fft.rfft(frames * stft_window(spec), axis=1)
    power = spectrum.real**2 + spectrum.imag**2
    spectra = [power if spec.power == 2.0 else np.sqrt(power)]
    if spec.derivatives == "power-frequency":
        for _ in DERIVATIVE_ORDERS:
            spectra.append(_derivative(spectra[-1], spec.derivative_width, 1))
    mel = np.concatenate([mel_filterbank(spec) @ one.T for one in spectra])
    lifted = np.maximum(mel, 0.0) + spec.floor if spec.floor_rule == "add" else np.maximum(mel, spec.floor)
    return 10.0 * np.log10(lifted) if spec.log == "db" else np.log(lifted)


def reflected(waveform: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Samples start .. stop of a waveform that is mirrored at its first and last sample (which are not repeated)."""
    if start >= 0 and stop <= len(waveform):
        return waveform[start:stop]
    index = np.abs(np.arange(start, stop))
    last = len(waveform) - 1
    return waveform[last - np.abs(last - index)]


def as_waveform(waveform: np.ndarray) -> np.ndarray:
    """The waveform as float32, checked. Raises InputError where it is not one row of finite floats."""
    if not isinstance(waveform, np.ndarray) or waveform.ndim != 1 or waveform.dtype.kind != "f":
        found = f"{waveform.dtype} {waveform.shape}" if isinstance(waveform, np.ndarray) else type(waveform).__name__
        raise InputError(f"waveform: found {found}, expected one row of float samples, mono, full scale +-1")
    with np.errstate(over="ignore", invalid="ignore"):
        samples = np.asarray(waveform, np.float32)
        # The sum is finite when all samples are, and needs no array of flags beside an hour of audio.
        finite = math.isfinite(np.sum(samples, dtype=np.float64))
    if not finite:
        raise InputError("waveform: NaN or infinite samples; repair the recording")
    return samples


def _derivative(values: np.ndarray, width: int, order: int) -> np.ndarray:
    """Derivative along the last axis, edges replicated."""
    half = width // 2
    replicated = np.pad(values, [*[(0, 0)] * (values.ndim - 1), (half, half)], mode="edge")
    return np.lib.stride_tricks.sliding_window_view(replicated, width, axis=-1) @ derivative_kernel(width, order)


def _mel_edges(spec: FrontendSpec) -> np.ndarray:
    """Where the filters begin, peak and end, (n_mels + 2,), in Hz: each peaks where its neighbours end."""
    low, high = _to_mel(np.array([spec.fmin, spec.fmax]), spec.mel_scale)
    return _to_hertz(np.linspace(low, high, spec.n_mels + 2), spec.mel_scale)


def _to_mel(hertz: np.ndarray, scale: str) -> np.ndarray:
    if scale == "htk":
        return 2595.0 * np.log10(1.0 + hertz / 700.0)
    # Linear below 1 kHz (15 mels), 27 logarithmic steps a factor of 6.4 above.
    return np.where(
        hertz < 1000.0, hertz * 3.0 / 200.0, 15.0 + 27.0 * np.log(np.maximum(hertz, 1000.0) / 1000.0) / np.log(6.4)
    )


def _to_hertz(mel: np.ndarray, scale: str) -> np.ndarray:
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    return np.where(mel < 15.0, mel * 200.0 / 3.0, 1000.0 * 6.4 ** ((mel - 15.0) / 27.0))
