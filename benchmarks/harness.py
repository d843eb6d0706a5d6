"""What `edgeq bench` itself adds to a model of about a millisecond, and what it makes of a model beside itself.

    python benchmarks/harness.py [MODEL [STAGE]]      # writes harness.json; half a minute, on a quiet machine

Two questions, each asked of onnxruntime and LiteRT on one thread:
- how much longer a timed `predict` takes than the runtime alone, called in turns with it: its checks, copies and
  conversions (aim: below 2 % of a model of 1 ms); of an INT8 file it makes codes of features too, which is no overhead
  but work that such a file asks of whoever runs it;
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
        print(
            f"{one['stage']}: predict {one['predict_ms']:.4f} ms, {one['runtime']} alone {one['alone_ms']:.4f} ms: "
            f"{one['overhead_us']:+.1f} us, {one['overhead_us'] / 1e3:+.2%} of 1 ms "
            f"({one['ratio']['low'] - 1:+.2%} to {one['ratio']['high'] - 1:+.2%} of this model)"
        )
    for one in found["against_itself"]:
        print(f"{one['stage']}: against itself {one['ratio']:.4f} ({one['low']:.4f} to {one['high']:.4f})")
    for warning in found["warnings"]:
        print(f"! {warning}", file=sys.stderr)


def _overhead(model: str, stage: str, name: str) -> dict[str, Any]:
    """Times of `predict` and of the runtime's own call on the same eight inputs, in turns A B B A."""
    opened = zoo.find(model)
    ready = runtimes.open(opened, stage, name)
    windows = goldens.inputs(range(8), opened.frontend)
    inputs = [windows[index : index + 1] for index in range(len(windows))]
    calls = [ready.predict, _alone(ready, stage)]
    times: list[list[int]] = [[], []]
    for call in calls:
        for number in range(WARM_UP):
            call(inputs[number % len(inputs)])
    for turn in range(TURNS):
        for which in (0, 1) if turn % 2 == 0 else (1, 0):
            for number in range(PER_TURN):
                begin = time.perf_counter_ns()
                calls[which](inputs[(turn * PER_TURN + number) % len(inputs)])
                times[which].append(time.perf_counter_ns() - begin)
    ratio = measured(times[0], times[1], (PER_TURN, PER_TURN), "alone")
    predict, alone = (float(np.median(one)) for one in times)
    return {
        "stage": stage,
        "runtime": name,
        "predict_ms": predict / 1e6,
        "alone_ms": alone / 1e6,
        "overhead_us": (ratio.ratio - 1) * alone / 1e3,
        "ratio": {"median": ratio.ratio, "low": ratio.low, "high": ratio.high, "pairs": ratio.pairs},
    }


def _alone(ready: Any, stage: str) -> Callable[[np.ndarray], Any]:
    """The runtime's own call, without a check: what nobody could leave out.

    Of an INT8 file that takes setting the input, running it and getting the output; its codes are made beforehand.
    """
    if stage.startswith("onnx"):
        session, name = ready._session, ready._input
        return lambda features: session.run(None, {name: features})
    interpreter, given, taken = ready._interpreter, ready._input["index"], ready._output["index"]
    codes = np.zeros(ready._input["shape"], ready._input["dtype"])

    def invoke(features: np.ndarray) -> Any:
        interpreter.set_tensor(given, codes)
        interpreter.invoke()
        return interpreter.get_tensor(taken)

    return invoke


def _against_itself(model: str, stage: str, name: str) -> dict[str, Any]:
    settings = Settings(stages=(stage,), runtimes=(name,), seconds=SECONDS, meter=None)
    comparison = run.bench(model, "cpu", settings, other=model).results[0].comparison
    assert comparison is not None
    said = {"ratio": comparison.ratio, "low": comparison.low, "high": comparison.high, "pairs": comparison.pairs}
    return {"stage": stage, "runtime": name, **said}


if __name__ == "__main__":
    main(*sys.argv[1:])
