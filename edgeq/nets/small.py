"""The small family: five convolutions and a mean-and-max head, real or quaternion."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgeq.errors import InputError
from edgeq.nets.maximum import maximum
from edgeq.nets.quaternion import QuaternionConv2d, quaternion_he_normal_, quaternions
from edgeq.nets.spec import ArchitectureSpec

CONVOLUTIONS = 5


class Cnn5(nn.Module):
    """Five times [3 x 3 convolution without bias, batch norm, ReLU], a 2 x 2 average pool after the first four.

    spec.widths: the five convolutions'. Head: mean over mels, then mean plus maximum over time, dropout, a real dense
    layer. Takes (N, components, mels, frames) with any number of frames from 16 up, gives logits (N, classes).
    quaternion: the convolutions are quaternion layers, drawn by He's rule on the real fan-in, with which the
    family's accuracies were measured, rather than by the layers' own polar initialisation.
    Raises InputError where the widths are not five, a quaternion width is not a multiple of 4, or the input is
    smaller than the pools (16 x 16).
    Source: the head is that of PANNs' CNN14 (Kong et al. 2020).
    """

    def __init__(self, spec: ArchitectureSpec, quaternion: bool = False) -> None:
        super().__init__()
        _check(spec, quaternion)
        channels = (spec.input_shape[0], *spec.widths)
        conv = QuaternionConv2d if quaternion else nn.Conv2d
        self.convs = nn.ModuleList(
            conv(channels[n], channels[n + 1], 3, padding=1, bias=False) for n in range(CONVOLUTIONS)
        )
        self.bns = nn.ModuleList(nn.BatchNorm2d(width) for width in spec.widths)
        self.pool = nn.AvgPool2d(2)
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(channels[-1], spec.classes)
        for module in self.convs:
            if isinstance(module, QuaternionConv2d):
                quaternion_he_normal_(module.weight)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        for n, (conv, bn) in enumerate(zip(self.convs, self.bns, strict=True)):
            x = torch.relu(bn(conv(x)))
            if n < CONVOLUTIONS - 1:
                x = self.pool(x)
        x = x.mean(dim=2)
        x = x.mean(dim=2) + maximum(x, dim=2)
        return self.classifier(self.dropout(x))


def _check(spec: ArchitectureSpec, quaternion: bool) -> None:
    if len(spec.widths) != CONVOLUTIONS:
        raise InputError(f"{spec.family}: widths {spec.widths}: expected five, one a convolution")
    spec.check_input(16, 16)
    if quaternion:
        layers = ("input", *(f"convs.{n}" for n in range(CONVOLUTIONS)))
        for layer, width in zip(layers, (spec.input_shape[0], *spec.widths), strict=True):
            quaternions(width, f"{spec.family}: {layer}")
