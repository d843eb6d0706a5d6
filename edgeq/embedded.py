"""What an exported file says about itself, so that it can be used and checked away from its bundle."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq.audio.frontend import FrontendSpec
from edgeq.decision import DecisionRule
from edgeq.errors import InputError


@dataclass(frozen=True)
class Embedded:
    """Labels in the order of the outputs, the front end whose features the file takes, and the rule for clips."""

    labels: tuple[str, ...]
    frontend: FrontendSpec
    decision: DecisionRule


def read(content: bytes, where: str | Path) -> Embedded:
    """Read the metadata of an .onnx or .tflite file.

    content: the file; where: its name, for errors. Raises InputError where it is no such file, or says nothing.
    """
    words = _words(content, str(where))
    labels = _field(words, "labels", where, lambda value: tuple(map(str, value)) if isinstance(value, list) else None)
    frontend = _field(words, "frontend", where, FrontendSpec.from_json)
    decision = _field(words, "decision", where, DecisionRule.from_json) if "decision" in words else DecisionRule()
    return Embedded(labels, frontend, decision)


def _words(content: bytes, where: str) -> Mapping[str, str]:
    if content[4:8] == b"TFL3":
        from edgeq.graph import from_tflite

        try:
            return from_tflite.read(content).metadata
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
    from edgeq.runtime.onnx_runtime import OnnxRuntime

    return OnnxRuntime(content, where, 1).metadata


def _field(words: Mapping[str, str], key: str, where: str | Path, build: Callable[[Any], Any]) -> Any:
    try:
        value = build(json.loads(words[key]))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{where}: its metadata has no valid {key}; give the bundle that it belongs to") from error
    if value is None:
        raise InputError(f"{where}: its metadata has no valid {key}; give the bundle that it belongs to")
    return value
