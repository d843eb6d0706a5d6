"""What `edgeq bench` itself adds to a model of about a millisecond, and what it makes of a model beside itself.

    python benchmarks/harness.py [MODEL [STAGE]]      # writes harness.json; half a minute, on a quiet machine

Two questions, each asked of onnxruntime and LiteRT on one thread:
- how much longer a timed `predict` takes than the runtime alone, called in turns with it: checks, copies and
  conversions (aim: below 2 % of a model of 1 ms). An INT8 file takes codes and gives codes, so whoever runs it makes
  and reads some: for such a file the call that does so in NumPy's shortest way is timed too, as the third in the
  turns, and `codes_us` is what that takes beyond the runtime alone. The overhead that counts is beyond that; both are
  printed and kept;
- what `edgeq bench MODEL --compare MODEL` says (aim: 1.00 +- 0.03).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgeq import goldens, machine, zoo
from edgeq import runtime as runtimes
from edgeq.bench import run
from edgeq.bench.compare import measured
from edgeq.bench.computer import Settings

RESULT = Path(__file__).with_suffix(".json")
MODEL = "esc10-dcase22-ensemble"
FORMS = (("onnx", "onnxruntime"), ("tflite", "litert"), ("tflite-int8", "litert"))
TURNS, PER_TURN, WARM_UP = 400, 3, 50
SECONDS = 5.0


def main(model: str = MODEL, *stages: str) -> None:
    forms = [form for form in FORMS if not stages or form[0] in stages]
    before = machine.conditions()
    found = {
        "model": model,
        "machine": machine.describe(),
        "overhead": [_overhead(model, stage, name) for stage, name in forms],
        "against_itself": [_against_itself(model, stage, name) for stage, name in forms],
    }
    found["warnings"] = machine.disturbances(before, machine.conditions(), machine.describe()["cores"] or 1)
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    for one in found["overhead"]:
        codes = f", of which codes {one['codes_us']:+.1f} us" if "codes_us" in one else ""
        longer = one["overhead_us"] + one.get("codes_us", 0)
        print(
            f"{one['stage']}: predict {one['predict_ms']:.4f} ms, {one['runtime']} alone {one['alone_ms']:.4f} ms: "
            f"{longer:+.1f} us{codes}; overhead {one['overhead_us'] / 1e3:+.2%} of 1 ms "
            f"({one['ratio']['low'] - 1:+.2%} to {one['ratio']['high'] - 1:+.2%} of this model)"
        )
    for one in found["against_itself"]:
        print(f"{one['stage']}: against itself {one['ratio']:.4f} ({one['low']:.4f} to {one['high']:.4f})")
    for warning in found["warnings"]:
        print(f"! {warning}", file=sys.stderr)


def _overhead(model: str, stage: str, name: str) -> dict[str, Any]:
    """Times of `predict` and of the runtime's own calls on the same eight inputs, in turns forth and back."""
    opened = zoo.find(model)
    ready = runtimes.open(opened, stage, name)
    windows = goldens.inputs(range(8), opened.frontend)
    inputs = [windows[index : index + 1] for index in range(len(windows))]
    calls = [ready.predict, *_alone(ready, stage)]
    times: list[list[int]] = [[] for _ in calls]
    for call in calls:
        for number in range(WARM_UP):
            call(inputs[number % len(inputs)])
    for turn in range(TURNS):
        for which in range(len(calls)) if turn % 2 == 0 else reversed(range(len(calls))):
            for number in range(PER_TURN):
                begin = time.perf_counter_ns()
                calls[which](inputs[(turn * PER_TURN + number) % len(inputs)])
                times[which].append(time.perf_counter_ns() - begin)
    per_turn = PER_TURN, PER_TURN
    ratio = measured(times[0], times[-1], per_turn, "alone")  # beyond codes, where there are any
    medians = [float(np.median(one)) for one in times]
    codes = {}
    if len(calls) > 2:
        codes["codes_us"] = (measured(times[2], times[1], per_turn, "alone").ratio - 1) * medians[1] / 1e3
    return {
        "stage": stage,
        "runtime": name,
        "predict_ms": medians[0] / 1e6,
        "alone_ms": medians[1] / 1e6,
        "overhead_us": (ratio.ratio - 1) * medians[-1] / 1e3,
        **codes,
        "ratio": {"median": ratio.ratio, "low": ratio.low, "high": ratio.high, "pairs": ratio.pairs},
    }


def _alone(ready: Any, stage: str) -> list[Callable[[np.ndarray], Any]]:
    """The runtime's own call, without a check; of an INT8 file with codes made before, and then one that makes them."""
    if stage.startswith("onnx"):
        session, name = ready._session, ready._input
        return [lambda features: session.run(None, {name: features})]
    interpreter, given, taken = ready._interpreter, ready._input["index"], ready._output["index"]
    made = np.zeros(ready._input["shape"], ready._input["dtype"])

    def invoke(codes: np.ndarray) -> Any:
        interpreter.set_tensor(given, codes)
        interpreter.invoke()
        return interpreter.get_tensor(taken)

    if not ready.int8:
        return [lambda features: invoke(made)]
    scale, zero_point = ready._input["quantization"]
    back, zero = ready._output["quantization"]

    def with_codes(features: np.ndarray) -> Any:
        nearest = np.rint(features.transpose(0, 2, 3, 1) / np.float32(scale)) + zero_point
        return (invoke(np.clip(nearest, -128, 127).astype(np.int8)).astype(np.float32) - zero) * np.float32(back)

    return [lambda features: invoke(made), with_codes]


def _against_itself(model: str, stage: str, name: str) -> dict[str, Any]:
    settings = Settings(stages=(stage,), runtimes=(name,), seconds=SECONDS, meter=None)
    comparison = run.bench(model, "cpu", settings, other=model).results[0].comparison
    assert comparison is not None
    said = {"ratio": comparison.ratio, "low": comparison.low, "high": comparison.high, "pairs": comparison.pairs}
    return {"stage": stage, "runtime": name, **said}


if __name__ == "__main__":
    main(*sys.argv[1:])
