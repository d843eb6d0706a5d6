"""A graph while it is being read from a .tflite file: tensors and operators so far, and what stands for what."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgeq.errors import InputError
from edgeq.graph import ir
from edgeq.graph.check import output_shape


@dataclass(frozen=True)
class Node:
    """An operator as the file has it.

    inputs: None where one is left out. table: the file's, for its options. where: what errors call it.
    """

    kind: str
    inputs: Sequence[ir.Tensor | None]
    outputs: Sequence[ir.Tensor]
    table: Any
    where: str


class Reading:
    """Tensors by name and operators in execution order.

    Activations have the batch, of 1, as their first axis: a tensor of which the first axis is another gets one before
    it (it is then "lifted"). unsigned: names of tensors that are uint8 in the file.
    """

    def __init__(
        self, tensors: Sequence[ir.Tensor], source: str, result: str, unsigned: Collection[str] = frozenset()
    ) -> None:
        self.source, self.result, self.unsigned = source, result, unsigned
        self.lifted = {one.name for one in tensors if one.data is None and one.shape[:1] != (1,)}
        self.tensors = {
            one.name: replace(one, shape=(1, *one.shape)) if one.name in self.lifted else one for one in tensors
        }
        self.ops: list[ir.Op] = []
        self.same: dict[str, str] = {}
        self.turned: set[str] = set()

    def resolved(self, tensor: ir.Tensor) -> ir.Tensor:
        """What stands for a tensor of the file."""
        return self.tensors[self.same.get(tensor.name, tensor.name)]

    def alias(self, tensor: ir.Tensor, source: ir.Tensor) -> None:
        """Let a tensor be another one, which has the same codes."""
        self.same[tensor.name] = source.name

    def axis(self, tensor: ir.Tensor, axis: int, where: str) -> int:
        """An axis that the file counts, from the first or the last, as the graph counts it from the first."""
        rank = len(tensor.shape)
        lifted = int(tensor.name in self.lifted)
        if not lifted - rank <= axis < rank - lifted:
            raise InputError(f"{where}: axis {axis} of {tensor.shape[lifted:]}: no such axis")
        return axis + (lifted if axis >= 0 else rank)

    def emit(self, op: ir.Op) -> None:
        """Add an operator; where its output is stated with other axes of size 1, a RESHAPE gives it those."""
        result = self.tensors[op.output]
        shape = output_shape(op, [self.tensors[name].shape for name in op.inputs])
        if shape != result.shape and _longer(shape) == _longer(result.shape):
            before = self.like(result, shape)
            self.ops += [replace(op, output=before.name), ir.Reshape((before.name,), op.output)]
        else:
            self.ops.append(op)

    def like(self, tensor: ir.Tensor, shape: tuple[int, ...]) -> ir.Tensor:
        """A new activation with another's quantization, and a name that begins with its name."""
        return self.add(replace(tensor, name=f"{tensor.name}.step", shape=shape, data=None))

    def add(self, tensor: ir.Tensor) -> ir.Tensor:
        """A tensor that the file doesn't have, under a name that no other has."""
        name, number = tensor.name, 1
        while name in self.tensors:
            number += 1
            name = f"{tensor.name}.{number}"
        self.tensors[name] = replace(tensor, name=name)
        return self.tensors[name]

    def reshaped(self, tensor: ir.Tensor, shape: tuple[int, ...], where: str) -> ir.Tensor:
        """The tensor itself, or after a RESHAPE."""
        if shape == tensor.shape:
            return tensor
        if math.prod(shape) != math.prod(tensor.shape) or tensor.data is not None:
            raise InputError(f"{where}: {tensor.name!r} of shape {tensor.shape}: expected {shape}")
        after = self.like(tensor, shape)
        self.ops.append(ir.Reshape((tensor.name,), after.name))
        return after

    def filters_first(self, weight: ir.Tensor) -> ir.Tensor:
        """Depthwise weights, (1, height, width, out) in the file, as the graph has them: (out, height, width, 1)."""
        if weight.data is None or len(weight.shape) != 4 or weight.name in self.turned:
            return weight  # the graph's check refuses the first two
        quantization = weight.quantization
        if quantization is not None and quantization.scale.size > 1:
            quantization = replace(quantization, axis=0 if quantization.axis == 3 else 3)
        data = weight.data.transpose(3, 1, 2, 0)
        self.turned.add(weight.name)
        self.tensors[weight.name] = replace(weight, shape=data.shape, data=data, quantization=quantization)
        return self.tensors[weight.name]

    def graph(self, name: str, metadata: Mapping[str, str]) -> ir.Graph:
        """The graph, without what its output does not need."""
        output = self.same.get(self.result, self.result)
        wanted, ops = {self.source, output}, []
        for op in reversed(self.ops):
            if op.output in wanted:
                ops.append(op)
                wanted.update(op.inputs)
        tensors = {name: tensor for name, tensor in self.tensors.items() if name in wanted}
        return ir.Graph(name, tensors, tuple(ops[::-1]), self.source, output, metadata)


def no_bias(weight: ir.Tensor, source: ir.Tensor, name: str) -> ir.Tensor:
    """The bias of zeros of a layer that has none."""
    count = weight.shape[0] if weight.shape else 1
    if weight.dtype != "int8" or weight.quantization is None or source.quantization is None:
        return ir.Tensor(name, (count,), data=np.zeros(count, np.float32))
    with np.errstate(over="ignore", under="ignore"):  # the graph's check looks at what comes of it
        scale = weight.quantization.scale * source.quantization.scale[0]
    parameters = ir.Quantization(scale, np.zeros(scale.shape, np.int32))
    return ir.Tensor(name, (count,), "int32", np.zeros(count, np.int32), parameters)


def _longer(shape: tuple[int, ...]) -> list[int]:
    return [size for size in shape if size != 1]
