"""What runs in a process of its own, here or on another machine: `python -m edgeq.bench.worker`.

One JSON job comes on stdin, on one line; JSON lines go to stdout and nothing else does: {"progress": [done, total]}
from time to time, and last {"result": {...}}, or {"error": "one line"} where the job cannot be done.

A job:
    models    1 or 2 of {"path": bundle folder or file, "stage", "runtime", "inputs"}; two take turns, A B B A. path: to
              files of the machine that the worker runs on. stage, runtime: null is what `runtime.choose_stage` takes.
              inputs: a .npy file, float32 (n, components, mels, frames); null: seeded synthetic sounds
    threads   of the runtime
    batch     windows a call
    seconds   how long calls are timed, all models together
    runs      so many timed calls a model instead (where two take turns at least so many), or null
    affinity  processors that it may run on, [0, 1], or null
    seed      of synthetic sounds and noise
    energy    a meter's name, "auto" for the best that the machine has, or null

A result:
    models      for each {"runtime", "stage", "version", "input_shape", "classes", "int8", "load_ms",
                "memory_bytes" or null, "nanoseconds": [one a timed call, in order], "per_turn": calls of a turn,
                "warm_up": calls before, "frontend_nanoseconds": [one a window] or null, "window_hop_seconds" or null,
                "energy": {"joules", "seconds", "source", "measured"} of one window, or null; joules: null where the
                sensor could not tell, or is not yet to be read: source then says why}
    machine     what `machine.describe` says
    conditions  {"before", "after"}: what `machine.conditions` says around the timed calls
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from edgeq.audio.frontend import FrontendSpec
    from edgeq.bench.energy import Meter
    from edgeq.runtime import Runtime

Job = Mapping[str, Any]
Tell = Callable[[Mapping[str, Any]], None]

_WINDOWS = 8
"""Inputs that calls go through in turn."""

_MOST_BYTES = 1 << 26
"""Of all inputs together: of large batches there are fewer."""

_TURN_NANOSECONDS = 5_000_000
"""A turn lasts about so long, or one call: what one model leaves in the caches troubles the other's first calls."""

_MOST_PER_TURN = 20
_LEAST_TURNS = 3
_SETTLED = 5
_MOST_WARM_UP = 100
_STABLE = 0.05
_IDLE_SECONDS = 3.0
_WARM_UP_SHARE = 0.3
_FRONTEND_SHARE = 0.1
_LEAST_FRONTENDS = 5

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
    from edgeq.errors import InputError

    try:
        tell({"result": measure(job, tell)})
    except InputError as error:
        tell({"error": str(error)})


def measure(job: Job, tell: Tell) -> dict[str, Any]:
    """The result of a job. Raises InputError where a model cannot be opened or run, or a processor is not there."""
    from edgeq import machine

    if job["affinity"] is not None:
        _bind(job["affinity"])
    opening = [_in_a_child(partial(_opening, asked, job)) for asked in job["models"]]
    models = [_Model(asked, job) for asked in job["models"]]
    gpu = any(model.on_gpu for model in models)
    meter = _meter(job["energy"], gpu)
    for model in models:
        model.warm_up(_WARM_UP_SHARE * job["seconds"])
    per_turn = [_per_turn(model.usual) if len(models) > 1 else 1 for model in models]
    frontends = [model.frontend_nanoseconds(job["seconds"] * _FRONTEND_SHARE) for model in models]
    before = machine.conditions()
    _time(models, per_turn, job, tell)
    after = machine.conditions()
    return {
        "models": [
            {
                **model.describe(),
                **opened,
                "nanoseconds": model.nanoseconds,
                "per_turn": calls,
                "warm_up": model.warmed,
                "frontend_nanoseconds": frontend,
                "energy": model.energy(meter, job),
            }
            for model, opened, calls, frontend in zip(models, opening, per_turn, frontends, strict=True)
        ],
        "machine": {**machine.describe(), **({"gpus": machine.gpus()} if gpu else {})},
        "conditions": {"before": before, "after": after},
    }


