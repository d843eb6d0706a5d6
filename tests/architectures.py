"""Every architecture in a size that a test can build and run."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from edgeq.nets.registry import PRESETS
from edgeq.nets.spec import ArchitectureSpec


def small(name: str) -> ArchitectureSpec:
    """A preset as it is, or, where it takes ten seconds of sound, a sixteenth as wide on 33 mels x 70 frames."""
    spec = PRESETS[name]
    components, _, frames = spec.input_shape
    if frames < 1000:
        return spec
    widths = tuple(max(4, width // 16) for width in spec.widths)
    return replace(spec, widths=widths, classes=7, input_shape=(components, 33, 70))


def liven(network: nn.Module) -> nn.Module:
    """Draw every batch norm's statistics and affine from torch's generator: none is 0, and none the identity."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
            assert module.running_mean is not None and module.running_var is not None
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network
