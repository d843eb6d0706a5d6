"""What the numbers in the widths of PANNs' networks stand for; which layers are pruned, and to how many filters."""

from __future__ import annotations

CNN14 = (*(f"block{block}.conv{conv}" for block in range(1, 7) for conv in (1, 2)), "head.fc1")
"""The 12 convolutions, then the hidden dense layer: 13 numbers."""

RESNET38 = (
    "stem.conv1",
    *(f"layer{stage}" for stage in range(1, 5)),
    *(f"layer{stage}.{block}.conv1" for stage, blocks in enumerate((3, 4, 6, 3), 1) for block in range(blocks)),
    "after1.conv1",
    "after1.conv2",
    "head.fc1",
)
"""24 numbers. layer1 to layer4 are the streams that the blocks of a stage add to; stem.conv2 is as wide as the first,
since its shortcuts are identities. Then the inner width of each of the 16 basic blocks."""

TAGS = "head.tags"
"""An optional last number in either: a dense layer before the classifier, see `registry.with_transfer_head`."""

PRUNED = {
    "cnn14": CNN14[6:12],
    "qcnn14": CNN14[6:12],
    "resnet38": ("after1.conv1", "after1.conv2"),
    "qresnet38": ("after1.conv1", "after1.conv2"),
}
"""Layers that the quaternion paper narrows (supplement, Section III): CNN14's convolutions 7 to 12, and the two that
follow ResNet38's residual blocks."""

LAYERS = {"cnn14": CNN14, "qcnn14": CNN14, "resnet38": RESNET38, "qresnet38": RESNET38}
"""Names of a family's widths, in order."""


def narrowed(width: int, ratio: float) -> int:
    """How many of so many filters are left where this part of them goes: int(width * (1 - ratio)).

    Rounded first: 0.9 of 10 filters leaves 1, though 10 * (1 - 0.9) is a little less.
    """
    return int(round(width * (1 - ratio), 6))
