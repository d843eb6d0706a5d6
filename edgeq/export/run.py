"""The main job: from a bundle to files that runtimes take, written only when each agrees with what was trained."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgeq import budget as budgets
from edgeq import bundle as bundles
from edgeq import fresh, verify, zoo
from edgeq.audio import decode
from edgeq.audio.windows import windows
from edgeq.bundle import Bundle, Content
from edgeq.cortexm import project, targets
from edgeq.cortexm.targets import Target
from edgeq.errors import CheckFailed, InputError
from edgeq.export import deploy_notes, web, web_runtime
from edgeq.export.choice import BLOCK, lowered
from edgeq.export.onnx import to_onnx
from edgeq.export.select import Selection, check_lowering, select
from edgeq.export.tflite import to_tflite
from edgeq.graph import cost, from_tflite, quantize
from edgeq.graph.ir import Graph, Tensor
from edgeq.lowering.fast import quaternion_layers
from edgeq.runtime import embedded

FORMATS = ("onnx", "tflite")

CALIBRATION_WINDOWS = 512
"""Most windows that --calib looks at, spread evenly over the recordings: ranges settle long before."""

INT8_NOTE = "INT8 files are in block form: eight multiplications would round more sums to eight bits"


@dataclass(frozen=True, eq=False)
class Exported:
    """What an export wrote: the bundle with its files, and the gate's report.

    graph: what the most constrained of the files computes (INT8 where there is one). firmware: lines for TFLite Micro.
    lowering: by float format the choice of each quaternion layer's form, with the network's MACs in block form and what
    the file multiplies; empty where all was to be block. notes: what else is to be known of it.
    """

    bundle: Bundle
    report: verify.Report
    graph: Graph
    firmware: str | None
    lowering: Mapping[str, Mapping[str, Any]]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Exported({self.bundle!r}, {'passed' if self.report.passed else 'FAILED'})"

    def to_json(self) -> dict[str, Any]:
        """The contract's keys."""
        return {
            "bundle": str(self.bundle.folder),
            "files": [
                {
                    "path": str(self.bundle.folder / path),
                    "format": stage,
                    "bytes": self.bundle.files[path].bytes,
                    "sha256": self.bundle.files[path].sha256,
                }
                for stage in self.bundle.exports
                for path in self.bundle.exported_files(stage)
            ],
            "input": endpoint(self.graph.tensors[self.graph.input]),
            "output": endpoint(self.graph.tensors[self.graph.output]),
            "ops": dict(Counter(op.kind for op in self.graph.ops)),
            "verify": self.report.to_json(),
            "firmware": self.firmware,
            "lowering": dict(self.lowering),
            "notes": list(self.notes),
        }


