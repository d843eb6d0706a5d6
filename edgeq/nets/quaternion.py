"""Quaternion layers in torch: component kernels are what is trained, one real block kernel is what runs.

Channels are component-major, [all R | all I | all J | all K]. An activation applied to such a tensor is the split
activation of the quaternion paper, and batch norm is the ordinary real one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeq.errors import InputError
from edgeq.nets.hamilton import COMPONENT, SIGN


class QuaternionConv2d(nn.Module):
    """Convolution by the Hamilton product of kernel and input, kernel on the left.

    Takes (N, in_channels, H, W), gives (N, out_channels, H', W'); both counts are real channels, multiples of 4.
    weight: (4, out/4, in/4, kh, kw), components r, i, j, k; bias: (out,) real. For speed on a CPU give the input
    channels last; the weight, of five axes, has no such format.
    Raises InputError where a channel count is not a multiple of 4.
    Source: quaternion paper, Section II.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.padding = _pair(kernel_size), _pair(stride), _pair(padding)
        blocks = (
            quaternions(out_channels, "QuaternionConv2d output"),
            quaternions(in_channels, "QuaternionConv2d input"),
        )
        self.weight = nn.Parameter(torch.empty(4, *blocks, *self.kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        quaternion_init_(self.weight, "glorot")

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, block_weight(self.weight), self.bias, self.stride, self.padding)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, bias={self.bias is not None}"
        )


class QuaternionLinear(nn.Module):
    """Dense layer by the Hamilton product of weights and input, weights on the left.

    Takes (..., in_features), gives (..., out_features); both are real counts, multiples of 4.
    weight: (4, out/4, in/4), components r, i, j, k; bias: (out,) real.
    Raises InputError where a feature count is not a multiple of 4.
    Source: quaternion paper, Section II.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        blocks = (
            quaternions(out_features, "QuaternionLinear output"),
            quaternions(in_features, "QuaternionLinear input"),
        )
        self.weight = nn.Parameter(torch.empty(4, *blocks))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        quaternion_init_(self.weight, "he")

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, block_weight(self.weight), self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


def block_weight(weight: Tensor) -> Tensor:
    """The real kernel that does what component kernels do.

    weight: (4, out/4, in/4, ...), components r, i, j, k. Returns (out, in, ...): copies and negations, no rounding.
    Source: quaternion paper, Eq. 1.
    """
    # One negation and five concatenations: cheaper forward and backward than indexing or sixteen separate pieces.
    positive, negative = weight.unbind(0), (-weight).unbind(0)
    rows = [
        torch.cat([(positive if sign > 0 else negative)[part] for part, sign in zip(parts, signs, strict=True)], dim=1)
        for parts, signs in zip(COMPONENT, SIGN, strict=True)
    ]
    return torch.cat(rows, dim=0)


@torch.no_grad()
def quaternion_init_(weight: Tensor, criterion: str = "glorot", generator: torch.Generator | None = None) -> Tensor:
    """Draw component kernels in polar form, in place: modulus chi with 4 degrees of freedom, phase and axis uniform.

    weight: (4, out/4, in/4, ...). criterion: "glorot" (the convolutions) or "he" (the dense layer) sets the scale
    s = 1/sqrt(2 (fan_in + fan_out)) or 1/sqrt(2 fan_in), with the fans of the quaternion kernel; then E|w|^2 = 4 s^2.
    Phase in (-pi, pi); the imaginary axis is uniform on the sphere. Raises ValueError on another criterion.
    Source: Gaudet and Maida 2018, Deep Quaternion Networks, Section 3.5; the quaternion paper follows it.
    """
    if criterion not in ("glorot", "he"):
        raise ValueError(f"criterion {criterion!r}: expected 'glorot' or 'he'")
    if weight.is_meta:  # nothing to draw, and drawing nothing takes most of the time that counting does
        return weight
    field = math.prod(weight.shape[3:])
    fan_in, fan_out = weight.shape[2] * field, weight.shape[1] * field
    scale = 1 / math.sqrt(2 * (fan_in + fan_out if criterion == "glorot" else fan_in))
    # A chi variable with 4 degrees of freedom is the length of a normal vector in 4 dimensions.
    modulus = _normal(weight, 4, generator).norm(dim=0) * scale
    phase = torch.empty_like(modulus).uniform_(-math.pi, math.pi, generator=generator)
    axis = functional.normalize(_normal(weight, 3, generator), dim=0)
    weight[0] = modulus * torch.cos(phase)
    weight[1:] = modulus * torch.sin(phase) * axis
    return weight


@torch.no_grad()
def quaternion_he_normal_(weight: Tensor) -> Tensor:
    """Draw every component independently from a normal law with He's variance of the real fan-in, in place.

    weight: (4, out/4, in/4, ...). The mean square is that of `quaternion_init_` with "he", but spread evenly over the
    four components, where the polar form gives the real one three times the variance of an imaginary one.
    Source: He et al. 2015, Delving Deep into Rectifiers, Eq. 10, applied to the block kernel.
    """
    return weight.normal_(0.0, math.sqrt(2 / (4 * weight.shape[2] * math.prod(weight.shape[3:]))))


def quaternions(channels: int, layer: str) -> int:
    """How many quaternions `channels` real channels hold. Raises InputError naming `layer` where not a whole number."""
    if channels <= 0 or channels % 4:
        raise InputError(f"{layer}: {channels} channels: expected a multiple of 4, since a quaternion has 4 components")
    return channels // 4


def _normal(weight: Tensor, rows: int, generator: torch.Generator | None) -> Tensor:
    return torch.empty(rows, *weight.shape[1:], dtype=weight.dtype, device=weight.device).normal_(generator=generator)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
