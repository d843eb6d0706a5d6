"""CNN14 and ResNet38 of PANNs, and their quaternion twins of the quaternion paper.

Maps are (N, components, mels, frames); PANNs has frames first, so its kernels are these transposed.
Sources: Kong et al. 2020, PANNs, and its public code; quaternion paper, Section V-D, supplement, Sections II and III.
"""

from __future__ import annotations

from torch import Tensor, nn

from edgeq.errors import InputError
from edgeq.nets.maximum import maximum
from edgeq.nets.quaternion import QuaternionConv2d, QuaternionLinear, quaternions
from edgeq.nets.spec import ArchitectureSpec
from edgeq.nets.widths import LAYERS, TAGS

LEAST = 32
"""Mels and frames that the five poolings by 2 need."""


class Cnn14(nn.Module):
    """Six blocks of two 3 x 3 convolutions, each with batch norm and ReLU; 2 x 2 average pools after the first five.

    spec.widths: the twelve convolutions, fc1; optionally the tags of a transfer head. Takes (N, components, mels,
    frames), gives logits (N, classes). quaternion: convolutions and fc1 are quaternion layers; batch norm, tags and
    classifier stay real. Every convolution is padded by 1 as in the papers; the public code of the quaternion paper
    pads the first convolution of each block of a pruned QCNN14 by 2, which no published count can tell apart.
    Raises InputError where the number of widths is wrong, a quaternion width is not a multiple of 4, or the input is
    smaller than the pools (32 x 32).
    """

    def __init__(self, spec: ArchitectureSpec, quaternion: bool = False) -> None:
        super().__init__()
        _check(spec, quaternion)
        widths = spec.widths
        self.bn0 = MelBatchNorm(spec.input_shape[1])
        self.block1 = ConvBlock(spec.input_shape[0], widths[0], widths[1], quaternion)
        self.block2 = ConvBlock(widths[1], widths[2], widths[3], quaternion)
        self.block3 = ConvBlock(widths[3], widths[4], widths[5], quaternion)
        self.block4 = ConvBlock(widths[5], widths[6], widths[7], quaternion)
        self.block5 = ConvBlock(widths[7], widths[8], widths[9], quaternion)
        self.block6 = ConvBlock(widths[9], widths[10], widths[11], quaternion)
        self.pool = nn.AvgPool2d(2)
        self.dropout = nn.Dropout(0.2)
        self.head = Head(widths[11:], spec.classes, quaternion)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn0(x)
        for block in (self.block1, self.block2, self.block3, self.block4, self.block5):
            x = self.dropout(self.pool(block(x)))
        return self.head(self.dropout(self.block6(x)))