class _Model:
    """A model ready to be timed, its inputs, and the times of its calls."""

    def __init__(self, asked: Mapping[str, Any], job: Job) -> None:
        from edgeq import runtime as runtimes

        self._stage, self._ready = _open(asked, job)
        self._spec = _frontend(asked["path"], self._ready)
        self._batches = _inputs(asked["inputs"], self._ready, self._spec, job)
        self._calls = 0
        self.nanoseconds: list[int] = []
        self.warmed = 0
        self.usual = 0.0
        self.on_gpu = self._ready.name in runtimes.GPU_RUNTIMES

    def call(self) -> int:
        """Nanoseconds of one call, on the next of the inputs."""
        features, predict = self._batches[self._calls % len(self._batches)], self._ready.predict
        self._calls += 1
        begin = time.perf_counter_ns()
        predict(features)
        return time.perf_counter_ns() - begin

    def warm_up(self, seconds: float) -> None:
        """Call until the times stay (the median of five calls is that of the five before) or so much time has gone."""
        import numpy as np

        end = time.monotonic() + seconds
        times = [self.call()]
        while len(times) < _MOST_WARM_UP and time.monotonic() < end:
            times.append(self.call())
            last, before = times[-_SETTLED:], times[-2 * _SETTLED : -_SETTLED]
            if len(times) % _SETTLED == 0 and before and abs(np.median(last) / np.median(before) - 1) < _STABLE:
                break
        self.warmed, self.usual = len(times), float(np.median(times[-_SETTLED:]))

    def describe(self) -> dict[str, Any]:
        ready = self._ready
        return {
            "runtime": ready.name,
            "stage": self._stage,
            "version": _version(ready.name),
            "input_shape": list(ready.input_shape),
            "classes": ready.classes,
            "int8": ready.int8,
            "window_hop_seconds": None if self._spec is None else self._spec.window_hop_seconds,
        }

    def frontend_nanoseconds(self, seconds: float) -> list[int] | None:
        """Of each window: taking the samples since the last one, and giving features."""
        return None if self._spec is None else list(_frontend_times(self._spec, seconds))

    def energy(self, meter: Meter | None, job: Job) -> dict[str, Any] | None:
        """Joules of one window, above what the machine draws when idle, where there is a meter."""
        if meter is None:
            return _closed(self.on_gpu) if job["energy"] == "auto" else None
        from edgeq.bench import energy

        def run() -> int:
            end, windows = time.monotonic() + job["seconds"], 0
            while time.monotonic() < end:
                self.call()
                windows += job["batch"]
            return windows

        reading = energy.per_inference(meter, run, _IDLE_SECONDS)
        return {
            "joules": reading.joules,
            "seconds": reading.seconds,
            "source": reading.source,
            "measured": reading.measured,
        }


def _time(models: Sequence[_Model], per_turn: Sequence[int], job: Job, tell: Tell) -> None:
    """Time calls in turns, A B B A, until the time is up or the runs are done; per_turn: calls of each model's."""
    order = list(zip(models, per_turn, strict=True))
    seconds, runs = job["seconds"], job["runs"]
    begin, told, turns = time.monotonic(), 0.0, 0
    gc.collect()
    gc.disable()
    try:
        while True:
            spent = time.monotonic() - begin
            done, total = (turns * min(per_turn), runs) if runs is not None else (spent, seconds)
            ended = done >= total and (runs is not None or turns >= _LEAST_TURNS)
            if ended or spent - told > 1:
                tell({"progress": [min(done, total), total]})
                told = spent
            if ended:
                return
            for model, calls in order if turns % 2 == 0 else reversed(order):
                model.nanoseconds += [model.call() for _ in range(calls)]
            turns += 1
    finally:
        gc.enable()


def _meter(name: str | None, gpu: bool) -> Meter | None:
    if name is None:
        return None
    from edgeq.bench import energy

    return energy.meter(None if name == "auto" else name, "gpu" if gpu else "cpu")


def _closed(gpu: bool) -> dict[str, Any] | None:
    """Of a sensor that is there and not yet to be read: what opens it, in the place of a reading."""
    from edgeq.bench import energy

    told = energy.closed("gpu" if gpu else "cpu")
    return None if told is None else {"joules": None, "seconds": 0.0, "source": told, "measured": True}


def _per_turn(usual: float) -> int:
    """Calls of a turn of a model whose calls usually take so many nanoseconds."""
    return max(1, min(_MOST_PER_TURN, round(_TURN_NANOSECONDS / usual)))


def _bind(processors: Sequence[int]) -> None:
    from edgeq.errors import InputError

    if not hasattr(os, "sched_setaffinity"):
        raise InputError(f"affinity {_listed(processors)}: this system cannot bind processes; leave it out")
    there = os.sched_getaffinity(0)
    if not processors or not set(processors) <= there:
        raise InputError(f"affinity {_listed(processors)}: expected some of the processors {_listed(sorted(there))}")
    os.sched_setaffinity(0, processors)


def _listed(processors: Sequence[int]) -> str:
    return ",".join(map(str, processors))


