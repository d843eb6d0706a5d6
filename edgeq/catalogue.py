"""What there is to start from: the zoo's trained models, and the architectures."""

from __future__ import annotations

import importlib.util
from typing import Any

from edgeq import fresh, zoo
from edgeq.nets import registry

COUNTS = ("parameters", "stored", "lowered", "macs", "macs_per_second")


def listing() -> list[dict[str, Any]]:
    """One row a zoo model and one an architecture, with the contract's keys.

    Counting needs torch; where it is not installed the counts that the zoo's bundles carry are given, and
    architectures are listed without.
    """
    return [*_zoo(), *_architectures()]


def _zoo() -> list[dict[str, Any]]:
    rows = []
    for model in zoo.models():
        int8 = model.exports.get("tflite-int8")
        rows.append(
            {
                "name": model.name,
                "kind": "zoo",
                **{key: model.metrics.get(key) for key in COUNTS},
                "accuracy": model.metrics.get("accuracy"),
                "int8_bytes": model.files[int8].bytes if int8 else None,
            }
        )
    return rows


def _architectures() -> list[dict[str, Any]]:
    if not importlib.util.find_spec("torch"):
        return [{"name": name, "kind": "architecture", **dict.fromkeys(COUNTS)} for name in registry.PRESETS]
    from edgeq.nets.count import totals

    return [{"name": name, "kind": "architecture", **totals(*fresh.specs(name))} for name in registry.PRESETS]
