"""Batch norm folded into the convolution before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class BatchNorm:
    """Batch norm as it runs after training: gamma * (x - mean) / sqrt(variance + epsilon) + beta.

    gamma, beta, mean, variance: (channels,).
    """

    gamma: np.ndarray
    beta: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    epsilon: float


def fold(norm: BatchNorm, bias: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Gain and bias that make a convolution do what it and the batch norm behind it do together.

    bias: (channels,) of the convolution, or None. Returns (gain, bias), float32 (channels,): the result is
    gain * convolution without bias + bias. The gain is returned, not multiplied into the weights, since the weights
    as trained are what quantization codes come from: the four component rows of a quaternion filter then share one
    set of codes however batch norm scales or flips each row.
    Source: Jacob et al. 2018, Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference, Eq. 14.
    """
    gamma, beta, mean, variance = (
        np.asarray(field, dtype=np.float64) for field in (norm.gamma, norm.beta, norm.mean, norm.variance)
    )
    gain = gamma / np.sqrt(variance + norm.epsilon)
    before = 0.0 if bias is None else np.asarray(bias, dtype=np.float64)
    return gain.astype(np.float32), (beta + (before - mean) * gain).astype(np.float32)
