"""Read a .tflite file into a Graph: the operators of graph.ir; anything else is refused by name."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from mmap import mmap
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeq.errors import InputError
from edgeq.graph import ir, model_file, tflite_format, tflite_operators
from edgeq.graph.check import check

_MAX_RANK = 8
_LONGEST_NAME = 60  # in an error
_DTYPES = {number: name for name, number in tflite_format.TYPES.items()}
# What reading a damaged flatbuffer raises: offsets outside the file, vectors longer than it, tables that are not there,
# names that are no text.
_DAMAGE = (struct.error, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)


def read(source: bytes | Path) -> ir.Graph:
    """The graph in a .tflite file, given as bytes or as a path; constants are views of them, or of the file.

    A file that `export.tflite` wrote comes back as a graph that gives the same bytes again (a PAD that was put before a
    convolution stays an operator). Raises InputError where the file can't be read, is damaged, or holds an operator,
    version, element type or shape that graph.ir doesn't have.
    """
    name, data = ("TFLite bytes", source) if isinstance(source, bytes) else (str(source), model_file.mapped(source))
    if len(data) < 8 or data[4:8] != tflite_format.FILE_IDENTIFIER:
        raise InputError(f"{name}: not a TFLite file (no TFL3 mark): expected what `edgeq export --tflite` writes")
    try:
        return check(_Reader(data).graph())
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    except _DAMAGE as error:
        raise InputError(f"{name}: damaged TFLite file; export or copy it again") from error


class _Reader:
    """One model's tables; every vector is held against the file's length before it is walked."""

    def __init__(self, data: bytes | mmap) -> None:
        self.data = data
        self.model = schema.Model.GetRootAs(data)
        if self.model.Version() != tflite_format.SCHEMA_VERSION:
            raise InputError(f"schema version {self.model.Version()}: expected {tflite_format.SCHEMA_VERSION}")
        self.buffers = self.items(self.model, "Buffers")
        subgraphs = self.items(self.model, "Subgraphs")
        if len(subgraphs) != 1:
            raise InputError(f"{len(subgraphs)} subgraphs: expected one")
        self.subgraph = subgraphs[0]
        self.tensors = [self.tensor(table) for table in self.items(self.subgraph, "Tensors")]

    def graph(self) -> ir.Graph:
        by_name = {tensor.name: tensor for tensor in self.tensors}
        if len(by_name) != len(self.tensors) or "" in by_name:
            raise InputError("tensors without a name, or two of one name: expected each to have its own")
        codes = [_kind(code) for code in self.items(self.model, "OperatorCodes")]
        ops = tuple(self.operator(table, codes) for table in self.items(self.subgraph, "Operators"))
        depthwise = {op.inputs[1] for op in ops if isinstance(op, ir.DepthwiseConv2D)}
        source, result = self.single("Inputs"), self.single("Outputs")
        if source.data is not None or source.shape[:1] != (1,):
            raise InputError(f"input {source.name!r} of shape {source.shape}: expected a batch of 1")
        used = {source.name, *(name for op in ops for name in (*op.inputs, op.output))}
        tensors = {
            name: _filters_first(tensor) if name in depthwise else tensor
            for name, tensor in by_name.items()
            if name in used
        }
        name = _text(self.subgraph.Name())
        return ir.Graph(name, tensors, ops, source.name, result.name, self.metadata())

    def items(self, table: Any, field: str) -> list[Any]:
        """All elements of a table's vector of tables."""
        count = getattr(table, f"{field}Length")()
        if count * 4 > len(self.data):
            raise InputError(f"{count} {field.lower()}: more than the file has room for")
        return [getattr(table, field)(index) for index in range(count)]

    def numbers(self, table: Any, field: str) -> np.ndarray:
        """A table's vector of numbers; empty where it is absent."""
        return np.zeros(0, np.int32) if getattr(table, f"{field}IsNone")() else getattr(table, f"{field}AsNumpy")()

    def single(self, field: str) -> ir.Tensor:
        indices = self.numbers(self.subgraph, field)
        if indices.size != 1:
            raise InputError(f"{indices.size} {field.lower()}: expected one")
        return self.at(int(indices[0]))

    def at(self, index: int) -> ir.Tensor:
        if not 0 <= index < len(self.tensors):
            raise InputError(f"tensor number {index} of {len(self.tensors)}: no such tensor")
        return self.tensors[index]

    def tensor(self, table: Any) -> ir.Tensor:
        name = _text(table.Name())
        where = f"tensor {name!r}"
        shape, signature = self.numbers(table, "Shape"), self.numbers(table, "ShapeSignature")
        if shape.size > _MAX_RANK:
            raise InputError(f"{where}: {shape.size} axes: expected at most {_MAX_RANK}")
        # TensorFlow's converter leaves the batch open and states it as 1.
        if (signature[1:] < 0).any() or ((signature[:1] < 0).any() and shape[:1].tolist() != [1]):
            raise InputError(
                f"{where}: dynamic shape {signature.tolist()}: expected fixed sizes and a batch of 1; "
                "convert the model with a fixed input shape"
            )
        if table.Type() not in _DTYPES:
            found = tflite_format.name_of(schema.TensorType, table.Type())
            raise InputError(f"{where}: element type {found}: expected {', '.join(_DTYPES.values())}")
        if table.IsVariable() or table.Sparsity() is not None:
            raise InputError(f"{where}: a variable or sparse tensor: expected a plain one")
        sizes, dtype = tuple(int(size) for size in shape), _DTYPES[table.Type()]
        return ir.Tensor(name, sizes, dtype, self.value(table, where, sizes, dtype), self.quantization(table, where))

    def value(self, table: Any, where: str, shape: tuple[int, ...], dtype: str) -> np.ndarray | None:
        number = table.Buffer()
        if number >= len(self.buffers):
            raise InputError(f"{where}: buffer number {number} of {len(self.buffers)}: no such buffer")
        buffer = self.buffers[number]
        if buffer.Offset() > 1 or buffer.Size() > 1:
            raise InputError(f"{where}: its data lies outside the flatbuffer: expected a file below 2 GiB")
        content = self.numbers(buffer, "Data")
        if content.size == 0:
            return None
        kind = np.dtype(dtype).newbyteorder("<")
        expected = kind.itemsize * int(np.prod(shape, dtype=object))
        if content.size != expected:
            raise InputError(f"{where}: {content.size} bytes of data: expected {expected} for {shape} of {dtype}")
        return content.view(kind).reshape(shape)

    def quantization(self, table: Any, where: str) -> ir.Quantization | None:
        parameters = table.Quantization()
        if parameters is None or parameters.ScaleLength() == 0:
            return None
        if parameters.DetailsType():
            raise InputError(f"{where}: custom quantization: expected scale and zero point")
        scale, zero_point = self.numbers(parameters, "Scale"), self.numbers(parameters, "ZeroPoint")
        if zero_point.size and (zero_point.min() < -128 or zero_point.max() > 127):
            raise InputError(f"{where}: zero points {zero_point.min()} to {zero_point.max()}: expected -128 to 127")
        return ir.Quantization(scale, zero_point.astype(np.int32), parameters.QuantizedDimension())

    def operator(self, table: Any, codes: list[tuple[str, int]]) -> ir.Op:
        if table.OpcodeIndex() >= len(codes):
            raise InputError(f"operator code number {table.OpcodeIndex()} of {len(codes)}: no such code")
        kind, version = codes[table.OpcodeIndex()]
        outputs = self.numbers(table, "Outputs")
        if outputs.size != 1:
            raise InputError(f"operator {kind}: {outputs.size} outputs: expected one")
        result = self.at(int(outputs[0]))
        # TensorFlow's converter strings the names of all that it fused together.
        name = result.name if len(result.name) <= _LONGEST_NAME else f"{result.name[:_LONGEST_NAME]}..."
        where = f"operator {kind} {name!r}"
        if kind not in ir.OPS:
            raise InputError(f"{where}: not supported; supported are {', '.join(ir.OPS)}")
        if not 1 <= version <= tflite_format.INT8_VERSIONS[kind]:
            raise InputError(f"{where}: version {version}: expected 1 to {tflite_format.INT8_VERSIONS[kind]}")
        indices = self.numbers(table, "Inputs")
        if indices.size == 0 or (indices < 0).any():
            raise InputError(f"{where}: an input is left out: expected weights, bias and the like to be there")
        inputs = [self.at(int(index)) for index in indices]
        return tflite_operators.parse(kind, inputs, result, table, where)

    def metadata(self) -> dict[str, str]:
        for entry in self.items(self.model, "Metadata"):
            if _text(entry.Name()) == tflite_format.METADATA_NAME and entry.Buffer() < len(self.buffers):
                words = json.loads(self.numbers(self.buffers[entry.Buffer()], "Data").tobytes())
                if not isinstance(words, dict) or not all(isinstance(word, str) for word in words.values()):
                    raise InputError(f"metadata {tflite_format.METADATA_NAME!r}: expected a JSON object of strings")
                return words
        return {}


def _filters_first(weight: ir.Tensor) -> ir.Tensor:
    """Depthwise weights, (1, height, width, out) in the file, as the graph has them: (out, height, width, 1)."""
    if weight.data is None or len(weight.shape) != 4:
        return weight  # which the graph's check refuses
    quantization = weight.quantization
    if quantization is not None and quantization.scale.size > 1:
        quantization = replace(quantization, axis=0 if quantization.axis == 3 else 3)
    data = weight.data.transpose(3, 1, 2, 0)
    return replace(weight, shape=data.shape, data=data, quantization=quantization)


def _kind(code: Any) -> tuple[str, int]:
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    name = tflite_format.name_of(schema.BuiltinOperator, number)
    if name == "CUSTOM":
        name = f"CUSTOM {_text(code.CustomCode())}"
    return name, code.Version()


def _text(words: bytes | None) -> str:
    return (words or b"").decode()
