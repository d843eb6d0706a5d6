"""A graph while it is being read from an ONNX model: operators so far, what each ONNX value is, and the constants."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from edgeq.errors import InputError
from edgeq.graph import ir
from edgeq.graph.check import LARGEST_TENSOR, output_shape
from edgeq.graph.onnx_folding import fold

MOST_FOLDED = 4 * LARGEST_TENSOR
"""Elements that folding reads in all: a compact file of four times the largest network of the papers stays below."""


class UnsupportedError(InputError):
    """An operator that graph.ir doesn't have; constant folding may yet remove it."""


@dataclass(frozen=True)
class Value:
    """What an ONNX value is in the graph.

    shape: channels second, as in ONNX. flattened: for a flattened map, the (channels, rows, ...) that it had: its
    columns lie in the graph's order, channels last. stacked: a row that was cut into rows, whose axes lie in the graph
    as they do in ONNX until they are transposed.
    """

    name: str
    shape: tuple[int, ...]
    flattened: tuple[int, ...] | None = None
    stacked: bool = False


class Reading:
    """Tensors and operators by name in execution order, and the values and constants by their names in the model.

    opset: the version of the model's operators. uses: how often each value is read.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.opset = max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=0)
        self.constants: dict[str, onnx.TensorProto | np.ndarray]
        self.constants = {one.name: one for one in model.graph.initializer}
        used = [name for node in model.graph.node for name in node.input]
        self.uses = Counter([*used, *(one.name for one in model.graph.output)])
        self.tensors: dict[str, ir.Tensor] = {}
        self.ops: dict[str, ir.Op] = {}
        self.values: dict[str, Value] = {}
        self._names: Counter[str] = Counter()
        self._folded = 0

    def name(self, stem: str) -> str:
        """The next name of a kind: conv_1, conv_2, ..."""
        self._names[stem] += 1
        return f"{stem}_{self._names[stem]}"

    def emit(self, op: ir.Op) -> Value:
        """Add an operator whose output's shape follows from its inputs. Raises InputError where they don't fit."""
        shape = output_shape(op, [self.tensors[name].shape for name in op.inputs])
        self.ops[op.output] = op
        return self.tensor(op.output, (shape[0], *shape[-1:], *shape[1:-1]) if len(shape) > 2 else shape)

    def tensor(self, name: str, shape: tuple[int, ...], flattened: tuple[int, ...] | None = None) -> Value:
        """Add an activation; shape: channels second."""
        if not all(size > 0 for size in shape) or math.prod(shape) > LARGEST_TENSOR:
            raise InputError(f"shape {shape}: expected 1 to {LARGEST_TENSOR} elements, only the batch free")
        self.tensors[name] = ir.Tensor(name, (shape[0], *shape[2:], shape[1]) if len(shape) > 2 else shape)
        return Value(name, shape, flattened)

    def constant(self, name: str, data: np.ndarray) -> str:
        """Add a constant in the graph's order of axes; its name is returned."""
        self.tensors[name] = ir.Tensor(name, data.shape, data=np.ascontiguousarray(data))
        return name

    def fold(self, node: onnx.NodeProto) -> None:
        """Compute a node whose inputs are all constants; those that nothing else reads are let go.

        Raises InputError where they are not float32, or folding grows out of proportion.
        """
        inputs = [self._array(name) for name in node.input]
        self._folded += sum(one.size for one in inputs)
        if self._folded > MOST_FOLDED:
            raise InputError(
                f"constants to compute of more than {MOST_FOLDED} elements in all: not a network's weights"
            )
        attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        self.constants[node.output[0]] = fold(node.op_type, inputs, **attributes)
        for name in node.input:
            self.uses[name] -= 1
            if not self.uses[name]:
                del self.constants[name]

    def floats(self, name: str, rank: int | None = None) -> np.ndarray:
        """A constant of the model, float32 of so many axes. Raises InputError where it is anything else."""
        array = self._array(name)
        if array.dtype != np.float32 or rank not in (None, array.ndim):
            expected = "float32" if rank is None else f"float32 of {rank}"
            raise InputError(f"{name!r} is {array.dtype} of {array.ndim} axes: expected {expected}")
        return array

    def integers(self, node: onnx.NodeProto, index: int) -> list[int]:
        """A node's input that is a few constant integers. Raises InputError where it is anything else."""
        if len(node.input) <= index or not node.input[index]:
            raise InputError(f"input {index} is left out: expected constant integers")
        array = self._array(node.input[index])
        if array.dtype != np.int64 or array.ndim != 1 or array.size > 16:
            raise InputError(f"{node.input[index]!r} is {array.dtype} of shape {array.shape}: expected a few int64")
        return array.tolist()

    def _array(self, name: str) -> np.ndarray:
        tensor = self.constants.get(name)
        if tensor is None:
            raise UnsupportedError(f"{name!r} is not constant: expected weights, shapes and axes in the file")
        if isinstance(tensor, np.ndarray):
            return tensor
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise InputError(f"{name!r} lies in a file of its own: expected weights inside the model")
        return numpy_helper.to_array(tensor)
