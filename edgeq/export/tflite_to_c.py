"""C of an INT8 .tflite file that comes alone, whoever made it: the network, with nothing before or after it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from edgeq import verify
from edgeq.cortexm import emit, host, project, targets
from edgeq.cortexm.project import Project
from edgeq.errors import CheckFailed
from edgeq.export import alone
from edgeq.export.run import endpoint
from edgeq.graph import from_tflite, reference
from edgeq.graph.ir import Graph
from edgeq.graph.reference import dequantize_output

INPUTS = 16
"""Seeded random inputs on which the compiled C has to give the reference's codes."""


def export(path: str | Path, output: str | Path | None = None, board: str | None = None) -> alone.Exported:
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
    alone.check_place(destination, made.files)
    notes = ("C of the network alone: the file says nothing of a front end or of labels", *project.told(made, target))
    report = _verified(path.stem, graph, network)
    if not report.passed:
        raise CheckFailed(f"{path}: {report.failure}; nothing was written to {destination}")
    alone.write(destination, made.files)
    ends = endpoint(graph.tensors[graph.input]), endpoint(graph.tensors[graph.output])
    ops = Counter(op.kind for op in graph.ops)
    return alone.Exported(destination, "c-int8", made.files, *ends, ops, report, notes)


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
