"""How fast CNN14, QCNN14 and QCNN14 in eight multiplications run on this machine in five runtimes, and what files cost.

    python benchmarks/lowering.py               # measures what lowering.json does not yet hold; about half an hour
    python benchmarks/lowering.py --only litert:1 --rounds 30     # measures that again
    python benchmarks/lowering.py --report      # only writes lowering.md and lowering.svg again

Whole networks, batch 1, one 10-s window. A runtime has a process of its own for each number of threads, where all
networks take turns in an order that changes from round to round: ratios are medians over rounds, so that a busy machine
disturbs both sides alike. Weights are random, batch norm has gains other than 1 and statistics of the input, so that
nothing is folded away. What is finished is kept in lowering.json at once.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lowering_report
import numpy as np
import torch
from lowering_worker import STYLES, files
from torch import nn

from edgeq import atomic, fresh, goldens
from edgeq.export.onnx import to_onnx
from edgeq.export.tflite import to_tflite
from edgeq.graph.ir import Graph
from edgeq.lowering.fast import DEPTHWISE, lower_fast, worthwhile
from edgeq.lowering.trace import lower
from edgeq.nets import registry

HERE = Path(__file__).resolve().parent
NETWORKS = ("cnn14-4ch", "qcnn14", "qcnn14-p50")
RUNTIMES = tuple(STYLES)
THREADS = (1, 2)
ROUNDS = 15
LOADS = 5
"""Processes that load each file once."""

SEED = 0
INPUT_SEED = 3
"""The synthetic sound that all networks hear."""


def main() -> None:
    parser = argparse.ArgumentParser(description="time the lowerings of the papers' networks")
    known = [f"{runtime}:{threads}" for runtime in RUNTIMES for threads in THREADS] + ["files"]
    parser.add_argument("--only", type=lambda names: names.split(","), help=f"some of {', '.join(known)}")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--report", action="store_true", help="measure nothing, write the page and the plot again")
    parser.add_argument("--folder", type=Path, default=HERE.parent / "build" / "lowering", help="for 2 GB of models")
    parser.add_argument("-o", "--output", type=Path, default=HERE / "lowering.json")
    arguments = parser.parse_args()
    if arguments.only and not set(arguments.only) <= set(known):
        parser.error(f"--only {','.join(arguments.only)}: expected some of {', '.join(known)}")
    results = json.loads(arguments.output.read_text()) if arguments.output.exists() else {"kind": "measured"}
    if not arguments.report:
        _build(arguments.folder)
        for name in arguments.only or known:
            if arguments.only or _lacks(results.get(name), arguments.rounds):
                results[name] = {**_measure(name, arguments), "date": datetime.now(UTC).date().isoformat()}
                atomic.write_text(arguments.output, json.dumps(results, indent=1) + "\n")
    page = lowering_report.page(results)
    atomic.write_text(arguments.output.with_suffix(".md"), page)
    lowering_report.plot(results, arguments.output.with_suffix(".svg"))
    print(page)


def _lacks(result: dict[str, Any] | None, rounds: int) -> bool:
    return result is None or result.get("rounds", rounds) < rounds


def _measure(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    if name == "files":
        return _file_costs(arguments.folder)
    runtime, threads = name.split(":")
    return _worker(["time", arguments.folder, runtime, threads, arguments.rounds], threads=threads)


def _file_costs(folder: Path) -> dict[str, Any]:
    """Bytes of each file of QCNN14, and what onnxruntime takes to load it: medians of processes that take turns."""
    paths = [*sorted((folder / "compact").glob("*.onnx")), *(files(folder, "onnxruntime")[name] for name in
             ("cnn14-4ch", "qcnn14-block", "qcnn14-fast"))]  # fmt: skip
    loads: dict[Path, list[dict[str, float]]] = {path: [] for path in paths}
    for number in range(LOADS):
        for path, costs in loads.items():
            costs.append(_worker(["load", folder, path], threads="1"))
        print(f"files: round {number + 1} of {LOADS}", file=sys.stderr)
    return {
        "rows": [
            {
                "file": path.stem.partition("+")[0],
                "bytes": path.stat().st_size,
                **{key: float(np.median([cost[key] for cost in costs])) for key in costs[0]},
            }
            for path, costs in sorted(loads.items())
        ]
    }


def _worker(arguments: list[Any], threads: str) -> Any:
    script = HERE / "lowering_worker.py"
    environment = {"OMP_NUM_THREADS": threads}
    done = subprocess.run(
        [sys.executable, script, *map(str, arguments)], stdout=subprocess.PIPE, check=True,
        env={**os.environ, **environment},
    )  # fmt: skip
    return json.loads(done.stdout)


def _build(folder: Path) -> None:
    """Write every network's files to `folder`, once; equal versions of edgeq and torch write equal files."""
    if (folder / "finished").exists():
        return
    with atomic.folder(folder) as beside:
        (beside / "compact").mkdir()
        _, frontend = fresh.specs(NETWORKS[0])
        x = goldens.inputs([INPUT_SEED], frontend)
        np.save(beside / "input.npy", x)
        for name in NETWORKS:
            print(f"building {name}", file=sys.stderr)
            _build_network(beside, name, x)
        (beside / "finished").touch()


def _build_network(folder: Path, name: str, x: np.ndarray) -> None:
    spec, _ = fresh.specs(name)
    network = lively(registry.build, spec, torch.from_numpy(x))
    with torch.inference_mode():
        np.save(folder / f"{name}.logits.npy", network(torch.from_numpy(x)).numpy())
    graph = lower(network, spec)
    layers = worthwhile(graph)
    if not layers:
        _write(folder / name, graph)
        return
    _write(folder / f"{name}-block", graph)
    (folder / "compact" / f"{name}-block-compact.onnx").write_bytes(to_onnx(graph, compact=True))
    for style in sorted(set(STYLES.values())):
        _write(folder / f"{name}-fast+{style}", lower_fast(graph, layers, style))
    compact = to_onnx(lower_fast(graph, layers, DEPTHWISE), compact=True)
    (folder / "compact" / f"{name}-fast-compact.onnx").write_bytes(compact)


def _write(stem: Path, graph: Graph) -> None:
    # Names may hold dots: with_suffix would cut them.
    stem.with_name(f"{stem.name}.onnx").write_bytes(to_onnx(graph))
    stem.with_name(f"{stem.name}.tflite").write_bytes(to_tflite(graph))


def lively(build: Callable[[Any], nn.Module], spec: Any, x: torch.Tensor) -> nn.Module:
    """A seeded network with batch norms as after training: gains of both signs, statistics of what it hears."""
    torch.manual_seed(SEED)
    network = build(spec).eval()
    with torch.inference_mode(), torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.weight[::5] *= -1
                module.bias.uniform_(-0.2, 0.2)
                module.train().momentum = 1.0
        network(x)
        network.eval()
        *_, last = (module for module in network.modules() if isinstance(module, nn.Linear))
        spread = network(x).std()
        last.weight /= spread
    return network


if __name__ == "__main__":
    main()
