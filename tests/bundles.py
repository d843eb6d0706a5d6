"""Small bundles with random weights, for tests that need one whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgeq import bundle, goldens
from edgeq.audio.frontend import FrontendSpec, with_derivatives
from edgeq.bundle import Bundle, Ranges
from edgeq.cortexm.project import project
from edgeq.decision import DecisionRule
from edgeq.export.onnx import to_onnx
from edgeq.export.tflite import to_tflite
from edgeq.goldens import Goldens
from edgeq.graph import from_tflite, quantize
from edgeq.graph.ir import Graph
from edgeq.lowering.trace import lower
from edgeq.nets import registry
from edgeq.nets.spec import ArchitectureSpec

FRONTEND = FrontendSpec(
    sample_rate=8000, n_fft=256, win_length=256, hop_length=160, n_mels=16, fmin=50.0, fmax=4000.0,
    floor=1e-6, floor_rule="add", mean=(-20.0,), std=(15.0,), gate=-55.0,
)  # fmt: skip
"""50 frames a second of 16 mels: a window is 16 x 50."""

QUATERNION_FRONTEND = replace(with_derivatives(FRONTEND), mean=(-20.0, 0.0, 0.0, 0.0), std=(15.0, 2.0, 1.0, 1.0))

LABELS = ("bark", "chirp", "hum", "knock")


def plain(folder: Path, **changes: Any) -> Bundle:
    """A valid bundle whose weights belong to no network: for tests of the folder itself."""
    fields: dict[str, Any] = {
        "name": "small",
        "architecture": ArchitectureSpec("cnn5", (4, 4, 4, 4, 8), len(LABELS), FRONTEND.input_shape),
        "frontend": FRONTEND,
        "labels": LABELS,
        "weights": {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b.bias": np.ones(2, np.float32)},
        "ranges": {"input": (-1.0, 2.0), "conv_1": (0.0, 3.5)},
        "exports": {"onnx": b"not really onnx", "tflite-int8": b"not really tflite"},
        "provenance": {"recipe": "none", "seed": 3},
        "licence": "CC0-1.0",
        "metrics": {"accuracy": {"mean": 0.5, "low": 0.4, "high": 0.6, "seeds": 3}},
    }
    return bundle.write(folder, **{**fields, **changes})


def manifest_of(opened: Bundle) -> Mapping[str, Any]:
    return json.loads((opened.folder / "bundle.json").read_text())


@cache
def sounds(quaternion: bool = False) -> np.ndarray:
    """Network inputs of the synthetic sounds 0 to 191."""
    return goldens.inputs(range(192), QUATERNION_FRONTEND if quaternion else FRONTEND)


@cache
def network(quaternion: bool = False, decisive: bool = True) -> tuple[nn.Module, ArchitectureSpec]:
    """A small network with seeded weights and lively batch norms; a decisive one has its last layer sharpened."""
    inputs = torch.from_numpy(sounds(quaternion))
    spec = ArchitectureSpec("qcnn5" if quaternion else "cnn5", (4, 8, 8, 8, 16), len(LABELS), tuple(inputs.shape[1:]))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        built = registry.build(spec)
        for module in built.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.weight[::3] *= -1
                module.bias.uniform_(-0.2, 0.2)
        for batch in inputs.split(64) * 3:  # the statistics of what the tests will hear
            built(batch)
        logits = built.eval()(inputs)
        head = [module for module in built.modules() if isinstance(module, nn.Linear)][-1]
        if decisive:
            scale = 5.0 / logits.std(dim=0)
            head.weight *= scale[:, None]
            head.bias.copy_((head.bias - logits.mean(dim=0)) * scale)
    return built, spec


@cache
def graphs(quaternion: bool = False, decisive: bool = True) -> tuple[Graph, Graph, Ranges]:
    """The network lowered, quantized, and the ranges that quantized it."""
    built, spec = network(quaternion, decisive)
    frontend = QUATERNION_FRONTEND if quaternion else FRONTEND
    metadata = {"labels": json.dumps(LABELS), "frontend": json.dumps(frontend.to_json(), sort_keys=True)}
    graph = replace(lower(built, spec), metadata=metadata)
    ranges = quantize.observe(graph, [np.moveaxis(sounds(quaternion), 1, -1)])
    return graph, quantize.quantize(graph, ranges), ranges


def files(graph: Graph, quantized: Graph) -> dict[str, bytes]:
    """Every export, by edgeq's own exporters."""
    return {
        "onnx": to_onnx(graph),
        "onnx-int8": to_onnx(quantized),
        "tflite": to_tflite(graph),
        "tflite-int8": to_tflite(quantized),
    }


def c_files(quantized: Graph, quaternion: bool = False) -> dict[str, bytes]:
    """The C of the INT8 file that `files` has."""
    spec = QUATERNION_FRONTEND if quaternion else FRONTEND
    return project(from_tflite.read(to_tflite(quantized)), "small", LABELS, spec, DecisionRule()).files


def exported(folder: Path, quaternion: bool = False, decisive: bool = True, **changes: Any) -> Bundle:
    """A bundle of a small network with all its exports; where it is not decisive its goldens gate on the SQNR."""
    built, spec = network(quaternion, decisive)
    graph, quantized, ranges = graphs(quaternion, decisive)
    with torch.inference_mode():
        outputs = built(torch.from_numpy(sounds(quaternion))).softmax(dim=1).numpy()
    margins = np.diff(np.sort(outputs, axis=1)[:, -2:])[:, 0]
    seeds = np.flatnonzero(margins >= (goldens.LEAST_MARGIN if decisive else 0))[: goldens.COUNT]
    fields: dict[str, Any] = {
        "name": "small",
        "architecture": spec,
        "frontend": QUATERNION_FRONTEND if quaternion else FRONTEND,
        "labels": LABELS,
        "weights": {key: value.numpy() for key, value in built.state_dict().items() if value.dtype == torch.float32},
        "ranges": ranges,
        "goldens": Goldens(seeds, outputs[seeds], goldens.TOP1 if decisive else goldens.SQNR),
        "exports": files(graph, quantized),
    }
    return bundle.write(folder, **{**fields, **changes})
