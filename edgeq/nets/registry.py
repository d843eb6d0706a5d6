"""Architectures by name: families that build a network from a spec, presets that are specs ready to use, pruned ones.

Importing this module does not import torch; building a network does.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from edgeq.errors import InputError, naming
from edgeq.nets.spec import ArchitectureSpec, EnsembleSpec, NetworkSpec
from edgeq.nets.widths import LAYERS, PRUNED, narrowed

if TYPE_CHECKING:
    from torch import nn

MAX_PARAMETERS = 1_000_000_000
"""More than any audio classifier holds: a spec beyond it is a mistake, and would fill the memory before it fails."""


def build(spec: NetworkSpec) -> nn.Module:
    """Build a network with fresh weights, in training mode; it takes (N, components, mels, frames) and gives logits.

    Weights come from torch's global generator: seed it for a repeatable start.
    Raises InputError where the family is unknown, the widths do not suit it, or the network would be absurdly large.
    """
    import torch

    for member in spec.members if isinstance(spec, EnsembleSpec) else (spec,):
        if member.family not in FAMILIES:
            raise InputError(f"architecture family {member.family!r}: expected one of {', '.join(FAMILIES)}")
    try:
        with torch.device("meta"):
            parameters = sum(parameter.numel() for parameter in _construct(spec).parameters())
    except RuntimeError:  # a tensor whose size overflows
        parameters = MAX_PARAMETERS + 1
    if parameters > MAX_PARAMETERS:
        raise InputError(
            f"{spec}: {spec.classes} classes, {spec.input_shape[0]} input components: "
            f"more than {MAX_PARAMETERS:,} parameters; make it smaller"
        )
    return _construct(spec)


def preset(name: str) -> ArchitectureSpec:
    """The spec of a named architecture; a suffix of two digits prunes it as the paper does: qcnn14-p50 is half.

    Raises InputError where there is none of that name, or it cannot be pruned so.
    """
    base, ratio = _parsed(name)
    if ratio is None:
        return PRESETS[base]
    with naming(name):
        return pruned(PRESETS[base], ratio)


def known(name: str) -> bool:
    """Whether a name is that of an architecture, pruned or not."""
    return name.removesuffix(_suffix(name)) in PRESETS


def suffix_hint(name: str) -> str:
    """What a pruned architecture's name is made of, where this one, which is none, looks meant as one; else nothing."""
    base, mark, _ = name.rpartition("-p")
    if not mark or base not in PRESETS:
        return ""
    return f"expected {base}-p and two digits, the percentage pruned from 01 to 99, as in {base}-p50"


def frontend(name: str) -> str:
    """The front-end preset that a named architecture is meant for. Raises InputError where there is no such name."""
    return FRONTENDS[_parsed(name)[0]]


def pruned(spec: ArchitectureSpec, ratio: float) -> ArchitectureSpec:
    """The spec with the layers narrowed that the quaternion paper prunes, each to int(width * (1 - ratio)) channels.

    ratio: from 0 up to but not including 1. Raises InputError where the family has no published pruning, the ratio is
    out of range, or a layer would be left with nothing, or with channels that are no whole number of quaternions.
    Source: quaternion paper, supplement, Section III.
    """
    if spec.family not in PRUNED:
        raise InputError(
            f"{spec.family}: no paper says which of its layers to prune; expected one of {', '.join(PRUNED)}"
        )
    if not 0 <= ratio < 1:
        raise InputError(f"{spec.family}: pruning ratio {ratio:g}: expected 0 or more and less than 1")
    widths = dict(zip(LAYERS[spec.family], spec.widths, strict=False))
    for layer in PRUNED[spec.family]:
        widths[layer] = narrowed(widths[layer], ratio)
        if widths[layer] == 0 or (widths[layer] % 4 and spec.family.startswith("q")):
            expected = "at least 1" if widths[layer] == 0 else "a multiple of 4, since a quaternion has 4 components"
            raise InputError(
                f"{spec.family}: {layer}: a pruning ratio of {ratio:g} leaves {widths[layer]} channels, expected "
                f"{expected}; the paper's ratios are 0.25, 0.5 and 0.75"
            )
    return replace(spec, widths=(*widths.values(), *spec.widths[len(widths) :]))


def with_transfer_head(spec: ArchitectureSpec, classes: int) -> ArchitectureSpec:
    """A PANNs network for another task with its own classifier kept: that becomes the hidden layer before a new one.

    The parameters of the quaternion paper's Table II come out with such a head: 2048 - 527 - classes. It is linear, as
    the paper does not say what stands between the two layers. The output is "softmax", one label a clip.
    Raises InputError where the family is not of PANNs, it has such a head already, or classes are fewer than 2.
    """
    if spec.family not in LAYERS:
        raise InputError(f"{spec.family}: has no transfer head; expected one of {', '.join(LAYERS)}")
    if len(spec.widths) > len(LAYERS[spec.family]):
        raise InputError(f"{spec.family}: has a transfer head already; give the spec without")
    return replace(spec, widths=(*spec.widths, spec.classes), classes=classes, output="softmax")


def _parsed(name: str) -> tuple[str, float | None]:
    """The preset that a name is made from, and the pruning ratio that its suffix asks for."""
    suffix = _suffix(name)
    base = name.removesuffix(suffix)
    if base not in PRESETS:
        expected = suffix_hint(name) or f"expected one of {', '.join(PRESETS)}"
        raise InputError(f"architecture {name!r:.100}: {expected}")
    return base, int(suffix[2:]) / 100 if suffix else None