class ResNet38(nn.Module):
    """A block of two convolutions, 16 residual blocks in four stages, another block of two convolutions.

    spec.widths: as `widths.RESNET38` names them; optionally the tags of a transfer head. 2 x 2 average pools follow the
    first block and the last stage, and open stages 2 to 4. Everything else is as in `Cnn14`.
    """

    def __init__(self, spec: ArchitectureSpec, quaternion: bool = False) -> None:
        super().__init__()
        _check(spec, quaternion)
        first, stream1, stream2, stream3, stream4 = spec.widths[:5]
        inner = spec.widths[5:21]
        self.bn0 = MelBatchNorm(spec.input_shape[1])
        self.stem = ConvBlock(spec.input_shape[0], first, stream1, quaternion)
        self.layer1 = _stage(stream1, inner[:3], stream1, False, quaternion)
        self.layer2 = _stage(stream1, inner[3:7], stream2, True, quaternion)
        self.layer3 = _stage(stream2, inner[7:13], stream3, True, quaternion)
        self.layer4 = _stage(stream3, inner[13:], stream4, True, quaternion)
        self.after1 = ConvBlock(stream4, spec.widths[21], spec.widths[22], quaternion)
        self.pool = nn.AvgPool2d(2)
        self.dropout = nn.Dropout(0.2)
        self.head = Head(spec.widths[22:], spec.classes, quaternion)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(self.pool(self.stem(self.bn0(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = self.dropout(self.pool(x))
        return self.head(self.dropout(self.after1(x)))


class MelBatchNorm(nn.BatchNorm2d):
    """Batch norm of each mel band over clips, components and frames: statistics and affine are shared by components.

    Takes and gives (N, components, mels, frames); num_features is the number of mels. Source: `bn0` of PANNs' networks.
    """

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.transpose(1, 2)).transpose(1, 2)


class ConvBlock(nn.Module):
    """Twice [3 x 3 convolution without bias, batch norm, ReLU]."""

    def __init__(self, channels: int, middle: int, out: int, quaternion: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(channels, middle, 3, quaternion), nn.BatchNorm2d(middle)
        self.conv2, self.bn2 = _conv(middle, out, 3, quaternion), nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        return self.bn2(self.conv2(x)).relu()


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions whose result is added to the input.

    halve: the map is halved before the first of them, and the shortcut is a 1 x 1 convolution of the halved map. The
    second batch norm starts with gamma 0, so that the block starts as its shortcut.
    """

    def __init__(self, channels: int, inner: int, out: int, halve: bool, quaternion: bool) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(2) if halve else nn.Identity()
        self.conv1, self.bn1 = _conv(channels, inner, 3, quaternion), nn.BatchNorm2d(inner)
        self.dropout = nn.Dropout(0.1)
        self.conv2, self.bn2 = _conv(inner, out, 3, quaternion), nn.BatchNorm2d(out)
        self.skip = nn.Sequential(_conv(channels, out, 1, quaternion), nn.BatchNorm2d(out)) if halve else nn.Identity()
        nn.init.zeros_(self.bn2.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(x)
        y = self.dropout(self.bn1(self.conv1(x)).relu())
        return (self.bn2(self.conv2(y)) + self.skip(x)).relu()


class Head(nn.Module):
    """Mean over mels, maximum plus mean over time, a hidden dense layer, the classifier.

    widths: features, fc1 and, for a transfer head, tags: a real dense layer between fc1 and the classifier.
    """

    def __init__(self, widths: tuple[int, ...], classes: int, quaternion: bool) -> None:
        super().__init__()
        features, hidden, *tags = widths
        self.dropout = nn.Dropout(0.5)
        self.fc1 = QuaternionLinear(features, hidden) if quaternion else nn.Linear(features, hidden)
        self.tags = nn.Linear(hidden, tags[0]) if tags else nn.Identity()
        self.classifier = nn.Linear(tags[0] if tags else hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = x.mean(dim=2)
        x = maximum(x, dim=2) + x.mean(dim=2)
        return self.classifier(self.tags(self.fc1(self.dropout(x)).relu()))


def initialise(network: nn.Module) -> None:
    """PANNs' Glorot uniform weights and zero biases; quaternion layers keep the polar draw that they start with."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _stage(channels: int, inner: tuple[int, ...], out: int, halve: bool, quaternion: bool) -> nn.Sequential:
    """Basic blocks in a row, one for each inner width; the first of them may halve the map."""
    first = BasicBlock(channels, inner[0], out, halve, quaternion)
    return nn.Sequential(first, *(BasicBlock(out, width, out, False, quaternion) for width in inner[1:]))


def _conv(channels: int, out: int, size: int, quaternion: bool) -> nn.Module:
    kind = QuaternionConv2d if quaternion else nn.Conv2d
    return kind(channels, out, size, padding=size // 2, bias=False)


def _check(spec: ArchitectureSpec, quaternion: bool) -> None:
    names = LAYERS[spec.family]
    if len(spec.widths) not in (len(names), len(names) + 1):
        raise InputError(
            f"{spec.family}: {len(spec.widths)} widths: expected {len(names)} ({names[0]} to {names[-1]}), "
            f"or one more for {TAGS}"
        )
    spec.check_input(LEAST, LEAST)
    if quaternion:
        for layer, width in zip(("input", *names), (spec.input_shape[0], *spec.widths), strict=False):
            quaternions(width, f"{spec.family}: {layer}")
