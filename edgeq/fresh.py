"""An architecture with seeded random weights as a bundle: it can be exported and measured before it is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq import bundle, goldens
from edgeq.audio.frontend import PRESETS, FrontendSpec, with_derivatives
from edgeq.batches import batch_size, batches
from edgeq.bundle import Bundle
from edgeq.goldens import COUNT, Goldens
from edgeq.graph import quantize
from edgeq.nets import registry
from edgeq.nets.spec import ArchitectureSpec, NetworkSpec
from edgeq.progress import progress

if TYPE_CHECKING:
    from torch import nn

SEED = 0


def specs(name: str) -> tuple[ArchitectureSpec, FrontendSpec]:
    """A named architecture and the front end it is meant for; 4 components mean log-mel and its time derivatives.

    Raises InputError where there is no architecture of that name.
    """
    architecture = registry.preset(name)
    frontend = PRESETS[registry.frontend(name)]
    return architecture, with_derivatives(frontend) if architecture.input_shape[0] == 4 else frontend


def write(name: str, folder: Path, classes: int | None = None) -> Bundle:
    """Write the bundle of an untrained architecture: weights drawn from seed 0, ranges from seeded synthetic sounds.

    Its logits spread by 1, and no layer is without effect: a gate would see nothing of an error otherwise.
    Raises InputError where there is no architecture of that name, or the number of classes does not suit it.
    """
    import torch

    architecture, frontend = specs(name)
    if classes is not None:
        architecture = architecture.with_classes(classes)
    frontend = _normalised(frontend, name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = registry.build(architecture).eval()
    _enliven(network, next(_sounds(frontend, 16)))
    return write_network(
        folder,
        network,
        architecture,
        frontend,
        name=name,
        labels=[f"class_{number}" for number in range(architecture.classes)],
        provenance={"weights": f"random, seed {SEED}"},
        licence="Apache-2.0",
    )


def write_network(
    folder: Path,
    network: nn.Module,
    architecture: NetworkSpec,
    frontend: FrontendSpec,
    *,
    name: str,
    labels: Sequence[str],
    provenance: Mapping[str, Any],
    licence: str,
) -> Bundle:
    """Write the bundle of a network that was not trained here, in evaluation mode; ranges as in `write`.

    Its goldens gate INT8 on the SQNR of the logits: a network that decides nothing, or nothing about synthetic sounds,
    cannot agree on decisions. Raises InputError as `bundle.write` does.
    """
    from edgeq.nets import arrays

    ranges, answers = synthetic(network, architecture, frontend, name)
    return bundle.write(
        folder,
        name=name,
        architecture=architecture,
        frontend=frontend,
        labels=labels,
        weights=arrays.weights(network),
        ranges=ranges,
        goldens=answers,
        provenance=provenance,
        licence=licence,
    )


def synthetic(
    network: nn.Module, architecture: NetworkSpec, frontend: FrontendSpec, name: str
) -> tuple[quantize.Ranges, Goldens]:
    """Activation ranges of a network in evaluation mode, and goldens that gate on the SQNR, from synthetic sounds.

    name: what the bar that shows how far it is calls the network.
    """
    from edgeq.lowering.trace import lower
    from edgeq.nets import arrays

    graph = lower(network, architecture)
    outputs: list[np.ndarray] = []

    def observed() -> Iterator[np.ndarray]:
        """Windows to observe ranges on; the network's answers are noted as they pass.

        All of them, though long windows take seconds each: on ranges of 16 of the 64, QCNN14 at p = .75 clips so much
        of the others that its logits lose 5 dB.
        """
        with progress(f"{name}: ranges and goldens", COUNT) as advance:
            for sounds in _sounds(frontend, COUNT):
                for few in batches(sounds, keep=True):
                    yield np.moveaxis(few, 1, -1)
                outputs.extend(arrays.probabilities(network, architecture.output, sounds))
                advance(len(sounds))

    ranges = quantize.observe(graph, observed())
    return ranges, Goldens(np.arange(COUNT, dtype=np.int64), np.stack(outputs).astype(np.float32), goldens.SQNR)


def _sounds(frontend: FrontendSpec, count: int) -> Iterator[np.ndarray]:
    """Network inputs of the first `count` synthetic sounds, as many at a time as memory should hold."""
    step = batch_size(frontend.n_mels, frontend.window_frames)
    for start in range(0, count, step):
        yield goldens.inputs(range(start, min(start + step, count)), frontend)


def _normalised(frontend: FrontendSpec, name: str) -> FrontendSpec:
    """The front end with statistics of synthetic sounds, so that random weights see inputs of the usual size."""
    # All of short windows; of those that take seconds a few say enough.
    few = min(COUNT, 4 * batch_size(frontend.n_mels, frontend.window_frames))
    with progress(f"{name}: synthetic sounds", few) as advance:
        found = []
        for sounds in _sounds(frontend, few):
            found.append(sounds.astype(np.float64))
            advance(len(sounds))
    every = np.concatenate(found)
    return replace(
        frontend,
        mean=tuple(float(value) for value in every.mean((0, 2, 3))),
        std=tuple(float(value) for value in every.std((0, 2, 3))),
    )


def _enliven(network: nn.Module, sounds: np.ndarray) -> None:
    """Let every layer of a network in evaluation mode have an effect, and its logits spread by 1 over some sounds.

    Batch norm has no statistics yet, and through MobileNetV1's 27 layers a signal would fade to 1e-20. So each one
    divides by the root mean square of the whole map: one number, since channels that hold next to nothing would become
    as loud as the others, with all the rounding errors in them (MobileNetV2 in INT8: 8 dB instead of 30).
    Source: Mishkin and Matas 2016, All you need is a good init (layer-sequential unit variance).
    """
    import torch
    from torch import nn

    def keep_size(norm: nn.BatchNorm2d, inputs: tuple[torch.Tensor]) -> None:
        assert norm.running_var is not None
        norm.running_var.fill_(inputs[0].square().mean())

    # Batch norm of the mel bands, which is a class of its own, reads what the front end has normalised.
    norms = [module for module in network.modules() if type(module) is nn.BatchNorm2d]
    for norm in norms:
        # Residual branches may begin as nothing: 32 of QResNet38's layers would be left out.
        if not norm.weight.any():
            nn.init.ones_(norm.weight)
    *_, last = (module for module in network.modules() if next(module.parameters(recurse=False), None) is not None)
    hooks = [norm.register_forward_pre_hook(keep_size) for norm in norms]
    with torch.no_grad():
        spread = network(torch.from_numpy(sounds)).std()
        for parameter in last.parameters():  # a dense layer, or batch norm: logits are as large as its parameters
            parameter.div_(spread)
    for hook in hooks:
        hook.remove()
