"""What an emitter gives for one operator, and what emitters ask of the graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgeq.cortexm.ops.arrays import Array
from edgeq.graph import ir
from edgeq.graph.int8_kernels import activation_range


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
    return activation_range(graph.tensors[op.output], getattr(op, "activation", ir.NONE))


def _parameters(graph: ir.Graph, name: str) -> ir.Quantization:
    parameters = graph.tensors[name].quantization
    assert parameters is not None
    return parameters