def export(
    model: str | Path,
    output: str | Path | None = None,
    *,
    formats: Sequence[str] = FORMATS,
    int8: bool = False,
    calibration: str | Path | None = None,
    classes: int | None = None,
    budget: str | None = None,
    lowering: str | Path = BLOCK,
    compact: bool = False,
    c: bool = False,
    board: str | None = None,
    web_page: bool = False,
    web_runtime_folder: Path | None = None,
) -> Exported:
    """Export a model and hold every file to the network as it was trained; nothing is written if one disagrees.

    model: zoo name, bundle folder, or architecture name (random weights). output: a bundle folder to write, by default
    build/<name>. formats: of "onnx", "tflite"; with `int8` the INT8 form of each is written beside the float one,
    quantized by the ranges that the bundle carries or by those of the recordings in `calibration`. lowering: what
    quaternion layers become in float files: "block", "fast", "auto" (the faster of both here, timed), or the table
    lowering.json that an export with "auto" wrote, which repeats it. compact: the float ONNX file stores quaternion
    weights once, see export.compact. c: the INT8 .tflite file as C too, see cortexm.project; board: a target whose
    memory it has to fit. web_page: a page that runs the ONNX file (its INT8 form with `int8`) in the browser, see
    export.web; web_runtime_folder: onnxruntime-web's files, which else are fetched once.
    Raises InputError on bad input, CheckFailed where the parity gate, the budget or the board fails.
    """
    _check_options(formats, int8, calibration, lowering, compact, c, board, web_page, web_runtime_folder)
    target = None if board is None else targets.find(board)
    if output is not None:
        bundles.check_place(Path(output))  # now, and the recordings: not after an untrained network was made
    if calibration is not None:
        decode.recordings(Path(calibration))
    browser = web_runtime.files(web_runtime_folder) if web_page else None
    with tempfile.TemporaryDirectory(prefix="edgeq-") as scratch:
        source = _open(model, Path(scratch) / "fresh", classes)
        destination = Path(output) if output else Path("build") / source.name
        bundles.check_place(destination)
        graph = describe(source)
        if budget:
            _check_budget(source.name, graph, budget)
        ranges = _observe(graph, source, Path(calibration)) if calibration else None
        quantized = quantize.quantize(graph, ranges or source.ranges()) if int8 else None
        if compact and not quaternion_layers(graph):
            raise InputError(f"{source.name}: no quaternion layers: nothing for --compact to store once; leave it out")
        selection = select(graph, lowering, formats)
        floats = {form: _lowered(graph, form, selection) for form in FORMATS if form in formats}
        files = _files(floats, quantized, compact)
        c_notes: list[str] = []
        if c and quantized is not None:
            files["c-int8"] = partial(_c, quantized, source, target, c_notes.append)
        if browser is not None:
            network = files["onnx-int8" if int8 else "onnx"]
            files["web-int8" if int8 else "web"] = partial(_web, source, network, int8, browser)
        reports: list[verify.Report] = []

        def gate(written: Bundle) -> None:
            reports.append(verify.verify(written))
            if not reports[-1].passed:
                raise CheckFailed(f"{source.name}: {reports[-1].failure}; nothing was written to {destination}")

        written = bundles.copy(source, destination, exports=files, ranges=ranges, lowering=selection.table, gate=gate)
    content = written.export("tflite-int8" if int8 else "tflite") if "tflite" in files else None
    read_back = from_tflite.read(content) if content else quantized or floats["onnx"]
    firmware = deploy_notes.tflite_micro(content) if content else None
    chosen = _chosen(graph, floats, selection)
    notes = [*selection.notes, *([INT8_NOTE] if int8 and chosen else []), *c_notes]
    if browser is not None:
        notes += web.notes(written.folder / "web", source.frontend)
    return Exported(written, reports[-1], read_back, firmware, chosen, tuple(notes))


def describe(model: Bundle) -> Graph:
    """The float graph of a bundle's network, with what an exported file has to say about itself as metadata."""
    from edgeq.lowering.trace import lower
    from edgeq.runtime.torch import network

    graph = lower(network(model), model.architecture)
    return replace(graph, name=model.name, metadata=embedded.words(model))


def endpoint(tensor: Tensor) -> dict[str, Any]:
    """What a model takes or gives, with the contract's keys."""
    quantization = tensor.quantization
    return {
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "scale": float(quantization.scale[0]) if quantization else None,
        "zero_point": int(quantization.zero_point[0]) if quantization else None,
    }


def _check_options(
    formats: Sequence[str],
    int8: bool,
    calibration: str | Path | None,
    lowering: str | Path,
    compact: bool,
    c: bool,
    board: str | None,
    web_page: bool,
    web_runtime_folder: Path | None,
) -> None:
    unknown = set(formats) - set(FORMATS)
    if unknown or not formats:
        raise InputError(f"formats {sorted(formats)}: expected some of {', '.join(FORMATS)}")
    if calibration is not None and not int8:
        raise InputError("--calib sets the ranges of INT8 files: add --int8")
    if compact and "onnx" not in formats:
        raise InputError("--compact is a form of ONNX files: add --onnx")
    check_lowering(lowering, int8)
    if c and not (int8 and "tflite" in formats):
        raise InputError("--c is the INT8 .tflite file as C: add --int8 and --tflite")
    if board is not None and not c:
        raise InputError("--board says what the C has to fit: add --c")
    if web_page and "onnx" not in formats:
        raise InputError("--web is a page that runs the ONNX file: add --onnx")
    if web_runtime_folder is not None and not web_page:
        raise InputError("--web-runtime says what a page runs on: add --web")


