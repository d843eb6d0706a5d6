"""What LiteRT's reference kernels make of a graph: the definition that edgeq's int8 interpreter is held to."""

from __future__ import annotations

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from edgeq.export.tflite import to_tflite
from edgeq.graph.ir import Graph


def run_litert(graph: Graph, x: np.ndarray) -> dict[str, np.ndarray]:
    """Every activation by name for a batch of inputs (codes where the graph is quantized), one window at a time."""
    interpreter = Interpreter(
        model_content=to_tflite(graph),
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    indices = {detail["name"]: detail["index"] for detail in interpreter.get_tensor_details()}
    outputs: dict[str, list[np.ndarray]] = {op.output: [] for op in graph.ops}
    for window in x:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], window[None])
        interpreter.invoke()
        for name, values in outputs.items():
            values.append(interpreter.get_tensor(indices[name]))
    return {name: np.concatenate(values) for name, values in outputs.items()}
