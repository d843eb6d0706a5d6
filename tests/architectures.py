"""Every architecture in a size that a test can build and run."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from edgeq.nets.registry import PRESETS, build
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


def lively(spec: ArchitectureSpec) -> nn.Module:
    """A network in evaluation mode that answers differently to different inputs, with no batch norm the identity.

    As drawn, the signal of a network of depthwise convolutions fades to 1e-12 and less, and its biases alone answer:
    here every batch norm divides by the root mean square of what it reads.
    """
    torch.manual_seed(1)
    network = liven(build(spec)).eval()
    hooks = [
        module.register_forward_pre_hook(_keep_size)
        for module in network.modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    with torch.no_grad():
        network(inputs(spec))
    for hook in hooks:
        hook.remove()
    return network


def inputs(spec: ArchitectureSpec) -> torch.Tensor:
    """Four windows of noise from soft to loud: means over whole maps tell them apart too."""
    noise = torch.randn(4, *spec.input_shape, generator=torch.Generator().manual_seed(2))
    return noise * torch.tensor([0.1, 0.5, 1.0, 2.0]).reshape(4, 1, 1, 1)


def _keep_size(norm: nn.BatchNorm2d, maps: tuple[torch.Tensor]) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    size = maps[0].square().mean().sqrt()
    norm.running_mean.mul_(size)
    norm.running_var.fill_(size.square())
