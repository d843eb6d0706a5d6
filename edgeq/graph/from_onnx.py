"""Read a float ONNX model into a Graph: the operators of graph.ir; anything else is refused by name.

Channels move from the second axis to the last, a flattened map's order moves into the dense layer behind it, ReLU is
fused, and tensors get the names that lowering gives: input, conv_1, pool_1, ..., conv_1.weight, conv_1.bias.
To read one more kind of operator, add a method to `_Reader` and name it in READERS below.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from edgeq.errors import InputError
from edgeq.graph import ir, model_file
from edgeq.graph.check import LARGEST_TENSOR, check, output_shape

# What a damaged model raises where its fields are not what their names promise.
_DAMAGE = (TypeError, ValueError, LookupError, AttributeError, OverflowError)


class _UnsupportedError(InputError):
    """An operator that graph.ir doesn't have; constant folding may yet remove it."""


def read(source: bytes | Path) -> ir.Graph:
    """The float graph in an ONNX model, given as bytes or as a path; a free batch size becomes 1.

    Input NCHW, weights inside the file. Where an operator isn't known, onnxsim (when it is installed) gets to fold what
    is constant, and what it leaves is read. Raises InputError where the file can't be read, is damaged, or holds an
    operator that graph.ir doesn't have; the message names the node.
    """
    name, data = ("ONNX bytes", source) if isinstance(source, bytes) else (str(source), model_file.content(source))
    try:
        model = onnx.load_model_from_string(data)
        try:
            return check(_Reader(model).graph())
        except _UnsupportedError:
            simplified = _simplified(model)
            if simplified is None:
                raise
            return check(_Reader(simplified).graph())
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    except (DecodeError, *_DAMAGE) as error:
        raise InputError(f"{name}: damaged ONNX model, or none; export or copy it again") from error


