"""From a model and the names of targets to what it costs on each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeq import zoo
from edgeq.audio.frontend import FrontendSpec
from edgeq.bench import frontend, microcontroller
from edgeq.bench.result import FrontEnd, Result
from edgeq.cortexm import targets
from edgeq.cortexm.targets import Target
from edgeq.errors import CheckFailed, InputError
from edgeq.graph import from_tflite
from edgeq.graph.ir import Graph

_STAGE = "tflite-int8"


@dataclass(frozen=True)
class Bench:
    """What a model costs on each target where it runs, and why not on the others."""

    name: str
    results: tuple[Result, ...]
    failures: tuple[str, ...]

    def to_json(self) -> Any:
        """One result, or a list of them where several targets were asked for."""
        values = [result.to_json() for result in self.results]
        return values[0] if len(self.results) + len(self.failures) == 1 else values


def bench(model: str | Path, target: str) -> Bench:
    """What one inference of a model costs.

    model: a zoo name or bundle folder that has an INT8 TFLite file, or any such file. target: names of targets, with
    commas. Raises InputError where there is no such model or target, or it is not INT8; CheckFailed where it runs on
    none of the targets.
    """
    found = [targets.find(name) for name in dict.fromkeys(part.strip() for part in target.split(","))]
    name, graph, spec = _opened(str(model))
    results: list[Result] = []
    failures: list[str] = []
    for one in found:
        try:
            result = microcontroller.measure(graph, name, one)
            results.append(result if spec is None else replace(result, frontend=_frontend(spec, graph, name, one)))
        except CheckFailed as failure:
            failures.append(str(failure))
    if not results:
        raise CheckFailed("; ".join(failures))
    return Bench(name, tuple(results), tuple(failures))


def _frontend(spec: FrontendSpec, graph: Graph, name: str, target: Target) -> FrontEnd | None:
    quantization = graph.tensors[graph.input].quantization
    assert quantization is not None  # or there was no C of the network
    return frontend.measure(spec, quantization, name, target)


def _opened(model: str) -> tuple[str, Graph, FrontendSpec | None]:
    path = Path(model)
    if path.suffix == ".tflite" and path.is_file():
        return path.stem, from_tflite.read(path), None
    if path.suffix == ".onnx" and path.is_file():
        raise InputError(f"{model}: C is made of INT8 TFLite files: expected one of those, or a bundle")
    opened = zoo.find(model)
    if _STAGE not in opened.exports:
        raise InputError(
            f"{model}: has no INT8 TFLite file; run: edgeq export {model} --tflite --int8 -o DIR, then: edgeq bench DIR"
        )
    return opened.name, from_tflite.read(opened.checked(opened.exports[_STAGE])), opened.frontend
