"""PAD operators whose zeros the operators behind them can have by themselves: a padded map is never written."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from edgeq.graph import ir
from edgeq.graph.int8_kernels import CODE_MIN

_Padded = ir.Conv2D | ir.DepthwiseConv2D | ir.MaxPool2D


@dataclass(frozen=True)
class MaxPoolOfPadded(ir.MaxPool2D):
    """A maximum pool whose padding has a code like any other place of the map."""

    outside: int = CODE_MIN


def without_pads(graph: ir.Graph) -> ir.Graph:
    """The same INT8 graph without the PAD operators that only convolutions and maximum pools read.

    A convolution's own padding has the value 0, as PAD's has. A pool takes nothing of its own: it becomes a
    MaxPoolOfPadded.
    """
    for pad in graph.ops:
        if not isinstance(pad, ir.Pad) or pad.output == graph.output:
            continue
        readers = graph.consumers(pad.output)
        if all(_takes(reader, pad, graph) for reader in readers):
            outside = _quantization(graph, pad.output)[1]
            ops = [_widened(op, pad, outside) if op in readers else op for op in graph.ops if op != pad]
            graph = replace(graph, ops=tuple(ops))
    return graph


def _takes(reader: ir.Op, pad: ir.Pad, graph: ir.Graph) -> bool:
    kept = _quantization(graph, pad.inputs[0]) == _quantization(graph, pad.output)
    if any(pad.channels) or not kept or not isinstance(reader, _Padded):
        return False
    return not (isinstance(reader, ir.MaxPool2D) and any(reader.padding))


def _widened(op: ir.Op, pad: ir.Pad, outside: int) -> ir.Op:
    assert isinstance(op, _Padded)
    above, below, left, right = (own + more for own, more in zip(op.padding, pad.padding, strict=True))
    op = replace(op, inputs=(pad.inputs[0], *op.inputs[1:]), padding=(above, below, left, right))
    if isinstance(op, ir.MaxPool2D):
        return MaxPoolOfPadded(**{field.name: getattr(op, field.name) for field in fields(op)}, outside=outside)
    return op


def _quantization(graph: ir.Graph, name: str) -> tuple[float, int]:
    """Scale and zero point."""
    parameters = graph.tensors[name].quantization
    assert parameters is not None  # of an INT8 graph
    return float(parameters.scale[0]), int(parameters.zero_point[0])
