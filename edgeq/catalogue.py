"""What there is to start from: the zoo's trained models, and the architectures."""

from __future__ import annotations

import importlib.util
from typing import Any

from edgeq import bundle, fresh
from edgeq.nets import registry


def listing() -> list[dict[str, Any]]:
    """One row a zoo model and one an architecture, with the contract's keys.

    Counting needs torch; where it is not installed the counts that the zoo's bundles carry are given, and
    architectures are listed without.
    """
    return [*_zoo(), *_architectures()]


def _zoo() -> list[dict[str, Any]]:
    rows = []
    for model in bundle.zoo():
        int8 = model.exports.get("tflite-int8")
        rows.append(
            {
                "name": model.name,
                "kind": "zoo",
                **{key: model.metrics.get(key) for key in ("parameters", "stored", "lowered", "macs")},
                "macs_per_second": model.metrics.get("macs_per_second"),
                "accuracy": model.metrics.get("accuracy"),
                "int8_bytes": model.files[int8].bytes if int8 else None,
            }
        )
    return rows


def _architectures() -> list[dict[str, Any]]:
    rows = []
    for name in registry.PRESETS:
        row: dict[str, Any] = {"name": name, "kind": "architecture"}
        row |= counts(name) if importlib.util.find_spec("torch") else dict.fromkeys(_COUNTS)
        rows.append(row)
    return rows


_COUNTS = ("parameters", "stored", "lowered", "macs", "macs_per_second")


def counts(name: str) -> dict[str, int]:
    from edgeq.nets.count import count

    architecture, frontend = fresh.specs(name)
    counted = count(architecture, frontend)
    parameters, macs = counted.parameters, counted.macs["network"]
    values = (
        parameters["with_statistics"],
        parameters["stored"],
        parameters["lowered"],
        macs,
        round(macs / frontend.window_hop_seconds),
    )
    return dict(zip(_COUNTS, values, strict=True))
