"""What there is to start from: the zoo's trained models, and the architectures."""

from __future__ import annotations

import importlib.util
from typing import Any

from edgeq import fresh, zoo
from edgeq.bundle import Bundle
from edgeq.errors import InputError
from edgeq.manifest import MANIFEST
from edgeq.nets import registry

ACCURACY = ("mean", "low", "high", "seeds")
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
                **{key: _number(model, key, model.metrics.get(key)) for key in COUNTS},
                "accuracy": _accuracy(model),
                "int8_bytes": model.files[int8].bytes if int8 else None,
            }
        )
    return rows


def _accuracy(model: Bundle) -> Any:
    found = model.metrics.get("accuracy")
    if not isinstance(found, dict):
        return _number(model, "accuracy", found)
    return {key: _number(model, f"accuracy.{key}", found.get(key, "missing")) for key in ACCURACY}


def _number(model: Bundle, key: str, value: Any) -> Any:
    if value is not None and type(value) not in (int, float):
        place = model.folder / MANIFEST
        raise InputError(f"{place}: metrics: {key} is {value!r:.100}, expected a number; write the bundle again")
    return value


def _architectures() -> list[dict[str, Any]]:
    if not importlib.util.find_spec("torch"):
        return [{"name": name, "kind": "architecture", **dict.fromkeys(COUNTS)} for name in registry.PRESETS]
    from edgeq.nets.count import totals

    return [{"name": name, "kind": "architecture", **totals(*fresh.specs(name))} for name in registry.PRESETS]
