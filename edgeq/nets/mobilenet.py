"""MobileNetV1 and MobileNetV2 of PANNs: depthwise separable convolutions before the head of CNN14.

Where the networks for images stride, these convolve the whole map and then take 2 x 2 means, before batch norm. Maps
are (N, components, mels, frames); PANNs has frames first, so its kernels are these transposed.
Sources: Kong et al. 2020, PANNs, and its public code; Howard et al. 2017, MobileNets; Sandler et al. 2018, MobileNetV2.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from edgeq.errors import InputError
from edgeq.nets.panns import Head, MelBatchNorm, initialise
from edgeq.nets.spec import ArchitectureSpec

V1_HALVED = (False, True, False, True, False, True, False, False, False, False, False, True, False)
"""Which of MobileNetV1's 13 separable convolutions halve the map, as the convolution before them does."""

V2_STAGES = ((1, False), (2, True), (3, True), (4, True), (3, True), (3, False), (1, False))
"""MobileNetV2's stages: blocks, and whether the first of them halves the map."""

V2_INNER = sum(blocks for blocks, _ in V2_STAGES) - 1
"""Blocks with an inner width of their own: all but the first, whose depthwise convolution reads the stem."""

LEAST = 32
"""Mels and frames that halving five times needs."""


class MobileNetV1(nn.Module):
    """A 3 x 3 convolution, 13 separable ones (3 x 3 depthwise, 1 x 1), each with batch norm and ReLU; CNN14's head.

    spec.widths: the first convolution, the 13 1 x 1 convolutions, fc1: 15 numbers; a depthwise convolution is as wide
    as what it reads. Takes (N, components, mels, frames), gives logits (N, classes).
    Raises InputError where the widths are not 15, or the input is smaller than the pools (32 x 32).
    """

    def __init__(self, spec: ArchitectureSpec) -> None:
        super().__init__()
        _check(spec, 2 + len(V1_HALVED), f"the first convolution, {len(V1_HALVED)} 1 x 1 convolutions and fc1")
        *widths, hidden = spec.widths
        self.bn0 = MelBatchNorm(spec.input_shape[1])
        self.stem = _conv(spec.input_shape[0], widths[0], nn.ReLU(), halve=True)
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(*_depthwise(before, nn.ReLU(), halve), *_conv(before, after, nn.ReLU(), size=1))
                for (before, after), halve in zip(pairwise(widths), V1_HALVED, strict=True)
            )
        )
        self.head = Head((widths[-1], hidden), spec.classes, quaternion=False)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(self.bn0(x))))


class MobileNetV2(nn.Module):
    """A 3 x 3 convolution, 17 inverted residual blocks, a 1 x 1 convolution; CNN14's head without its dropout.

    spec.widths: the first convolution; the streams of the seven stages, to which their blocks add; the inner widths of
    blocks 2 to 17; the last convolution; fc1: 26 numbers. Takes (N, components, mels, frames), gives logits (N,
    classes).
    Raises InputError where the widths are not 26, or the input is smaller than the pools (32 x 32).
    """

    def __init__(self, spec: ArchitectureSpec) -> None:
        super().__init__()
        stages = len(V2_STAGES)
        _check(
            spec,
            1 + stages + V2_INNER + 2,
            f"the first convolution, {stages} streams, {V2_INNER} inner widths, the last convolution and fc1",
        )
        first, *streams = spec.widths[: 1 + stages]
        *inner, last, hidden = spec.widths[1 + stages :]
        self.bn0 = MelBatchNorm(spec.input_shape[1])
        self.stem = _conv(spec.input_shape[0], first, nn.ReLU6(), halve=True)
        inner_widths: list[int | None] = [None, *inner]
        blocks: list[nn.Module] = []
        for before, stream, (count, halve) in zip((first, *streams), streams, V2_STAGES, strict=False):
            blocks.append(InvertedResidual(before, inner_widths[len(blocks)], stream, halve, residual=False))
            for _ in range(count - 1):
                blocks.append(InvertedResidual(stream, inner_widths[len(blocks)], stream, halve=False, residual=True))
        self.blocks = nn.Sequential(*blocks)
        self.last = _conv(streams[-1], last, nn.ReLU6(), size=1)
        self.head = Head((last, hidden), spec.classes, quaternion=False)
        self.head.dropout.p = 0.0
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.blocks(self.stem(self.bn0(x)))))


class InvertedResidual(nn.Module):
    """1 x 1 convolution to the inner width, 3 x 3 depthwise, 1 x 1 to the stream; batch norm after each.

    ReLU6 follows the first two. inner: None leaves the first convolution out. residual: the input is added to the
    result.
    """

    def __init__(self, channels: int, inner: int | None, out: int, halve: bool, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        expand = nn.Sequential() if inner is None else _conv(channels, inner, nn.ReLU6(), size=1)
        width = channels if inner is None else inner
        self.conv = nn.Sequential(
            *expand,
            *_depthwise(width, nn.ReLU6(), halve),
            nn.Conv2d(width, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


def _conv(channels: int, out: int, activation: nn.Module, size: int = 3, halve: bool = False) -> nn.Sequential:
    convolution = nn.Conv2d(channels, out, size, padding=size // 2, bias=False)
    return nn.Sequential(convolution, _half(halve), nn.BatchNorm2d(out), activation)


def _depthwise(channels: int, activation: nn.Module, halve: bool) -> nn.Sequential:
    convolution = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
    return nn.Sequential(convolution, _half(halve), nn.BatchNorm2d(channels), activation)


def _half(halve: bool) -> nn.Module:
    return nn.AvgPool2d(2) if halve else nn.Identity()


def _check(spec: ArchitectureSpec, expected: int, names: str) -> None:
    if len(spec.widths) != expected:
        raise InputError(f"{spec.family}: {len(spec.widths)} widths: expected {expected}: {names}")
    spec.check_input(LEAST, LEAST)
