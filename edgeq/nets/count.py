"""What a network costs: parameters counted the five ways that papers, files and budgets mean, and true MACs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from edgeq.errors import InputError
from edgeq.nets.quaternion import QuaternionConv2d, QuaternionLinear
from edgeq.nets.registry import build
from edgeq.nets.spec import InputTooSmall, NetworkSpec

if TYPE_CHECKING:
    from edgeq.audio.spec import FrontendSpec

CONVOLUTIONS = (nn.Conv2d, QuaternionConv2d)
DENSE = (nn.Linear, QuaternionLinear)
QUATERNION = (QuaternionConv2d, QuaternionLinear)


@dataclass(frozen=True)
class Count:
    """Totals and layers, ready for JSON.

    parameters: trainable; with_statistics (batch norm's moving mean and variance too: Keras's way and the DCASE
    paper's); with_frontend (trainable plus the frozen STFT and mel matrices: the quaternion paper's way); stored (batch
    norm folded, each quaternion component once); lowered (the same with real block kernels: what runs).
    macs: one inference on one window. network: convolutions and dense layers with real channels, exact.
    frontend: an estimate, see `frontend_macs`.
    layers: dicts of name, op (the layer's class), output_shape (channels, mels, frames, or features),
    parameters (with_statistics), macs.
    """

    parameters: dict[str, int]
    macs: dict[str, int]
    layers: list[dict[str, Any]]


def count(spec: NetworkSpec, frontend: FrontendSpec) -> Count:
    """Count what a network of this spec costs behind this front end; no weights are made.

    Raises InputError where the spec cannot be built, a layer has no counting rule, or the front end gives another
    number of mels than the network takes.
    """
    if frontend.n_mels != spec.input_shape[1]:
        raise InputError(f"{spec.family}: takes {spec.input_shape[1]} mels, but the front end gives {frontend.n_mels}")
    try:
        with torch.device("meta"):
            network = build(spec).eval()
    except InputTooSmall as error:
        seconds = (error.least_frames - int(frontend.end_frame)) * frontend.hop_length / frontend.sample_rate
        raise InputError(f"{error}; {error.least_frames} frames are {seconds:g} s with this front end") from error
    layers = _measure(network, spec)
    trainable = sum(parameter.numel() for parameter in network.parameters())
    bins = frontend.n_fft // 2 + 1
    parameters = {
        "trainable": trainable,
        "with_statistics": sum(layer.parameters for layer in layers),
        "with_frontend": trainable + 2 * bins * frontend.n_fft + bins * frontend.n_mels,
        "stored": sum(layer.stored for layer in layers),
        "lowered": sum(layer.lowered for layer in layers),
    }
    macs = {"network": sum(layer.macs for layer in layers), "frontend": frontend_macs(spec, frontend)}
    return Count(parameters, macs, [layer.to_json() for layer in layers])


def totals(spec: NetworkSpec, frontend: FrontendSpec) -> dict[str, int]:
    """The scalars that bundles and `edgeq models` carry.

    parameters (with_statistics), stored, lowered; macs of one inference; macs_per_second of audio, at the front end's
    window hop. Raises InputError as `count` does.
    """
    counted = count(spec, frontend)
    return {
        "parameters": counted.parameters["with_statistics"],
        "stored": counted.parameters["stored"],
        "lowered": counted.parameters["lowered"],
        "macs": counted.macs["network"],
        "macs_per_second": round(counted.macs["network"] / frontend.window_hop_seconds),
    }


def frontend_macs(spec: NetworkSpec, frontend: FrontendSpec) -> int:
    """Estimated multiplications of the front end for one window, by the cheap way that a device would take.

    A frame: the window; a real FFT, n log2 n (half of a radix-2 complex one); power, 2 a bin; mel filters, at most 2 a
    bin since only neighbours overlap. Then derivatives and normalisation of every cell; derivatives "power-frequency"
    are of every bin instead, and go through the mel filters too. Logarithms and square roots are not counted. Frames
    are the network window's own, without what overlaps with the window before.
    Source: operation counts of the radix-2 FFT.
    """
    components, mels, frames = spec.input_shape
    bins = frontend.n_fft // 2 + 1
    of_bins = frontend.derivatives == "power-frequency"
    power = frontend.win_length + frontend.n_fft * math.ceil(math.log2(frontend.n_fft)) + 2 * bins
    filters = 2 * bins * (components if of_bins else 1)
    derivatives = (components - 1) * frontend.derivative_width * (bins if of_bins else mels)
    return frames * (power + filters + derivatives + mels * components)


@dataclass(frozen=True)
class _Layer:
    name: str
    op: str
    output_shape: tuple[int, ...]
    parameters: int
    stored: int
    lowered: int
    macs: int

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "op": self.op,
            "output_shape": list(self.output_shape),
            "parameters": self.parameters,
            "macs": self.macs,
        }


def _measure(network: nn.Module, spec: NetworkSpec) -> list[_Layer]:
    """Run the network on shapes alone and count each layer as it is called."""
    layers: list[_Layer] = []
    # Outputs of convolutions, pooled or not: a batch norm that reads one of them is folded into the convolution.
    convolved: list[Tensor] = []

    def called(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            folded = any(inputs[0] is tensor for tensor in convolved)
            layers.append(_layer(f"{spec.family}: {name}", name, module, output, folded))
            if isinstance(module, CONVOLUTIONS) or (folded and isinstance(module, nn.AvgPool2d)):
                convolved.append(output)

        return hook

    for name, module in network.named_modules():
        if not list(module.children()) and not isinstance(module, (nn.Dropout, nn.Identity)):
            module.register_forward_hook(called(name))
    with torch.no_grad():
        network(torch.empty(1, *spec.input_shape, device="meta"))
    return layers


def _layer(where: str, name: str, module: nn.Module, output: Tensor, folded: bool) -> _Layer:
    shape = tuple(output.shape[1:])
    own = sum(parameter.numel() for parameter in module.parameters())
    stored = lowered = macs = 0
    if isinstance(module, CONVOLUTIONS + DENSE):
        kernel = module.weight.numel()
        block = kernel * 4 if isinstance(module, QUATERNION) else kernel
        # Every lowered layer has a bias: batch norm folds into it.
        stored, lowered = kernel + shape[0], block + shape[0]
        macs = block * math.prod(shape[1:])
    elif isinstance(module, nn.BatchNorm2d):
        own += 2 * module.num_features
        stored = lowered = 0 if folded else 2 * module.num_features
    elif own:
        raise InputError(f"{where} ({type(module).__name__}): no rule for counting its parameters")
    return _Layer(name, type(module).__name__, shape, own, stored, lowered, macs)
