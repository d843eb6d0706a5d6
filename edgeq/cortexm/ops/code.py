"""What an emitter gives for one operator, and what emitters ask of the graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgeq.cortexm.ops.arrays import Array
from edgeq.graph import ir
from edgeq.graph.int8_kernels import CODE_MAX, CODE_MIN


@dataclass(frozen=True)
class Code:
    """The C of one operator.

    body: statements, in which `x0`, `x1`... (const int8_t *) are its activation inputs in order, `y` (int8_t *) is its
    output, and `scratch` (int8_t *, where bytes of it are asked for) is memory of its own; all begin at multiples of 8.
    An empty body says that the output is x0 as it lies.
    in_place: numbers of inputs that y may overwrite, byte 0 on byte 0; the body is right in place and apart.
    headers: kernel headers that the body needs, without those that they include themselves.
    """

    body: str
    constants: tuple[Array, ...] = ()
    headers: tuple[str, ...] = ()
    scratch: int = 0
    in_place: tuple[int, ...] = ()


Emitter = Callable[[ir.Op, ir.Graph, str], Code]
"""(operator, its graph, name of its C function) to its code; names of constants begin with that of the function."""


def scale(graph: ir.Graph, name: str) -> float:
    """Real value of one step of an activation's codes."""
    return float(_parameters(graph, name).scale[0])


def zero_point(graph: ir.Graph, name: str) -> int:
    """The code that means 0 in an activation."""
    return int(_parameters(graph, name).zero_point[0])


def activation_limits(graph: ir.Graph, op: ir.Op) -> tuple[int, int]:
    """Smallest and largest code that an operator's fused activation lets through."""
    activation = getattr(op, "activation", ir.NONE)
    zero = zero_point(graph, op.output)
    low = CODE_MIN if activation == ir.NONE else max(CODE_MIN, zero)
    if activation != ir.RELU6:
        return low, CODE_MAX
    steps = np.float32(6) / np.float32(_parameters(graph, op.output).scale[0])
    return low, min(CODE_MAX, zero + int(steps + np.float32(0.5)))


def _parameters(graph: ir.Graph, name: str) -> ir.Quantization:
    parameters = graph.tensors[name].quantization
    assert parameters is not None
    return parameters
