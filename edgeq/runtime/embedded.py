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
from edgeq.errors import InputError, naming


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


def read(content: bytes, where: str | Path) -> Embedded:
    """Read the metadata of an .onnx or .tflite file.

    content: the file; where: its name, for errors. Raises InputError where it is no such file, or says nothing.
    """
    found = _metadata(content, str(where))
    labels = _field(found, "labels", where, _labels)
    frontend = _field(found, "frontend", where, FrontendSpec.from_json)
    decision = _field(found, "decision", where, DecisionRule.from_json) if "decision" in found else DecisionRule()
    return Embedded(labels, frontend, decision)


def _metadata(content: bytes, where: str) -> Mapping[str, str]:
    if content[4:8] == b"TFL3":
        from edgeq.graph import from_tflite

        with naming(where):
            return from_tflite.read(content).metadata
    from edgeq.runtime.onnx_runtime import OnnxRuntime

    return OnnxRuntime(content, where, 1).metadata


def _field(metadata: Mapping[str, str], key: str, where: str | Path, build: Callable[[Any], Any]) -> Any:
    try:
        return build(json.loads(metadata[key]))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{where}: its metadata has no valid {key}; give the bundle that it belongs to") from error


def _labels(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f"labels: found {type(value).__name__}, expected a list")
    return tuple(map(str, value))
