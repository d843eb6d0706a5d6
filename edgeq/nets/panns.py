"""CNN14 and ResNet38 of PANNs, and their quaternion twins."""

from __future__ import annotations

from torch import Tensor, nn


class MelBatchNorm(nn.BatchNorm2d):
    """Batch norm of each mel band over clips, components and frames: statistics and affine are shared by components.

    Takes and gives (N, components, mels, frames); num_features is the number of mels.
    Source: PANNs (Kong et al. 2020), `bn0` of its networks.
    """

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.transpose(1, 2)).transpose(1, 2)
