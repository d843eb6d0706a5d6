"""What a model costs before it runs anywhere: layers, parameters, MACs, and whether a budget is kept."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from edgeq import budget as budgets
from edgeq import fresh, zoo
from edgeq.audio.frontend import FrontendSpec
from edgeq.errors import InputError, naming
from edgeq.graph import cost
from edgeq.graph.ir import Graph
from edgeq.nets import registry
from edgeq.nets.spec import NetworkSpec


def inspect(
    model: str,
    *,
    classes: int | None = None,
    prune_ratio: float | None = None,
    in_channels: int | None = None,
    clip_seconds: float | None = None,
    budget: str | None = None,
) -> dict[str, Any]:
    """Count a model, with the contract's keys.

    model: zoo name, bundle folder, architecture name, or an .onnx or .tflite file. classes, in_channels, clip_seconds:
    count the architecture with another number of outputs or input components, or on a window of another length.
    prune_ratio: count a named architecture pruned as the quaternion paper does.
    Raises InputError where there is no such model, or it cannot be built that way.
    """
    changes = {
        "--classes": classes,
        "--prune-ratio": prune_ratio,
        "--in-channels": in_channels,
        "--clip-seconds": clip_seconds,
    }
    if Path(model).suffix in (".onnx", ".tflite") and Path(model).is_file():
        given = [name for name, value in changes.items() if value is not None]
        if given:
            raise InputError(f"{model}: {', '.join(given)} can change an architecture, not a file")
        report = _inspect_file(Path(model))
    else:
        report = _inspect_architecture(model, classes, prune_ratio, in_channels, clip_seconds)
    if budget:
        rule = budgets.find(budget)
        reasons = rule.judge(report["parameters"]["lowered"], report["macs"]["network"])
        report["budget"] = {"name": rule.name, "ok": not reasons, "reasons": reasons}
    return report


def _inspect_architecture(
    model: str,
    classes: int | None,
    prune_ratio: float | None,
    in_channels: int | None,
    clip_seconds: float | None,
) -> dict[str, Any]:
    from edgeq.nets.count import count

    architecture: NetworkSpec
    if zoo.is_architecture(model):
        named, frontend = fresh.specs(model)
        architecture = named
        if prune_ratio is not None:
            if model not in registry.PRESETS:
                raise InputError(
                    f"{model}: is pruned already; leave out --prune-ratio, or give the name without suffix"
                )
            with naming(model):
                architecture = registry.pruned(named, prune_ratio)
    else:
        opened = zoo.find(model)
        if prune_ratio is not None:
            raise InputError(
                f"{model}: --prune-ratio counts an architecture pruned, and this model has weights; "
                "give an architecture, as in: edgeq inspect qcnn14 --prune-ratio 0.5"
            )
        model, architecture, frontend = opened.name, opened.architecture, opened.frontend
    architecture, frontend = _changed(architecture, frontend, classes, in_channels, clip_seconds)
    with naming(model):
        counted = count(architecture, frontend)
    return {
        "name": model,
        "parameters": counted.parameters,
        "macs": counted.macs,
        "macs_per_second": round(counted.macs["network"] / frontend.window_hop_seconds),
        "layers": counted.layers,
    }


def _changed(
    architecture: NetworkSpec,
    frontend: FrontendSpec,
    classes: int | None,
    in_channels: int | None,
    clip_seconds: float | None,
) -> tuple[NetworkSpec, FrontendSpec]:
    if classes is not None:
        architecture = architecture.with_classes(classes)
    if clip_seconds is not None:
        if not (math.isfinite(clip_seconds) and clip_seconds > 0):
            raise InputError(f"--clip-seconds {clip_seconds}: expected more than 0")
        frontend = replace(frontend, window_seconds=clip_seconds, window_hop_seconds=clip_seconds)
    components, mels, _ = architecture.input_shape
    shape = (components if in_channels is None else in_channels, mels, frontend.window_frames)
    return architecture.with_input_shape(shape), frontend


def _inspect_file(path: Path) -> dict[str, Any]:
    graph = _graph(path)
    layers = cost.layers(graph)
    held = sum(layer.parameters for layer in layers)
    return {
        "name": path.name,
        # A file holds real operators only: how it was trained can't be told from it.
        "parameters": {
            "trainable": None, "with_statistics": None, "with_frontend": None, "stored": held, "lowered": held,
        },
        "macs": {"network": sum(layer.macs for layer in layers), "frontend": None},
        "macs_per_second": None,
        "layers": [{**asdict(layer), "output_shape": list(layer.output_shape)} for layer in layers],
    }  # fmt: skip


def _graph(path: Path) -> Graph:
    if path.suffix == ".tflite":
        from edgeq.graph import from_tflite

        return from_tflite.read(path)
    from edgeq.graph import from_onnx  # onnx comes with the extra `export`; a .tflite file needs none

    return from_onnx.read(path)
