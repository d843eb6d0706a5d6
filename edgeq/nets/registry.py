"""Architectures by name: families that build a network from a spec, and presets that are specs ready to use.

Importing this module does not import torch; building a network does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from edgeq.errors import InputError
from edgeq.nets.spec import ArchitectureSpec

if TYPE_CHECKING:
    from torch import nn

MAX_PARAMETERS = 1_000_000_000
"""More than any audio classifier holds: a spec beyond it is a mistake, and would fill the memory before it fails."""


def build(spec: ArchitectureSpec) -> nn.Module:
    """Build a network with fresh weights, in training mode; it takes (N, components, mels, frames) and gives logits.

    Weights come from torch's global generator: seed it for a repeatable start.
    Raises InputError where the family is unknown, the widths do not suit it, or the network would be absurdly large.
    """
    import torch

    construct = FAMILIES.get(spec.family)
    if construct is None:
        raise InputError(f"architecture family {spec.family!r}: expected one of {', '.join(FAMILIES)}")
    try:
        with torch.device("meta"):
            parameters = sum(parameter.numel() for parameter in construct(spec).parameters())
    except RuntimeError:  # a tensor whose size overflows
        parameters = MAX_PARAMETERS + 1
    if parameters > MAX_PARAMETERS:
        raise InputError(
            f"{spec.family}: widths {spec.widths}: more than {MAX_PARAMETERS:,} parameters; make it narrower"
        )
    return construct(spec)


def preset(name: str) -> ArchitectureSpec:
    """The spec of a named architecture. Raises InputError where there is none of that name."""
    if name not in PRESETS:
        raise InputError(f"architecture {name!r}: expected one of {', '.join(PRESETS)}")
    return PRESETS[name]


def _dcase22(spec: ArchitectureSpec) -> nn.Module:
    from edgeq.nets.dcase import Dcase22

    return Dcase22(spec)


def _qdcase22(spec: ArchitectureSpec) -> nn.Module:
    from edgeq.nets.dcase import Dcase22

    return Dcase22(spec, quaternion=True)


def _cnn5(spec: ArchitectureSpec) -> nn.Module:
    from edgeq.nets.small import Cnn5

    return Cnn5(spec)


def _qcnn5(spec: ArchitectureSpec) -> nn.Module:
    from edgeq.nets.small import Cnn5

    return Cnn5(spec, quaternion=True)


FAMILIES: dict[str, Callable[[ArchitectureSpec], nn.Module]] = {
    "dcase22": _dcase22,
    "qdcase22": _qdcase22,
    "cnn5": _cnn5,
    "qcnn5": _qcnn5,
}

_DCASE, _EDGE = (40, 51), (64, 50)

PRESETS: dict[str, ArchitectureSpec] = {
    "dcase22": ArchitectureSpec("dcase22", (16, 16, 32, 100), 10, (1, *_DCASE)),
    "dcase22-c1": ArchitectureSpec("dcase22", (12, 16, 32, 100), 10, (1, *_DCASE)),
    "dcase22-c2": ArchitectureSpec("dcase22", (16, 12, 32, 100), 10, (1, *_DCASE)),
    "dcase22-c3": ArchitectureSpec("dcase22", (16, 16, 22, 100), 10, (1, *_DCASE)),
    "dcase22-c12": ArchitectureSpec("dcase22", (12, 12, 32, 100), 10, (1, *_DCASE)),
    "dcase22-c23": ArchitectureSpec("dcase22", (16, 12, 22, 100), 10, (1, *_DCASE)),
    "dcase22-c123": ArchitectureSpec("dcase22", (12, 12, 22, 100), 10, (1, *_DCASE)),
    "qdcase22": ArchitectureSpec("qdcase22", (16, 16, 32, 100), 10, (4, *_DCASE)),
    "tiny": ArchitectureSpec("cnn5", (16, 32, 48, 64, 96), 10, (1, *_EDGE)),
    "qtiny": ArchitectureSpec("qcnn5", (16, 32, 48, 64, 96), 10, (4, *_EDGE)),
    "qnano": ArchitectureSpec("qcnn5", (8, 16, 24, 32, 48), 10, (4, *_EDGE)),
}

FRONTENDS: dict[str, str] = {name: "dcase2022" if "dcase22" in name else "edge-32k" for name in PRESETS}
"""The front-end preset an architecture is meant for, with time derivatives where its input has 4 components."""
