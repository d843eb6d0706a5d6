"""What runs in a process of its own, here or on another machine: `python -m edgeq.bench.worker`.

One JSON job comes on stdin, on one line; JSON lines go to stdout and nothing else does: {"progress": [done, total]}
from time to time, and last {"result": {...}}, or {"error": "one line"} where the job cannot be done.

A job:
    models       1 or 2 of {"path": bundle folder or file, "stage", "runtime", "inputs"}; two take turns, A B B A. path:
                 to files of the machine that the worker runs on. stage, runtime: null is what `runtime.choose_stage`
                 takes. inputs: a .npy file, float32 (n, components, mels, frames); null: seeded synthetic sounds
    precision    that float stages are computed in, of `runtime.PRECISIONS`, or null
    cuda_graphs  whether calls on a GPU are replays of recorded graphs
    threads      of the runtime
    batch        windows a call
    seconds      how long calls are timed, all models together
    runs         so many timed calls a model instead (where two take turns at least so many), or null
    affinity     processors that it may run on, [0, 1], or null
    seed         of synthetic sounds and noise
    energy       a meter's name, "auto" for the best that the machine has, or null

A result:
    models      for each {"runtime", "stage", "version", "input_shape", "classes", "int8", "load_ms",
                "memory_bytes" or null, "nanoseconds": [one a timed call, in order], "per_turn": calls of a turn,
                "warm_up": calls before, "frontend_nanoseconds": [one a window] or null, "window_hop_seconds" or null,
                "parity": {"top1_agreement", "max_abs_error", "windows"} of another precision than float32 against that,
                or null, "energy": {"joules", "seconds", "source", "measured"} of one window, or null; joules: null
                where the sensor could not tell, or is not yet to be read: source then says why}
    machine     what `machine.describe` says
    conditions  {"before", "after"}: what `machine.conditions` says around the timed calls
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

Job = Mapping[str, Any]
Tell = Callable[[Mapping[str, Any]], None]

PACKAGES = {
    "onnxruntime": ("onnxruntime", "onnxruntime"),
    "litert": ("ai-edge-litert", "ai_edge_litert.interpreter"),
    "litert-reference": ("ai-edge-litert", "ai_edge_litert.interpreter"),
    "tflite-runtime": ("tflite-runtime", "tflite_runtime.interpreter"),
    "torch": ("torch", "torch"),
    "openvino": ("openvino", "openvino"),
    "onnxruntime-cuda": ("onnxruntime-gpu", "onnxruntime"),
    "onnxruntime-tensorrt": ("onnxruntime-gpu", "onnxruntime"),
    "torch-cuda": ("torch", "torch"),
}
"""Distribution and module of a runtime; C has none."""


def main() -> None:
    """Do the job on stdin."""
    # Whatever libraries print goes to stderr: stdout is the protocol's.
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(line: Mapping[str, Any]) -> None:
        print(json.dumps(line), file=lines, flush=True)

    job = json.loads(sys.stdin.readline())
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(job["threads"])  # read as NumPy is loaded, which the front end uses
    if job["precision"] in (None, "float32"):
        os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")  # TensorRT has no other switch for it here
    from edgeq.bench import timing
    from edgeq.errors import InputError

    try:
        tell({"result": timing.measure(job, tell)})
    except InputError as error:
        tell({"error": str(error)})


if __name__ == "__main__":
    main()
