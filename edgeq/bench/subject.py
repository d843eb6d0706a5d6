"""A model as the benchmark sees it: a bundle or a single file, and what can be counted of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeq import zoo
from edgeq.audio.frontend import FrontendSpec
from edgeq.bench.result import COUNTED, Figure, Layer
from edgeq.bundle import WEIGHTS, Bundle
from edgeq.errors import InputError
from edgeq.graph import cost, from_tflite
from edgeq.graph.ir import Graph

_INT8 = "tflite-int8"


@dataclass(frozen=True)
class Subject:
    """path: a bundle's folder, or an .onnx or .tflite file, of which `bundle` is None."""

    name: str
    path: Path
    bundle: Bundle | None

    @property
    def frontend(self) -> FrontendSpec | None:
        """None of a single file."""
        return None if self.bundle is None else self.bundle.frontend


@dataclass(frozen=True)
class Counts:
    """MACs of one window, layer by layer, and how they were counted; file_bytes: of the file that a stage runs."""

    macs: int | None
    layers: tuple[Layer, ...] | None
    file_bytes: int
    figures: dict[str, Figure]


def open(model: str | Path) -> Subject:
    """A zoo name, a bundle's folder, or an .onnx or .tflite file. Raises InputError where it is none of these."""
    path = Path(model)
    if path.suffix in (".onnx", ".tflite") and path.is_file():
        return Subject(path.stem, path, None)
    opened = zoo.find(model)
    return Subject(opened.name, opened.folder, opened)


def int8_graph(subject: Subject) -> Graph:
    """The graph that C is made of. Raises InputError where the model has no INT8 TFLite file."""
    opened, path = subject.bundle, subject.path
    if opened is None:
        if path.suffix != ".tflite":
            raise InputError(f"{path}: C is made of INT8 TFLite files: expected one of those, or a bundle")
        return from_tflite.read(path)
    if _INT8 not in opened.exports:
        raise InputError(
            f"{path}: has no INT8 TFLite file; run: edgeq export {path} --tflite --int8 -o DIR, then: edgeq bench DIR"
        )
    return from_tflite.read(opened.checked(opened.exports[_INT8]))


def count(subject: Subject, stage: str) -> Counts:
    """What a stage of a model costs wherever it runs.

    The MACs of a bundle are those of its block form, whichever form its float files have. They are None where no file
    tells them: ONNX is read by a package of the extra `export`.
    """
    figures = {"file_bytes": Figure(COUNTED, "the file that runs")}
    graph = _counted(subject)
    if graph is None:
        return Counts(None, None, _file_bytes(subject, stage), figures)
    layers = tuple(Layer(layer.name, layer.op, layer.macs) for layer in cost.layers(graph))
    source = Figure(COUNTED, "the model's graph")
    return Counts(
        sum(layer.macs for layer in layers), layers, _file_bytes(subject, stage), {"macs": source, "layers": source}
        | figures,
    )  # fmt: skip


def _counted(subject: Subject) -> Graph | None:
    """A graph in block form: INT8 files are always that."""
    opened, path = subject.bundle, subject.path
    try:
        if opened is not None:
            stage = next((stage for stage in (_INT8, "tflite", "onnx") if stage in opened.exports), None)
            if stage is None:
                return None
            path = opened.checked(opened.exports[stage])
        if path.suffix == ".tflite":
            return from_tflite.read(path)
        from edgeq.graph import from_onnx

        return from_onnx.read(path)
    except (InputError, ImportError):  # it may run all the same: in a runtime that knows more operators
        return None


def _file_bytes(subject: Subject, stage: str) -> int:
    opened = subject.bundle
    if opened is None:
        return subject.path.stat().st_size
    if stage == "torch":
        return opened.files[WEIGHTS].bytes
    return opened.files[opened.exported(_INT8 if stage == "c-int8" else stage)].bytes
