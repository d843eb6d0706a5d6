"""CP-Mobile, a small real network for acoustic scenes: inverted residual blocks within the DCASE budget."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgeq.errors import InputError
from edgeq.nets.spec import ArchitectureSpec

BLOCKS = ((0, 0, (1, 1)), (0, 0, (1, 1)), (0, 0, (1, 2)), (0, 1, (2, 1)), (1, 1, (1, 1)), (1, 2, (1, 1)))
"""Each block's stream before and after it, and its stride over mels and frames; it adds to a stream that stays."""

STREAMS = 3

LEAST = 8
"""Mels and frames that one cell of the last map stands for: all strides multiplied."""


class CpMobile(nn.Module):
    """Two 3 x 3 convolutions with stride 2, six inverted residual blocks in three stages, scores averaged over the map.

    spec.widths: the first convolution; the three streams (the second convolution gives the first of them); the inner
    widths of the six blocks: 10 numbers. Scores come from a 1 x 1 convolution with batch norm. Takes (N, components,
    mels, frames), gives logits (N, classes).
    This is the form that became the baseline of DCASE 2024 Task 1, on 256 mels x 65 frames there; the strides are the
    same on fewer. It leaves out the original's Global Response Normalisation, a quotient of norms of whole maps: TFLite
    has no operator for it, and the original computes it in float between its integer layers.
    Raises InputError where the widths are not 10, or the input is smaller than the strides (8 x 8).
    Sources: Schmid et al. 2023, Distilling the Knowledge of Transformers and CNNs with CP-Mobile; layers and strides
    from the table of the DCASE 2024 Task 1 baseline.
    """

    def __init__(self, spec: ArchitectureSpec) -> None:
        super().__init__()
        _check(spec)
        first, *streams = spec.widths[: 1 + STREAMS]
        self.stem = nn.Sequential(
            *_conv(spec.input_shape[0], first, 3, stride=(2, 2)),
            nn.ReLU(),
            *_conv(first, streams[0], 3, stride=(2, 2)),
            nn.ReLU(),
        )
        self.blocks = nn.Sequential(
            *(
                Block(streams[before], inner, streams[after], stride, residual=before == after)
                for (before, after, stride), inner in zip(BLOCKS, spec.widths[1 + STREAMS :], strict=True)
            )
        )
        self.classifier = nn.Sequential(*_conv(streams[-1], spec.classes, 1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.blocks(self.stem(x))).mean(dim=(2, 3))


class Block(nn.Module):
    """1 x 1 convolution to the inner width, 3 x 3 depthwise, 1 x 1 to the stream; batch norm and ReLU after each.

    residual: the input is added before the last ReLU; where the block strides, its mean over 3 x 3, padding counted.
    """

    def __init__(self, channels: int, inner: int, out: int, stride: tuple[int, int], residual: bool) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            *_conv(channels, inner, 1),
            nn.ReLU(),
            *_conv(inner, inner, 3, stride, groups=inner),
            nn.ReLU(),
            *_conv(inner, out, 1),
        )
        pool = nn.Identity() if stride == (1, 1) else nn.AvgPool2d(3, stride, padding=1)
        self.shortcut = pool if residual else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return torch.relu(y if self.shortcut is None else y + self.shortcut(x))


def _conv(
    channels: int, out: int, size: int, stride: tuple[int, int] = (1, 1), groups: int = 1
) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    convolution = nn.Conv2d(channels, out, size, stride, padding=size // 2, groups=groups, bias=False)
    return convolution, nn.BatchNorm2d(out)


def _check(spec: ArchitectureSpec) -> None:
    expected = 1 + STREAMS + len(BLOCKS)
    if len(spec.widths) != expected:
        raise InputError(
            f"{spec.family}: {len(spec.widths)} widths: expected {expected}: the first convolution, {STREAMS} streams "
            f"and {len(BLOCKS)} inner widths"
        )
    spec.check_input(LEAST, LEAST)
