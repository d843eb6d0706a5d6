"""What runs in a process of its own for benchmarks/lowering.py: a runtime timed over all networks, or a file loaded.

python benchmarks/lowering_worker.py time FOLDER RUNTIME THREADS ROUNDS     # one JSON value on stdout
python benchmarks/lowering_worker.py load FOLDER FILE
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import random
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgeq import machine

Predict = Callable[[np.ndarray], np.ndarray]

STYLES = {
    "onnxruntime": "depthwise",
    "litert": "sub",
    "openvino": "sub",
    "torch": "sub",
    "torch-compile": "sub",
}
"""How each runtime likes the sums and differences of the fast form said, see edgeq.lowering.fast.STYLES."""

PACKAGES = {"litert": "ai-edge-litert", "torch-compile": "torch"}
REPEATS = 3
"""Inferences of a network in its turn; a turn counts as their median."""

WARM_UP = 3


def main() -> None:
    what, *arguments = sys.argv[1:]
    if what == "load":
        result = _load_cost(*map(Path, arguments))
    else:
        folder, runtime, threads, rounds = arguments
        result = _timed(Path(folder), runtime, int(threads), int(rounds))
    print(json.dumps(result))


def _timed(folder: Path, runtime: str, threads: int, rounds: int) -> dict[str, Any]:
    """Every network in every round, in an order that changes, so that a busy machine disturbs all of them alike."""
    x = np.load(folder / "input.npy")
    networks = {name: open_(runtime, file, threads) for name, file in files(folder, runtime).items()}
    outputs = {name: predict(x) for name, predict in networks.items()}
    for predict in networks.values():
        for _ in range(WARM_UP):
            predict(x)
    load = os.getloadavg()[0]
    turns: dict[str, list[tuple[float, float]]] = {name: [] for name in networks}
    order = list(networks)
    for number in range(rounds):
        random.Random(number).shuffle(order)
        for name in order:
            turns[name].append(_turn(networks[name], x))
        print(f"{runtime}, {threads} thread(s): round {number + 1} of {rounds}", file=sys.stderr)
    return {
        "runtime": runtime,
        "version": importlib.metadata.version(PACKAGES.get(runtime, runtime)),
        "threads": threads,
        "rounds": rounds,
        "repeats": REPEATS,
        "load_average": [round(load, 2), round(os.getloadavg()[0], 2)],
        "machine": machine.describe(),
        "wall_ms": {name: [1e3 * wall for wall, _ in seconds] for name, seconds in turns.items()},
        "cpu_ms": {name: [1e3 * cpu for _, cpu in seconds] for name, seconds in turns.items()},
        "relative_l2": _differences(outputs, folder),
    }


def _turn(predict: Predict, x: np.ndarray) -> tuple[float, float]:
    """Median seconds of an inference, by the clock and of the process's threads together."""
    walls, cpus = [], []
    for _ in range(REPEATS):
        wall, cpu = time.perf_counter(), time.process_time()
        predict(x)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return float(np.median(walls)), float(np.median(cpus))


def _differences(outputs: dict[str, np.ndarray], folder: Path) -> dict[str, dict[str, float]]:
    """Relative L2 distance of each network's logits to those of torch, and of the fast form's to the block form's."""
    found: dict[str, dict[str, float]] = {}
    for name, output in outputs.items():
        network = name.removesuffix("-block").removesuffix("-fast")
        found[name] = {"network": _relative(_logits(output), np.load(folder / f"{network}.logits.npy"))}
        if name.endswith("-fast"):
            found[name]["block"] = _relative(output, outputs[f"{network}-block"])
    return found


def _relative(found: np.ndarray, expected: np.ndarray) -> float:
    exact = expected.astype(np.float64)
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def _logits(probabilities: np.ndarray) -> np.ndarray:
    p = probabilities.astype(np.float64)
    return np.log(p) - np.log1p(-p)


def files(folder: Path, runtime: str) -> dict[str, Path]:
    """The file of each network that a runtime is timed with."""
    suffix = ".onnx" if runtime in ("onnxruntime", "openvino") else ".tflite"
    found = {}
    for path in sorted(folder.glob(f"*{suffix}")):
        name, _, style = path.stem.partition("+")
        if style in ("", STYLES[runtime]):
            found[name] = path
    return found


def open_(runtime: str, path: Path, threads: int) -> Predict:
    """A model ready to run: float32 (1, components, mels, frames) to probabilities (1, classes)."""
    if runtime in ("onnxruntime", "litert"):
        from edgeq import runtime as runtimes

        return runtimes.open(path, runtime=runtime, threads=threads).predict
    return {"openvino": _openvino, "torch": _torch, "torch-compile": _torch_compiled}[runtime](path, threads)


def _openvino(path: Path, threads: int) -> Predict:
    """In float32: on a processor with bfloat16 units OpenVINO would round to that of itself."""
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    model.reshape([1, *[size.get_length() for size in list(model.input(0).partial_shape)[1:]]])
    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": "f32"}  # fmt: skip
    compiled = core.compile_model(model, "CPU", settings)
    request = compiled.create_infer_request()
    return lambda x: np.array(request.infer([x])[0])


def _torch(path: Path, threads: int) -> Predict:
    import torch

    module = _module(path, threads).to(memory_format=torch.channels_last)

    def predict(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return module(torch.from_numpy(x).contiguous(memory_format=torch.channels_last)).numpy()

    return predict


def _torch_compiled(path: Path, threads: int) -> Predict:
    """Inductor with frozen constants, which lets it lay weights out once."""
    import torch
    import torch._inductor.config

    torch._inductor.config.freezing = True
    torch._dynamo.config.cache_size_limit = 64
    module = torch.compile(_module(path, threads))

    def predict(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return module(torch.from_numpy(x)).numpy()

    return predict


def _module(path: Path, threads: int) -> Any:
    import torch

    from edgeq.graph import from_tflite
    from edgeq.runtime.torch_graph import GraphModule

    torch.set_num_threads(threads)
    return GraphModule(from_tflite.read(path)).eval()


def _load_cost(folder: Path, path: Path) -> dict[str, float]:
    """What onnxruntime takes to make a file ready, above what the interpreter and the packages take by themselves."""
    from edgeq import runtime as runtimes
    from edgeq.runtime import onnx_runtime

    onnx_runtime.load()
    before = _peak_mb()
    wall, cpu = time.perf_counter(), time.process_time()
    ready = runtimes.open(path, runtime="onnxruntime")
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak, resident = _peak_mb(), _resident_mb()
    x = np.load(folder / "input.npy")
    seconds = sorted(_turn(ready.predict, x)[1] for _ in range(4))
    return {
        "load_s": wall,
        "load_cpu_s": cpu,
        "load_peak_mb": peak - before,
        "resident_mb": resident - before,
        "run_cpu_ms": 1e3 * seconds[0],
    }


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


if __name__ == "__main__":
    main()
