"""What an exported file says about itself, so that it can be used and checked away from its bundle."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq.audio.frontend import FrontendSpec
from edgeq.bundle import Bundle
from edgeq.decision import DecisionRule
from edgeq.errors import InputError


@dataclass(frozen=True)
class Embedded:
    """Labels in the order of the outputs, the front end whose features the file takes, and the rule for clips."""

    labels: tuple[str, ...]
    frontend: FrontendSpec
    decision: DecisionRule


def words(model: Bundle) -> dict[str, str]:
    """What the files of a bundle say, as metadata: what `read` needs, name and licence."""
    return {
        "name": model.name,
        "labels": json.dumps(list(model.labels)),
        "frontend": json.dumps(model.frontend.to_json(), sort_keys=True),
        "decision": json.dumps(model.decision.to_json(), sort_keys=True),
        "licence": model.licence,
    }


def read(metadata: Mapping[str, str], where: str | Path) -> Embedded:
    """Read the metadata of an .onnx or .tflite file, as a runtime that opened the file gives it.

    where: the file's name, for errors. Raises InputError where it does not say what it has to.
    """
    labels = _field(metadata, "labels", where, _labels)
    frontend = _field(metadata, "frontend", where, FrontendSpec.from_json)
    said = "decision" in metadata
    decision = _field(metadata, "decision", where, DecisionRule.from_json) if said else DecisionRule()
    return Embedded(labels, frontend, decision)


def _field(metadata: Mapping[str, str], key: str, where: str | Path, build: Callable[[Any], Any]) -> Any:
    try:
        return build(json.loads(metadata[key]))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{where}: its metadata has no valid {key}; give the bundle that it belongs to") from error


def _labels(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f"labels: found {type(value).__name__}, expected a list")
    return tuple(map(str, value))