def _in_a_child(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a copy of this process finds: a second model would be opened where the first one has left its memory.

    Raises InputError as the work did there, or where the copy died.
    """
    from edgeq.errors import InputError

    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            found: dict[str, Any] = work()
        except InputError as error:
            found = {"error": str(error)}
        except BaseException as error:
            found = {"error": f"{type(error).__name__}: {error}"}
        with suppress(OSError):
            os.write(writing, json.dumps(found).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if not said:
        raise InputError(
            f"the process that opened the model died ({os.waitstatus_to_exitcode(status)}): out of memory?"
        )
    answer: dict[str, Any] = json.loads(said)
    if "error" in answer:
        raise InputError(answer["error"])
    return answer


def _opening(asked: Mapping[str, Any], job: Job) -> dict[str, Any]:
    """Time and memory to make a model ready and call it once, above what its runtime's packages take by themselves."""
    import numpy as np

    _import_packages(asked, job)
    before = _memory(reset=True)
    begin = time.perf_counter()
    _, ready = _open(asked, job)
    seconds = time.perf_counter() - begin
    ready.predict(np.zeros((job["batch"], *ready.input_shape), np.float32))
    after = _memory()
    return {
        "load_ms": 1e3 * seconds,
        "memory_bytes": None if before is None or after is None else max(0, after - before),
    }


def _memory(reset: bool = False) -> int | None:
    """Peak resident bytes of this process; reset: the peak begins again at what is resident now. Linux only."""
    try:
        if reset:
            with open("/proc/self/clear_refs", "w") as handle:  # noqa: PTH123
                handle.write("5")
        with open("/proc/self/status") as handle:  # noqa: PTH123
            return next(int(line.split()[1]) * 1024 for line in handle if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return None


def _import_packages(asked: Mapping[str, Any], job: Job) -> None:
    """Import what opening and calling the model imports: torch brings some only then, in seconds."""
    from edgeq import runtime as runtimes
    from edgeq.runtime import onnx_runtime

    _, name = runtimes.form(asked["path"], asked["stage"], asked["runtime"])
    if name.startswith("onnxruntime"):  # brings all at once, and TensorRT takes minutes to open a model
        onnx_runtime.load()
        return
    for module in _in_a_child(partial(_imports, asked, job))["modules"]:
        with suppress(Exception):  # not every module's name can be imported
            importlib.import_module(module)


def _imports(asked: Mapping[str, Any], job: Job) -> dict[str, Any]:
    """The modules that opening and calling a model adds, in order."""
    import numpy as np

    before = set(sys.modules)
    _, ready = _open(asked, job)
    ready.predict(np.zeros((job["batch"], *ready.input_shape), np.float32))
    return {"modules": [name for name in sys.modules if name not in before]}


def _open(asked: Mapping[str, Any], job: Job) -> tuple[str, Runtime]:
    """The stage that was chosen, and the model ready to run; whether a single .tflite file is INT8 it says itself."""
    from edgeq import runtime as runtimes

    stage, name = runtimes.form(asked["path"], asked["stage"], asked["runtime"])
    ready = runtimes.open(asked["path"], asked["stage"], name, job["threads"])
    return "tflite-int8" if stage == "tflite" and ready.int8 else stage, ready


def _frontend(path: str, ready: Runtime) -> FrontendSpec | None:
    """Of a bundle, or of a file that says what it is; None of others."""
    from edgeq import bundle
    from edgeq.errors import InputError
    from edgeq.runtime import embedded

    if os.path.isdir(path):  # noqa: PTH112
        return bundle.read(path).frontend
    try:
        spec = embedded.read(ready.metadata, path).frontend
    except InputError:
        return None
    return spec if spec.input_shape == ready.input_shape else None


def _inputs(file: str | None, ready: Runtime, spec: FrontendSpec | None, job: Job) -> list[np.ndarray]:
    """Batches that calls go through in turn: of real windows, of synthetic sounds, or of noise without a front end."""
    import numpy as np

    from edgeq import goldens
    from edgeq.errors import InputError
    from edgeq.runtime.face import check_features

    if file is not None:
        windows = np.load(file, allow_pickle=False)
        check_features(windows, ready.input_shape)
        if not len(windows):
            raise InputError(f"{file}: holds no windows, expected at least one")
    elif spec is not None:
        windows = goldens.inputs(range(job["seed"], job["seed"] + _WINDOWS), spec)
    else:
        noise = np.random.default_rng(job["seed"])
        windows = noise.standard_normal((_WINDOWS, *ready.input_shape), np.float32)
    batch, bytes_each = job["batch"], windows[:1].nbytes
    count = max(1, min(len(windows), _MOST_BYTES // (batch * bytes_each)))
    return [np.take(windows, np.arange(first, first + batch), axis=0, mode="wrap") for first in range(count)]


def _frontend_times(spec: FrontendSpec, seconds: float) -> Iterator[int]:
    """Nanoseconds of one window after another, on noise; the first takes more and is left out."""
    import numpy as np

    from edgeq.audio.frontend import features
    from edgeq.audio.stream import WindowStream

    hop = round(spec.window_hop_seconds * spec.sample_rate)
    samples = np.random.default_rng(0).normal(0, 0.1, hop).astype(np.float32)
    stream = WindowStream(spec)
    stream.push(np.resize(samples, spec.window_samples))
    end, found, spent = time.monotonic() + seconds, 0, 0
    while found < _LEAST_FRONTENDS or time.monotonic() < end:
        begin = time.perf_counter_ns()
        windows = features(stream.push(samples), spec)
        spent += time.perf_counter_ns() - begin
        if len(windows):
            yield spent // len(windows)
            found, spent = found + 1, 0


def _version(runtime: str) -> str | None:
    if runtime not in PACKAGES:
        return None
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(PACKAGES[runtime][0])
    return None


if __name__ == "__main__":
    main()