def _suffix(name: str) -> str:
    found = re.search(r"-p(?!00)[0-9]{2}$", name)
    return found[0] if found else ""


def _construct(spec: NetworkSpec) -> nn.Module:
    if isinstance(spec, ArchitectureSpec):
        return FAMILIES[spec.family](spec)
    from edgeq.nets.ensemble import Ensemble

    return Ensemble(spec, [FAMILIES[member.family](member) for member in spec.members])


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


def _cnn14(spec: ArchitectureSpec) -> nn.Module:
    from edgeq.nets.panns import Cnn14

    return Cnn14(spec)


def _qcnn14(spec: ArchitectureSpec) -> nn.Module:
    from edgeq.nets.panns import Cnn14

    return Cnn14(spec, quaternion=True)


def _resnet38(spec: ArchitectureSpec) -> nn.Module:
    from edgeq.nets.panns import ResNet38

    return ResNet38(spec)


def _qresnet38(spec: ArchitectureSpec) -> nn.Module:
    from edgeq.nets.panns import ResNet38

    return ResNet38(spec, quaternion=True)


def _mobilenetv1(spec: ArchitectureSpec) -> nn.Module:
    from edgeq.nets.mobilenet import MobileNetV1

    return MobileNetV1(spec)


def _mobilenetv2(spec: ArchitectureSpec) -> nn.Module:
    from edgeq.nets.mobilenet import MobileNetV2

    return MobileNetV2(spec)


def _cpmobile(spec: ArchitectureSpec) -> nn.Module:
    from edgeq.nets.cpmobile import CpMobile

    return CpMobile(spec)


FAMILIES: dict[str, Callable[[ArchitectureSpec], nn.Module]] = {
    "dcase22": _dcase22,
    "qdcase22": _qdcase22,
    "cnn5": _cnn5,
    "qcnn5": _qcnn5,
    "cnn14": _cnn14,
    "qcnn14": _qcnn14,
    "resnet38": _resnet38,
    "qresnet38": _qresnet38,
    "mobilenetv1": _mobilenetv1,
    "mobilenetv2": _mobilenetv2,
    "cpmobile": _cpmobile,
}

_DCASE, _EDGE, _PANNS = (40, 51), (64, 50), (64, 1001)
_CNN14 = (64, 64, 128, 128, 256, 256, 512, 512, 1024, 1024, 2048, 2048, 2048)
_STREAMS, _INNER = (64, 128, 256, 512), (64,) * 3 + (128,) * 4 + (256,) * 6 + (512,) * 3
_RESNET38 = (64, *_STREAMS, *_INNER, 2048, 2048, 2048)
_MOBILENETV1 = (32, 64, 128, 128, 256, 256, *(512,) * 6, 1024, 1024, 1024)
_BOTTLENECKS = (16, 24, 32, 64, 96, 160, 320)
_EXPANDED = (96, 144, 144, *(192,) * 3, *(384,) * 4, *(576,) * 3, *(960,) * 3)
_MOBILENETV2 = (32, *_BOTTLENECKS, *_EXPANDED, 1280, 1024)
_TAGS = 527  # AudioSet's classes

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
    "cnn14": ArchitectureSpec("cnn14", _CNN14, _TAGS, (1, *_PANNS), "sigmoid"),
    "cnn14-4ch": ArchitectureSpec("cnn14", _CNN14, _TAGS, (4, *_PANNS), "sigmoid"),
    "qcnn14": ArchitectureSpec("qcnn14", _CNN14, _TAGS, (4, *_PANNS), "sigmoid"),
    "resnet38": ArchitectureSpec("resnet38", _RESNET38, _TAGS, (1, *_PANNS), "sigmoid"),
    "resnet38-4ch": ArchitectureSpec("resnet38", _RESNET38, _TAGS, (4, *_PANNS), "sigmoid"),
    "qresnet38": ArchitectureSpec("qresnet38", _RESNET38, _TAGS, (4, *_PANNS), "sigmoid"),
    "mobilenetv1": ArchitectureSpec("mobilenetv1", _MOBILENETV1, _TAGS, (1, *_PANNS), "sigmoid"),
    "mobilenetv2": ArchitectureSpec("mobilenetv2", _MOBILENETV2, _TAGS, (1, *_PANNS), "sigmoid"),
    "cpmobile": ArchitectureSpec("cpmobile", (8, 32, 56, 104, *(64,) * 4, *(120,) * 2), 10, (1, *_EDGE)),
}

_FRONTEND_OF_FAMILY = {
    **dict.fromkeys(("dcase22", "qdcase22"), "dcase2022"),
    **dict.fromkeys(("cnn5", "qcnn5", "cpmobile"), "edge-32k"),
    **dict.fromkeys(("cnn14", "qcnn14", "resnet38", "qresnet38", "mobilenetv1", "mobilenetv2"), "panns-32k"),
}

FRONTENDS: dict[str, str] = {name: _FRONTEND_OF_FAMILY[spec.family] for name, spec in PRESETS.items()}
"""The front-end preset an architecture is meant for, with time derivatives where its input has 4 components."""
