"""The DCASE 2022 low-complexity CNN and its quaternion twin."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgeq.errors import InputError
from edgeq.nets.quaternion import QuaternionConv2d, QuaternionLinear, quaternions
from edgeq.nets.spec import ArchitectureSpec


class Dcase22(nn.Module):
    """Three 3 x 3 convolutions with bias and batch norm, tanh / ReLU / tanh, two average pools, two dense layers.

    spec.widths: (conv 1, conv 2, conv 3, hidden). Takes (N, components, mels, frames), gives logits (N, classes).
    quaternion: the convolutions and the hidden layer are quaternion layers, the last layer stays real. Flattening
    keeps channels outermost, so the hidden layer's input is component-major as quaternion layers expect.
    Raises InputError where the widths are not four, a quaternion width is not a multiple of 4, or the input is
    smaller than the pools (20 mels, 50 frames).
    Source: Singh and Plumbley, low-complexity CNNs for DCASE 2022 Task 1; layer facts from its published TFLite files.
    """

    def __init__(self, spec: ArchitectureSpec, quaternion: bool = False) -> None:
        super().__init__()
        channels, mels, frames = spec.input_shape
        _check(spec, quaternion)
        c1, c2, c3, hidden = spec.widths
        conv = QuaternionConv2d if quaternion else nn.Conv2d
        self.conv1 = conv(channels, c1, 3, padding=1, bias=True)
        self.bn1 = nn.BatchNorm2d(c1)
        self.conv2 = conv(c1, c2, 3, padding=1, bias=True)
        self.bn2 = nn.BatchNorm2d(c2)
        self.pool1 = nn.AvgPool2d(5)
        self.conv3 = conv(c2, c3, 3, padding=1, bias=True)
        self.bn3 = nn.BatchNorm2d(c3)
        self.pool2 = nn.AvgPool2d((4, 10))
        flat = c3 * (mels // 5 // 4) * (frames // 5 // 10)
        self.hidden = QuaternionLinear(flat, hidden) if quaternion else nn.Linear(flat, hidden)
        self.classifier = nn.Linear(hidden, spec.classes)
        for module in self.modules():
            # The published network is a Keras one: Glorot uniform weights and zero biases are its defaults.
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.xavier_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.bn1(self.conv1(x)))
        x = self.pool1(torch.relu(self.bn2(self.conv2(x))))
        x = self.pool2(torch.tanh(self.bn3(self.conv3(x))))
        x = torch.tanh(self.hidden(x.flatten(1)))
        return self.classifier(x)


def _check(spec: ArchitectureSpec, quaternion: bool) -> None:
    if len(spec.widths) != 4:
        raise InputError(f"{spec.family}: widths {spec.widths}: expected four (conv 1, conv 2, conv 3, hidden)")
    spec.check_input(20, 50)
    if quaternion:
        for layer, width in zip(
            ("input", "conv1", "conv2", "conv3", "hidden"), (spec.input_shape[0], *spec.widths), strict=True
        ):
            quaternions(width, f"{spec.family}: {layer}")
