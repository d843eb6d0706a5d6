"""An architecture with seeded random weights as a bundle: it can be exported and measured before it is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq import bundle, goldens
from edgeq.audio.frontend import PRESETS, FrontendSpec, with_derivatives
from edgeq.bundle import Bundle
from edgeq.graph import quantize
from edgeq.nets import registry
from edgeq.nets.spec import ArchitectureSpec

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

    Raises InputError where there is no architecture of that name, or the number of classes does not suit it.
    """
    import torch

    architecture, frontend = specs(name)
    if classes is not None:
        architecture = architecture.with_classes(classes)
    frontend = _normalised(frontend)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = registry.build(architecture).eval()
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
    architecture: ArchitectureSpec,
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
    from edgeq.lowering.trace import lower
    from edgeq.nets import arrays

    graph = lower(network, architecture)
    inputs = goldens.inputs(range(goldens.COUNT), frontend)
    predict = partial(arrays.probabilities, network, architecture.output)
    return bundle.write(
        folder,
        name=name,
        architecture=architecture,
        frontend=frontend,
        labels=labels,
        weights=arrays.weights(network),
        ranges=quantize.observe(graph, [np.moveaxis(inputs, 1, -1)]),
        goldens=goldens.choose(predict, frontend, decisive=False),
        provenance=provenance,
        licence=licence,
    )


def _normalised(frontend: FrontendSpec) -> FrontendSpec:
    """The front end with statistics of synthetic sounds, so that random weights see inputs of the usual size."""
    sounds = goldens.inputs(range(goldens.COUNT), frontend).astype(np.float64)
    return replace(
        frontend,
        mean=tuple(float(value) for value in sounds.mean((0, 2, 3))),
        std=tuple(float(value) for value in sounds.std((0, 2, 3))),
    )
