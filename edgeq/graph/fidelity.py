"""Whether an int8 graph holds what its float twin and the recorded ranges give: no code, scale or zero point astray.

Outputs alone cannot tell: one wrong weight among thousands seldom changes an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from edgeq.graph.ir import Graph, Pad, Tensor
from edgeq.graph.reference import constant

_SLACK = 1e-3
"""Rounding of scales to float32, in steps of a code."""


def weight_faults(float_graph: Graph, int8_graph: Graph) -> Iterator[str]:
    """One line a constant of the int8 graph that lies further than half a step from the float graph's.

    The graphs have the same operators but for PAD, which files hold apart from convolutions; where they don't, that is
    the only line.
    """
    rounded, float_ops = ([op for op in graph.ops if not isinstance(op, Pad)] for graph in (int8_graph, float_graph))
    if [(op.kind, op.output) for op in float_ops] != [(op.kind, op.output) for op in rounded]:
        yield "it has other operators than the float file"
        return
    for op, exact in zip(rounded, float_ops, strict=True):
        for name, exact_name in zip(op.inputs, exact.inputs, strict=True):
            if int8_graph.tensors[name].data is not None:
                yield from _fault(int8_graph.tensors[name], constant(float_graph.tensors[exact_name]))


def range_faults(int8_graph: Graph, ranges: Mapping[str, tuple[float, float]]) -> Iterator[str]:
    """One line an activation whose codes miss more than a step of the range recorded for it."""
    for name, (low, high) in ranges.items():
        tensor = int8_graph.tensors.get(name)
        if tensor is None or tensor.quantization is None:
            continue
        scale, zero_point = float(tensor.quantization.scale[0]), int(tensor.quantization.zero_point[0])
        least, largest = scale * (-128 - zero_point), scale * (127 - zero_point)
        slack = scale * (1 + _SLACK)
        if least > low + slack or largest < high - slack:
            yield f"{name} holds {least:.4g} to {largest:.4g}, its recorded range is {low:.4g} to {high:.4g}"


def _fault(tensor: Tensor, exact: np.ndarray) -> Iterator[str]:
    assert tensor.data is not None and tensor.quantization is not None  # constants of a checked int8 graph
    if tensor.data.shape != exact.shape:
        yield f"{tensor.name} has shape {tensor.data.shape}, the float file {exact.shape}"
        return
    shape = (-1, *[1] * (exact.ndim - 1)) if tensor.quantization.scale.size > 1 else ()
    step = tensor.quantization.scale.astype(np.float64).reshape(shape)
    error = np.abs((tensor.data - tensor.quantization.zero_point.reshape(shape)) * step - exact)
    allowed = step * (0.5 + _SLACK) + 1e-6 * np.abs(exact)
    if (error > allowed).any():
        worst = float((error / step).max())
        yield f"{tensor.name}: {int((error > allowed).sum())} codes are off, the worst by {worst:.1f} steps"
