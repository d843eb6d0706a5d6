"""Read a float ONNX model into a Graph: the operators of graph.ir; anything else is refused by name.

Channels move from the second axis to the last, a flattened map's order moves into the dense layer behind it, ReLU is
fused, and tensors get the names that lowering gives: input, conv_1, pool_1, ..., conv_1.weight, conv_1.bias.
What each kind of operator becomes is in `onnx_operators`; this walks the nodes and asks it.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from edgeq.errors import InputError, naming
from edgeq.graph import ir, model_file
from edgeq.graph.check import check
from edgeq.graph.onnx_folding import FOLDABLE
from edgeq.graph.onnx_operators import COMMUTATIVE, OPERATORS
from edgeq.graph.onnx_reading import Reading, UnsupportedError

# What a damaged model raises where its fields are not what their names promise.
_DAMAGE = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError)


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
            return check(_graph(model))
        except UnsupportedError:
            simplified = _simplified(model)
            if simplified is None:
                raise
            return check(_graph(simplified))
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


def _graph(model: onnx.ModelProto) -> ir.Graph:
    graph, source = Reading(model), model.graph
    inputs = _inputs(source)
    if len(inputs) != 1 or len(source.output) != 1:
        raise InputError(f"{len(inputs)} inputs, {len(source.output)} outputs: expected one and one")
    shape = _sizes(inputs[0])
    if inputs[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT or shape[0] not in (0, 1):
        raise InputError(f"input {inputs[0].name!r}: not float32, or a fixed batch of several; expected batch 1")
    graph.values[inputs[0].name] = graph.tensor("input", (1, *shape[1:]))
    for node in source.node:
        _read_node(graph, node)
    result = graph.values.get(source.output[0].name)
    if result is None or result.flattened is not None:
        raise InputError(f"output {source.output[0].name!r}: a constant or a flattened map; expected scores")
    metadata = {one.key: one.value for one in model.metadata_props}
    # protobuf gives bytes where a string is no UTF-8.
    if not all(isinstance(word, str) for word in (source.name, *metadata, *metadata.values())):
        raise InputError("the graph's name or metadata is no text: expected UTF-8")
    name = source.name or "graph"
    return ir.Graph(name, graph.tensors, tuple(graph.ops.values()), "input", result.name, metadata)


def _read_node(graph: Reading, node: onnx.NodeProto) -> None:
    where = f"node {node.name or (node.output[0] if node.output else '')!r} ({node.op_type})"
    standard = node.domain in ("", "ai.onnx")
    if standard and node.op_type in FOLDABLE and all(name in graph.constants for name in node.input):
        with naming(where):
            graph.fold(node)
        return
    operator = OPERATORS.get(node.op_type) if standard else None
    if operator is None:
        raise UnsupportedError(f"{where}: not supported; supported are {', '.join(OPERATORS)}")
    attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    if node.op_type == "Constant":
        graph.constants[node.output[0]] = attributes["value"]
        return
    first = next((name for name in node.input if name in graph.values), None)
    if first is None or (first != node.input[0] and node.op_type not in COMMUTATIVE):
        raise UnsupportedError(f"{where}: its input is a constant, or is not there; expected an activation")
    if node.op_type != "Transpose" and any(name in graph.values and graph.values[name].stacked for name in node.input):
        raise UnsupportedError(
            f"{where}: of rows cut from one: expected them transposed first, so that channels are second"
        )
    try:
        graph.values[node.output[0]] = operator(graph, node, graph.values[first], attributes)
    except UnsupportedError as error:
        raise UnsupportedError(f"{where}: {error}") from None
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    initializers = {one.name for one in graph.initializer}
    return [one for one in graph.input if one.name not in initializers]


def _sizes(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """Sizes of axes, 0 where one is free."""
    sizes = tuple(one.dim_value for one in value.type.tensor_type.shape.dim)
    if len(sizes) < 2:
        raise InputError(f"input {value.name!r} of {len(sizes)} axes: expected (N, channels, ...)")
    return sizes