def _simplified(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The model after onnxsim, where that has fewer nodes; it runs only on models that ONNX's checker accepts."""
    try:
        import onnxsim

        onnx.checker.check_model(model, full_check=True)
        shapes = {source.name: [1, *_sizes(source)[1:]] for source in _inputs(model.graph)}
        simple, _ = onnxsim.simplify(model, overwrite_input_shapes=shapes, certify=False)
    except ImportError:
        return None
    except Exception:  # whatever a foreign C++ library makes of a model that it can't fold
        return None
    return simple if len(simple.graph.node) < len(model.graph.node) else None


@dataclass(frozen=True)
class _Value:
    """What an ONNX value is in the graph.

    shape: channels second, as in ONNX. flattened: for a flattened map, the (channels, rows, ...) that it had: its
    columns lie in the graph's order, channels last.
    """

    name: str
    shape: tuple[int, ...]
    flattened: tuple[int, ...] | None = None


class _Reader:
    """Walks the nodes once, emitting operators; a ReLU changes the operator before it."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model, self.source = model, model.graph
        self.opset = max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=0)
        self.constants = {one.name: one for one in self.source.initializer}
        used = [name for node in self.source.node for name in node.input]
        self.uses = Counter([*used, *(one.name for one in self.source.output)])
        self.tensors: dict[str, ir.Tensor] = {}
        self.ops: dict[str, ir.Op] = {}
        self.values: dict[str, _Value] = {}
        self.names: Counter[str] = Counter()

    def graph(self) -> ir.Graph:
        inputs = _inputs(self.source)
        if len(inputs) != 1 or len(self.source.output) != 1:
            raise InputError(f"{len(inputs)} inputs, {len(self.source.output)} outputs: expected one and one")
        shape = _sizes(inputs[0])
        if inputs[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT or shape[0] not in (0, 1):
            raise InputError(f"input {inputs[0].name!r}: not float32, or a fixed batch of several; expected batch 1")
        self.values[inputs[0].name] = self.tensor("input", (1, *shape[1:]))
        for node in self.source.node:
            self.read(node)
        result = self.values.get(self.source.output[0].name)
        if result is None or result.flattened is not None:
            raise InputError(f"output {self.source.output[0].name!r}: a constant or a flattened map; expected scores")
        metadata = {one.key: one.value for one in self.model.metadata_props}
        # protobuf gives bytes where a string is no UTF-8.
        if not all(isinstance(word, str) for word in (self.source.name, *metadata, *metadata.values())):
            raise InputError("the graph's name or metadata is no text: expected UTF-8")
        name = self.source.name or "graph"
        return ir.Graph(name, self.tensors, tuple(self.ops.values()), "input", result.name, metadata)

    def read(self, node: onnx.NodeProto) -> None:
        where = f"node {node.name or (node.output[0] if node.output else '')!r} ({node.op_type})"
        reader = READERS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if reader is None:
            raise _UnsupportedError(f"{where}: not supported; supported are {', '.join(READERS)}")
        attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        if node.op_type == "Constant":
            self.constants[node.output[0]] = attributes["value"]
            return
        x = self.values.get(node.input[0]) if node.input else None
        if x is None:
            raise _UnsupportedError(f"{where}: its input is a constant, or is not there; expected an activation")
        try:
            self.values[node.output[0]] = reader(self, node, x, attributes)
        except _UnsupportedError as error:
            raise _UnsupportedError(f"{where}: {error}") from None
        except InputError as error:
            raise InputError(f"{where}: {error}") from None

    def convolution(self, node: onnx.NodeProto, x: _Value, attributes: dict[str, Any]) -> _Value:
        kernel = self.floats(node.input[1], 4)
        _expect(attributes, "group", 1)
        _expect(attributes, "dilations", [1, 1])
        _expect(attributes, "auto_pad", b"NOTSET", b"VALID")
        above, left, below, right = attributes.get("pads", (0, 0, 0, 0))
        name = self.name("conv")
        weight = self.constant(f"{name}.weight", kernel.transpose(0, 2, 3, 1))
        bias = self.constant(f"{name}.bias", self.bias(node, len(kernel)))
        stride = _pair(attributes.get("strides", (1, 1)))
        return self.emit(ir.Conv2D((x.name, weight, bias), name, stride, (above, below, left, right)))

    def dense(self, node: onnx.NodeProto, x: _Value, attributes: dict[str, Any]) -> _Value:
        for attribute, expected in (("alpha", 1.0), ("beta", 1.0), ("transA", 0)):
            _expect(attributes, attribute, expected)
        matrix = self.floats(node.input[1], 2)
        if not attributes.get("transB", 0):
            matrix = matrix.T
        if x.flattened is not None and math.prod(x.flattened) == matrix.shape[1]:
            matrix = matrix[:, np.moveaxis(np.arange(matrix.shape[1]).reshape(x.flattened), 0, -1).ravel()]
        name = self.name("dense")
        weight = self.constant(f"{name}.weight", matrix)
        bias = self.constant(f"{name}.bias", self.bias(node, len(matrix)))
        return self.emit(ir.FullyConnected((x.name, weight, bias), name))

    def pool(self, node: onnx.NodeProto, x: _Value, attributes: dict[str, Any]) -> _Value:
        _expect(attributes, "auto_pad", b"NOTSET", b"VALID")
        _expect(attributes, "ceil_mode", 0)
        _expect(attributes, "pads", [0, 0, 0, 0])
        _expect(attributes, "dilations", [1, 1])
        window = _pair(attributes["kernel_shape"])
        kind = ir.AveragePool2D if node.op_type == "AveragePool" else ir.MaxPool2D
        return self.emit(kind((x.name,), self.name("pool"), window, _pair(attributes.get("strides", (1, 1)))))

    def global_pool(self, node: onnx.NodeProto, x: _Value, attributes: dict[str, Any]) -> _Value:
        kind = ir.Mean if node.op_type == "GlobalAveragePool" else ir.ReduceMax
        return self.reduced(kind, x, list(range(2, len(x.shape))), keep=True)

    def reduction(self, node: onnx.NodeProto, x: _Value, attributes: dict[str, Any]) -> _Value:
        axes = attributes["axes"] if "axes" in attributes else self.integers(node, 1)
        kind = ir.Mean if node.op_type == "ReduceMean" else ir.ReduceMax
        return self.reduced(kind, x, [axis % len(x.shape) for axis in axes], bool(attributes.get("keepdims", 1)))

    def reduced(self, kind: type[ir.Mean] | type[ir.ReduceMax], x: _Value, axes: list[int], keep: bool) -> _Value:
        if not axes or min(axes) < 2:
            raise InputError(f"over axes {axes}: expected over rows or columns, not batch or channels")
        name = self.name("mean" if kind is ir.Mean else "max")
        y = self.emit(kind((x.name,), name, tuple(sorted(axis - 1 for axis in axes))))
        return self.reshaped(y, tuple(1 if n in axes else size for n, size in enumerate(x.shape))) if keep else y

    def add(self, node: onnx.NodeProto, x: _Value, attributes: dict[str, Any]) -> _Value:
        y = self.values.get(node.input[1])
        if y is None or (x.shape, x.flattened) != (y.shape, y.flattened):
            raise _UnsupportedError("a constant, or two shapes: expected two activations of one shape")
        return replace(self.emit(ir.Add((x.name, y.name), self.name("add"))), flattened=x.flattened)

    def relu(self, node: onnx.NodeProto, x: _Value, attributes: dict[str, Any]) -> _Value:
        op = self.ops.get(x.name)
        if isinstance(op, (ir.Conv2D, ir.FullyConnected, ir.Add)) and self.uses[node.input[0]] == 1:
            self.ops[x.name] = replace(op, activation=ir.RELU)
            return x
        return self.elementwise(node, x, attributes)

    def elementwise(self, node: onnx.NodeProto, x: _Value, attributes: dict[str, Any]) -> _Value:
        kind, stem = {"Relu": (ir.Relu, "relu"), "Tanh": (ir.Tanh, "tanh"), "Sigmoid": (ir.Logistic, "logistic")}[
            node.op_type
        ]
        name = stem if kind is ir.Logistic and stem not in self.ops else self.name(stem)
        return replace(self.emit(kind((x.name,), name)), flattened=x.flattened)

    def softmax(self, node: onnx.NodeProto, x: _Value, attributes: dict[str, Any]) -> _Value:
        axis = attributes.get("axis", -1 if self.opset >= 13 else 1)
        if axis % len(x.shape) != 1 or x.flattened or (len(x.shape) > 2 and self.opset < 13):
            raise InputError(f"over axis {axis} of {x.shape}: expected over channels or classes")
        return self.emit(ir.Softmax((x.name,), "softmax" if "softmax" not in self.ops else self.name("softmax")))

    def pad(self, node: onnx.NodeProto, x: _Value, attributes: dict[str, Any]) -> _Value:
        _expect(attributes, "mode", b"constant")
        pads = attributes["pads"] if "pads" in attributes else self.integers(node, 1)
        value = self.floats(node.input[2], 0) if len(node.input) > 2 and node.input[2] else attributes.get("value", 0.0)
        if len(pads) != 8 or any(pads[n] for n in (0, 1, 4, 5)) or value != 0 or len(node.input) > 3:
            raise InputError(f"pads {pads}, value {value}: expected zeros around rows and columns only")
        return self.emit(ir.Pad((x.name,), self.name("pad"), (pads[2], pads[6], pads[3], pads[7])))

    def flatten(self, node: onnx.NodeProto, x: _Value, attributes: dict[str, Any]) -> _Value:
        _expect(attributes, "axis", 1)
        return self.reshaped(x, (1, math.prod(x.shape[1:])))

    def reshape(self, node: onnx.NodeProto, x: _Value, attributes: dict[str, Any]) -> _Value:
        target = self.integers(node, 1)
        if not attributes.get("allowzero", 0):
            target = [x.shape[n] if size == 0 and n < len(x.shape) else size for n, size in enumerate(target)]
        if target.count(-1) == 1:
            rest = math.prod(size for size in target if size != -1)
            target[target.index(-1)] = math.prod(x.shape) // rest if rest > 0 else 0
        return self.reshaped(x, tuple(target))

    def squeeze(self, node: onnx.NodeProto, x: _Value, attributes: dict[str, Any]) -> _Value:
        axes = [axis % len(x.shape) for axis in attributes.get("axes") or self.integers(node, 1)]
        if any(axis < 2 or x.shape[axis] != 1 for axis in axes):
            raise InputError(f"axes {axes} of {x.shape}: expected rows or columns of size 1")
        return self.reshaped(x, tuple(size for n, size in enumerate(x.shape) if n not in axes))

    def same(self, node: onnx.NodeProto, x: _Value, attributes: dict[str, Any]) -> _Value:
        return x

    def reshaped(self, x: _Value, target: tuple[int, ...]) -> _Value:
        """A reshape that the graph's order of axes can follow: flattening, or axes of size 1 that come and go."""
        if target == x.shape:
            return x
        if math.prod(target) != math.prod(x.shape) or target[:1] != (1,) or len(target) < 2 or x.flattened is not None:
            raise InputError(f"{x.shape} to {target}: expected the batch and the number of elements to stay")
        if len(target) == 2:
            maps = math.prod(x.shape[2:]) > 1
            y = self.tensor(self.name("reshape"), target, x.shape[1:] if maps else None)
        elif target[1] == x.shape[1] and _longer(target[2:]) == _longer(x.shape[2:]):
            y = self.tensor(self.name("reshape"), target)
        else:
            raise InputError(f"{x.shape} to {target}: expected flattening, or axes of size 1 added or dropped")
        self.ops[y.name] = ir.Reshape((x.name,), y.name)
        return y

    def emit(self, op: ir.Op) -> _Value:
        shape = output_shape(op, [self.tensors[name].shape for name in op.inputs])
        self.ops[op.output] = op
        return self.tensor(op.output, (shape[0], *shape[-1:], *shape[1:-1]) if len(shape) > 2 else shape)

    def tensor(self, name: str, shape: tuple[int, ...], flattened: tuple[int, ...] | None = None) -> _Value:
        if not all(size > 0 for size in shape) or math.prod(shape) > LARGEST_TENSOR:
            raise InputError(f"shape {shape}: expected 1 to {LARGEST_TENSOR} elements, only the batch free")
        self.tensors[name] = ir.Tensor(name, (shape[0], *shape[2:], shape[1]) if len(shape) > 2 else shape)
        return _Value(name, shape, flattened)

    def constant(self, name: str, data: np.ndarray) -> str:
        self.tensors[name] = ir.Tensor(name, data.shape, data=np.ascontiguousarray(data))
        return name

    def bias(self, node: onnx.NodeProto, channels: int) -> np.ndarray:
        if len(node.input) < 3 or not node.input[2]:
            return np.zeros(channels, np.float32)
        return self.floats(node.input[2], 1)

    def floats(self, name: str, rank: int) -> np.ndarray:
        array = self.array(name)
        if array.dtype != np.float32 or array.ndim != rank:
            raise InputError(f"{name!r} is {array.dtype} of {array.ndim} axes: expected float32 of {rank}")
        return array

    def integers(self, node: onnx.NodeProto, index: int) -> list[int]:
        if len(node.input) <= index or not node.input[index]:
            raise InputError(f"input {index} is left out: expected constant integers")
        array = self.array(node.input[index])
        if array.dtype != np.int64 or array.ndim != 1 or array.size > 16:
            raise InputError(f"{node.input[index]!r} is {array.dtype} of shape {array.shape}: expected a few int64")
        return array.tolist()

    def array(self, name: str) -> np.ndarray:
        tensor = self.constants.get(name)
        if tensor is None:
            raise _UnsupportedError(f"{name!r} is not constant: expected weights, shapes and axes in the file")
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise InputError(f"{name!r} lies in a file of its own: expected weights inside the model")
        return numpy_helper.to_array(tensor)

    def name(self, stem: str) -> str:
        self.names[stem] += 1
        return f"{stem}_{self.names[stem]}"


READERS: dict[str, Callable[[_Reader, onnx.NodeProto, _Value, dict[str, Any]], _Value]] = {
    "Conv": _Reader.convolution,
    "Gemm": _Reader.dense,
    "AveragePool": _Reader.pool,
    "MaxPool": _Reader.pool,
    "GlobalAveragePool": _Reader.global_pool,
    "GlobalMaxPool": _Reader.global_pool,
    "ReduceMean": _Reader.reduction,
    "ReduceMax": _Reader.reduction,
    "Add": _Reader.add,
    "Relu": _Reader.relu,
    "Tanh": _Reader.elementwise,
    "Sigmoid": _Reader.elementwise,
    "Softmax": _Reader.softmax,
    "Pad": _Reader.pad,
    "Flatten": _Reader.flatten,
    "Reshape": _Reader.reshape,
    "Squeeze": _Reader.squeeze,
    "Identity": _Reader.same,
    "Constant": _Reader.same,
}


def _inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    initializers = {one.name for one in graph.initializer}
    return [one for one in graph.input if one.name not in initializers]


def _sizes(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """Sizes of axes, 0 where one is free."""
    sizes = tuple(one.dim_value for one in value.type.tensor_type.shape.dim)
    if len(sizes) < 2:
        raise InputError(f"input {value.name!r} of {len(sizes)} axes: expected (N, channels, ...)")
    return sizes


def _expect(attributes: dict[str, Any], name: str, *expected: Any) -> None:
    if name in attributes and attributes[name] not in expected:
        raise InputError(f"{name} {attributes[name]}: expected {expected[0]}")


def _pair(sizes: Any) -> tuple[int, int]:
    rows, columns = sizes
    return rows, columns


def _longer(sizes: tuple[int, ...]) -> list[int]:
    return [size for size in sizes if size > 1]
