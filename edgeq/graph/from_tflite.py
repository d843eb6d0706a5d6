"""Read a .tflite file into a Graph: the operators of graph.ir; anything else is refused by name.

The graph is what the file computes from int8 codes to int8 codes: QUANTIZE and DEQUANTIZE at a float edge are left out,
uint8 codes at an edge are int8 codes 128 lower, operators that nothing needs are dropped, and a tensor of which the
first axis is not the batch gets one before it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import replace
from mmap import mmap
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeq.errors import InputError
from edgeq.graph import ir, model_file, tflite_format, tflite_operators
from edgeq.graph.check import check
from edgeq.graph.tflite_reading import Node, Reading

_MAX_RANK = 8
_MOST_TABLES = 1 << 16  # operators, tensors or buffers
_LONGEST_NAME = 60  # in an error
_LONGEST_KEPT = 1000
_READS = 16  # how many times its own length a file may have read: its tables can share what they point at
_DTYPES = {**{number: name for name, number in tflite_format.TYPES.items()}, schema.TensorType.UINT8: "uint8"}
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
        self.unread = _READS * len(data)
        self.model = schema.Model.GetRootAs(data)
        if self.model.Version() != tflite_format.SCHEMA_VERSION:
            raise InputError(f"schema version {self.model.Version()}: expected {tflite_format.SCHEMA_VERSION}")
        self.buffers = self.items(self.model, "Buffers")
        subgraphs = self.items(self.model, "Subgraphs")
        if len(subgraphs) != 1:
            raise InputError(f"{len(subgraphs)} subgraphs: expected one")
        self.subgraph = subgraphs[0]
        self.names: set[str] = set()
        self.unsigned: set[str] = set()
        self.tensors = [self.tensor(table, n) for n, table in enumerate(self.items(self.subgraph, "Tensors"))]

    def graph(self) -> ir.Graph:
        source, result = self.single("Inputs"), self.single("Outputs")
        if source.data is not None or source.shape[:1] != (1,):
            raise InputError(f"input {source.name!r} of shape {source.shape}: expected a batch of 1")
        codes = [self.kind(code) for code in self.items(self.model, "OperatorCodes")]
        reading = Reading(self.tensors, source.name, result.name, self.unsigned)
        for table, kind, version in self.needed(codes, result):
            tflite_operators.parse(reading, self.node(table, kind, version))
        return reading.graph(self.text(self.subgraph.Name()) or "main", self.metadata())

    def items(self, table: Any, field: str) -> list[Any]:
        """All elements of a table's vector of tables."""
        count = getattr(table, f"{field}Length")()
        if count * 4 > len(self.data) or count > _MOST_TABLES:
            raise InputError(f"{count} {field.lower()}: more than the file has room for, or than {_MOST_TABLES}")
        return [getattr(table, field)(index) for index in range(count)]

    def numbers(self, table: Any, field: str) -> np.ndarray:
        """A table's vector of numbers; empty where it is absent."""
        if getattr(table, f"{field}IsNone")():
            return np.zeros(0, np.int32)
        found: np.ndarray = getattr(table, f"{field}AsNumpy")()
        self.spend(found.nbytes)
        return found

    def text(self, words: bytes | None) -> str:
        self.spend(len(words or b""))
        return (words or b"").decode()

    def spend(self, count: int) -> None:
        """Count bytes that were read: many tables that point at one long vector would keep a reader busy for ever."""
        self.unread -= count
        if self.unread < 0:
            raise InputError(f"tables that share their contents more than {_READS} times over: damaged; copy it again")

    def single(self, field: str) -> ir.Tensor:
        indices = self.numbers(self.subgraph, field)
        if indices.size != 1:
            raise InputError(f"{indices.size} {field.lower()}: expected one")
        return self.at(int(indices[0]))

    def at(self, index: int) -> ir.Tensor:
        if not 0 <= index < len(self.tensors):
            raise InputError(f"tensor number {index} of {len(self.tensors)}: no such tensor")
        return self.tensors[index]

    def tensor(self, table: Any, number: int) -> ir.Tensor:
        name = self.name(self.text(table.Name()), number)
        where = f"tensor {_short(name)!r}"
        shape, signature = self.numbers(table, "Shape"), self.numbers(table, "ShapeSignature")
        if max(shape.size, signature.size) > _MAX_RANK:
            raise InputError(f"{where}: {max(shape.size, signature.size)} axes: expected at most {_MAX_RANK}")
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
        tensor = ir.Tensor(name, sizes, dtype, self.value(table, where, sizes, dtype), self.quantization(table, where))
        return self.signed(tensor) if dtype == "uint8" else tensor

    def name(self, name: str, number: int) -> str:
        """A tensor's name, or one of its own where it has none or too long a one, or another tensor has it."""
        name = name[:_LONGEST_KEPT]
        if not name or name in self.names:
            name = f"{name or 'tensor'}.{number}"
            while name in self.names:
                name += "_"
        self.names.add(name)
        return name

    def signed(self, tensor: ir.Tensor) -> ir.Tensor:
        """uint8 codes as int8 ones: 128 less, zero point and all. Only at the graph's edges, see tflite_operators."""
        self.unsigned.add(tensor.name)
        quantization = tensor.quantization
        if quantization is not None:
            quantization = replace(quantization, zero_point=quantization.zero_point - 128)
        return replace(tensor, dtype="int8", data=None, quantization=quantization)

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
        lowest, highest = (0, 255) if table.Type() == schema.TensorType.UINT8 else (-128, 127)
        if zero_point.size and (zero_point.min() < lowest or zero_point.max() > highest):
            found = f"{zero_point.min()} to {zero_point.max()}"
            raise InputError(f"{where}: zero points {found}: expected {lowest} to {highest}")
        return ir.Quantization(scale, zero_point.astype(np.int32), parameters.QuantizedDimension())

    def needed(self, codes: Sequence[tuple[str, int]], result: ir.Tensor) -> list[tuple[Any, str, int]]:
        """The operators that the result needs, in order, each with its kind and version.

        Shapes that a converter left to be computed are not followed: tensors state them.
        """
        found, wanted = [], {result.name}
        written: set[str] = set()
        for table in reversed(self.items(self.subgraph, "Operators")):
            if table.OpcodeIndex() >= len(codes):
                raise InputError(f"operator code number {table.OpcodeIndex()} of {len(codes)}: no such code")
            kind, version = codes[table.OpcodeIndex()]
            outputs = {self.at(int(index)).name for index in self.numbers(table, "Outputs")}
            if wanted.isdisjoint(outputs):
                continue
            twice = next(iter(written & outputs), None)
            if twice is not None:
                raise InputError(f"operator {kind} {_short(twice)!r}: its output is written twice")
            written |= outputs
            found.append((table, kind, version))
            inputs = self.numbers(table, "Inputs")
            followed = inputs[:1] if kind in tflite_operators.RESHAPES else inputs
            wanted.update(self.at(int(index)).name for index in followed if index >= 0)
        return found[::-1]

    def node(self, table: Any, kind: str, version: int) -> Node:
        outputs = [self.at(int(index)) for index in self.numbers(table, "Outputs")]
        where = f"operator {kind} {_short(outputs[0].name)!r}"
        if kind in ("SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"):
            raise InputError(f"{where}: not supported; converted with a batch of 1, dilation is the convolution's own")
        if kind not in tflite_operators.PARSERS:
            raise InputError(f"{where}: not supported; supported are {', '.join(tflite_operators.PARSERS)}")
        newest = tflite_format.READ_VERSIONS[kind]
        if not 1 <= version <= newest:
            raise InputError(f"{where}: version {version}: expected 1 to {newest}")
        inputs = [None if index == -1 else self.at(int(index)) for index in self.numbers(table, "Inputs")]
        if len(outputs) != 1 and kind not in tflite_operators.SPLITS:
            raise InputError(f"{where}: {len(outputs)} outputs: expected one")
        return Node(kind, inputs, outputs, table, where)

    def kind(self, code: Any) -> tuple[str, int]:
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = tflite_format.name_of(schema.BuiltinOperator, number)
        if name == "CUSTOM":
            name = f"CUSTOM {self.text(code.CustomCode())}"
        return name, code.Version()

    def metadata(self) -> dict[str, str]:
        for entry in self.items(self.model, "Metadata"):
            if self.text(entry.Name()) == tflite_format.METADATA_NAME and entry.Buffer() < len(self.buffers):
                words = json.loads(self.numbers(self.buffers[entry.Buffer()], "Data").tobytes())
                if not isinstance(words, dict) or not all(isinstance(word, str) for word in words.values()):
                    raise InputError(f"metadata {tflite_format.METADATA_NAME!r}: expected a JSON object of strings")
                return words
        return {}


def _short(name: str) -> str:
    """A name for an error: TensorFlow's converter strings the names of all that it fused together."""
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..."
