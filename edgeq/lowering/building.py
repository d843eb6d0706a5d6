"""A graph while it is being built from a trace: tensors and operators so far, and who reads what."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from torch import fx

from edgeq.errors import InputError
from edgeq.graph import ir
from edgeq.graph.check import output_shape


@dataclass(frozen=True, eq=False)
class Value:
    """What a node of the trace computes: a tensor of the graph.

    Torch has channels on axis 1, the graph on the last one; the other axes keep their order.
    columns: after flattening, which torch column stands at each of the graph's columns.
    probabilities: whether the graph has the probabilities here of which torch has the logits.
    """

    name: str
    shape: tuple[int, ...]
    columns: np.ndarray | None = None
    probabilities: bool = False


class Building:
    """Tensors and operators by name in execution order, and the value of every node of the trace walked so far."""

    def __init__(self) -> None:
        self.tensors: dict[str, ir.Tensor] = {}
        self.ops: dict[str, ir.Op] = {}
        self.values: dict[fx.Node, Value] = {}
        self._counts: Counter[str] = Counter()

    def name(self, stem: str) -> str:
        """The next name of a kind: conv_1, conv_2, ..."""
        self._counts[stem] += 1
        return f"{stem}_{self._counts[stem]}"

    def emit(self, op: ir.Op, columns: np.ndarray | None = None) -> Value:
        """Add an operator whose output's shape follows from its inputs. Raises InputError where they don't fit."""
        shape = output_shape(op, [self.tensors[name].shape for name in op.inputs])
        self.ops[op.output] = op
        return self.tensor(op.output, shape, columns)

    def tensor(self, name: str, shape: tuple[int, ...], columns: np.ndarray | None = None) -> Value:
        """Add an activation."""
        self.tensors[name] = ir.Tensor(name, shape)
        return Value(name, shape, columns)

    def constant(self, name: str, data: np.ndarray) -> str:
        """Add a constant, whose name is returned. Raises InputError where it is not finite."""
        self.tensors[name] = ir.Tensor(name, data.shape, data=finite(np.ascontiguousarray(data)))
        return name

    def alone(self, name: str) -> ir.Op | None:
        """The operator that makes a tensor, where the node at hand is the only one to read it: it may be changed."""
        holders = {node for node, value in self.values.items() if value.name == name}
        readers = {reader for node in holders for reader in node.users} - holders
        return self.ops.get(name) if len(readers) == 1 else None


def finite(data: np.ndarray) -> np.ndarray:
    """The data itself. Raises InputError where it holds NaN or infinity."""
    if not np.isfinite(data).all():
        raise InputError("weights hold NaN or infinity: the training diverged, or the checkpoint is damaged")
    return data
