"""The C of an INT8 model, compiled for this machine: what a device computes, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgeq.bundle import Bundle
from edgeq.cortexm import emit, host
from edgeq.cortexm.project import project
from edgeq.errors import InputError, naming
from edgeq.graph import from_tflite
from edgeq.graph.ir import Graph
from edgeq.graph.reference import dequantize_output, quantize_input
from edgeq.runtime.face import as_input_shape, channels_last, check_features


class CRuntime:
    """An INT8 .tflite model with one input, as (1, mels, frames, components), and one output (1, classes), as C."""

    name = "c"
    int8 = True

    def __init__(self, path: Path, where: str, opened: Bundle | None = None) -> None:
        """Make the C of a .tflite file and compile it; of a bundle's, hold the C in the bundle to it first.

        Raises InputError where the file has no C, a bundle holds other C than this edgeq makes of it (and that is then
        not run), or no compiler is at hand.
        """
        with naming(where):
            graph = self._graph = from_tflite.read(path)
            sources = emit.emit(graph, path.stem) if opened is None else _checked(opened, graph)
            shapes = graph.tensors[graph.input].shape, graph.tensors[graph.output].shape
            if len(shapes[1]) != 2:
                raise InputError(f"shapes {shapes[0]} and {shapes[1]}, expected a batch of 1 and (1, classes)")
            self.input_shape = as_input_shape(where, shapes[0][1:], "HWC")
            self.classes: int = shapes[1][1]
            self._program = host.Program(host.compile([sources]), sources)

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the exporter wrote into the .tflite file that the C is made of."""
        return self._graph.metadata

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Probabilities of windows, as `Runtime.predict`."""
        check_features(features, self.input_shape)
        codes = quantize_input(self._graph, channels_last(features))
        return dequantize_output(self._graph, self._program.run(codes))


def _checked(opened: Bundle, graph: Graph) -> emit.Sources:
    """The sources, where the bundle's files are these byte for byte: C that somebody else wrote is never run."""
    made = project(graph, opened.name, opened.labels, opened.frontend, opened.decision)
    folder = opened.exported("c-int8")
    files = {f"{folder}/{name}": content for name, content in made.files.items()}
    listed = opened.exported_files("c-int8")
    other = sorted(set(files) ^ set(listed)) or [name for name in listed if opened.file(name) != files[name]]
    if other:
        raise InputError(
            f"{other[0]}: not what this edgeq makes of {opened.exported('tflite-int8')}; "
            f"run: edgeq export {opened.folder} --int8 --c"
        )
    return made.network