def _open(model: str | Path, scratch: Path, classes: int | None) -> Bundle:
    if zoo.is_architecture(model):
        return fresh.write(str(model), scratch, classes)
    found = zoo.find(model)
    if classes is not None and classes != found.architecture.classes:
        raise InputError(f"{found.name}: is trained for {found.architecture.classes} classes; leave out --classes")
    return found


def _lowered(graph: Graph, form: str, selection: Selection) -> Graph:
    return lowered(graph, form, selection.choices[form]) if form in selection.choices else graph


def _chosen(graph: Graph, floats: Mapping[str, Graph], selection: Selection) -> dict[str, dict[str, Any]]:
    """By float format: each layer's form, the network's MACs in block form, and what the file multiplies."""
    macs = sum(layer.macs for layer in cost.layers(graph))
    return {
        form: {**choice.to_json(), "macs": macs, "multiplies": cost.multiplies(floats[form])}
        for form, choice in selection.choices.items()
    }


def _files(floats: Mapping[str, Graph], quantized: Graph | None, compact: bool) -> dict[str, Content]:
    """What makes the file of each stage."""
    files: dict[str, Content] = {}
    for form, graph in floats.items():
        files[form] = partial(to_onnx, graph, compact) if form == "onnx" else partial(to_tflite, graph)
        if quantized is not None:
            files[f"{form}-int8"] = partial(to_onnx if form == "onnx" else to_tflite, quantized)
    return files


def _c(quantized: Graph, model: Bundle, target: Target | None, note: Callable[[str], None]) -> Mapping[str, bytes]:
    """The C of what the INT8 .tflite file says; it notes what that takes. Raises CheckFailed where it is too large."""
    graph = from_tflite.read(to_tflite(quantized))
    made = project.project(graph, model.name, model.labels, model.frontend, model.decision, target)
    for line in (*made.notes, *project.told(made, target)):
        note(line)
    return made.files


def _web(model: Bundle, network: Content, int8: bool, browser: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """The page of what the ONNX file says."""
    content = network() if callable(network) else network
    assert isinstance(content, bytes)  # an ONNX file is one file
    return web.page(content, model.name, model.labels, model.frontend, model.decision, model.licence, int8, browser)


def _observe(graph: Graph, model: Bundle, folder: Path) -> dict[str, tuple[float, float]]:
    """Ranges over windows of the recordings below a folder, evenly spread over them and inside each."""
    paths = decode.recordings(folder)
    share = max(1, CALIBRATION_WINDOWS // len(paths))
    chosen = [paths[i] for i in np.linspace(0, len(paths) - 1, min(len(paths), CALIBRATION_WINDOWS)).astype(int)]

    def batches() -> Iterator[np.ndarray]:
        for path in chosen:
            step = max(1, math.ceil(decode.info(path).seconds / model.frontend.window_hop_seconds / share))
            passed = 0
            for batch in windows(path, model.frontend):
                yield np.moveaxis(batch.features[-passed % step :: step], 1, -1)
                passed += len(batch.features)

    return quantize.observe(graph, batches())


def _check_budget(name: str, graph: Graph, budget: str) -> None:
    layers = cost.layers(graph)
    lowered, macs = sum(layer.parameters for layer in layers), sum(layer.macs for layer in layers)
    reasons = budgets.find(budget).judge(lowered, macs)
    if reasons:
        raise CheckFailed(f"{name} is over the budget {budget}: {'; '.join(reasons)}")
