"""C of an INT8 .tflite file that comes alone, whoever made it: the network, with nothing before or after it."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeq import atomic, verify
from edgeq.cortexm import emit, host, project, targets
from edgeq.cortexm.project import Project
from edgeq.errors import CheckFailed, InputError
from edgeq.export.run import endpoint
from edgeq.graph import from_tflite, reference
from edgeq.graph.ir import Graph
from edgeq.graph.reference import dequantize_output

INPUTS = 16
"""Seeded random inputs on which the compiled C has to give the reference's codes."""


@dataclass(frozen=True, eq=False)
class ExportedC:
    """What was written: files by name in a folder, of what graph, how it was verified, what else is to be known."""

    folder: Path
    files: dict[str, bytes]
    graph: Graph
    report: verify.Report
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The contract's keys; there is no bundle."""
        return {
            "bundle": None,
            "files": [
                {
                    "path": str(self.folder / name),
                    "format": "c-int8",
                    "bytes": len(content),
                    "sha256": hashlib.sha256(content).hexdigest(),
                }
                for name, content in self.files.items()
            ],
            "input": endpoint(self.graph.tensors[self.graph.input]),
            "output": endpoint(self.graph.tensors[self.graph.output]),
            "ops": dict(Counter(op.kind for op in self.graph.ops)),
            "verify": self.report.to_json(),
            "firmware": None,
            "lowering": {},
            "notes": list(self.notes),
        }


def export(path: str | Path, output: str | Path | None = None, board: str | None = None) -> ExportedC:
    """Write the C of an INT8 .tflite file to a folder, once it is compiled here and gives the file's codes.

    output: by default build/<the file's name>. board: a target whose memory it has to fit.
    Raises InputError where the file is not INT8 or has an operator without C, the folder holds other files, or no
    compiler is at hand; CheckFailed where the C gives other codes or does not fit. Nothing is written then.
    """
    path = Path(path)
    destination = Path(output) if output else Path("build") / path.stem
    target = None if board is None else targets.find(board)
    graph = from_tflite.read(path)
    network = emit.emit(graph, path.stem, (), target)
    made = Project({name: text.encode() for name, text in sorted(network.files.items())}, network, None, ())
    _check_place(destination, made)
    notes = ("C of the network alone: the file says nothing of a front end or of labels", *project.told(made, target))
    report = _verified(path.stem, graph, network)
    if not report.passed:
        raise CheckFailed(f"{path}: {report.failure}; nothing was written to {destination}")
    with atomic.folder(destination) as beside:
        for name, content in made.files.items():
            (beside / name).write_bytes(content)
    return ExportedC(destination, made.files, graph, report, notes)


def _check_place(folder: Path, made: Project) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file, expected a folder to write C to; choose another with -o")
    others = sorted({entry.name for entry in folder.iterdir()} - set(made.files)) if folder.exists() else []
    if others:
        raise InputError(f"{folder}: holds other files ({others[0]}): choose an empty or a new folder with -o")


def _verified(name: str, graph: Graph, network: emit.Sources) -> verify.Report:
    """The C on this machine beside the reference, which is LiteRT's reference kernels bit for bit."""
    program = host.Program(host.compile([network]), network)
    codes = np.random.default_rng(0).integers(-128, 128, (INPUTS, *network.input_shape[1:]), dtype=np.int8)
    found = program.run(codes)
    expected = np.concatenate([reference.run(graph, one[None]) for one in codes]).reshape(found.shape)
    other = int(np.sum((found != expected).reshape(INPUTS, -1).any(axis=1)))
    failures = (f"its C gives other codes than the reference on {other} of {INPUTS} inputs",) if other else ()
    outputs = [dequantize_output(graph, one).reshape(INPUTS, -1) for one in (expected, found)]
    agreement = float(np.mean(outputs[0].argmax(axis=1) == outputs[1].argmax(axis=1)))
    error = float(np.abs(outputs[0] - outputs[1]).max())
    stage = verify.StageResult(
        "c-int8", "noise", "c", INPUTS, agreement, error, verify.sqnr_db(*outputs), None, failures
    )
    return verify.Report(name, (stage,), (), ())
