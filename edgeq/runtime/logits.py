"""Logits of an INT8 file, before softmax rounds them away: what a network that decides nothing is judged by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.batches import batches
from edgeq.errors import InputError
from edgeq.graph import from_tflite, model_file, reference
from edgeq.graph.ir import Concatenation, Graph, Logistic, Mean, Reshape, Softmax
from edgeq.runtime import onnx_runtime
from edgeq.runtime.face import missing, unreadable


def tflite_logits(path: Path, features: np.ndarray) -> np.ndarray:
    """Logits of an int8 .tflite file in LiteRT, in the kernels that `runtime.litert` runs it with.

    features: float32 (n, components, mels, frames). Returns float32 (n, classes). Of an ensemble, whose file ends in
    the mean of several members' probabilities, those of the mean, computed in float from each member's logits.
    Raises InputError where the file is no such model, or does not end in SOFTMAX or LOGISTIC.
    """
    graph = from_tflite.read(path)
    ends = _ends(graph)
    if not ends or not graph.quantized:
        raise InputError(f"{path}: expected an int8 model that ends in SOFTMAX or LOGISTIC, or in a mean of them")
    content = model_file.content(path)
    found = [_tflite_tensor(graph, content, end.inputs[0], features) for end in ends]
    return logits_of_mean(found, isinstance(ends[0], Logistic))


def onnx_logits(path: Path, features: np.ndarray) -> np.ndarray:
    """Logits of an ONNX file in onnxruntime; arguments and errors as `tflite_logits`, or where onnx is missing."""
    try:
        import onnx
    except ImportError as error:
        raise missing("onnx", "pip install 'edgeq[export]'") from error
    onnxruntime = onnx_runtime.load()
    model: Any = onnx.load_from_string(model_file.content(path))
    ends = _onnx_ends(model.graph)
    if not ends:
        raise InputError(f"{path}: expected a model that ends in Softmax or Sigmoid, or in a mean of them")
    logits = [node.input[0] for node in ends]
    for name in logits:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        source = session.get_inputs()[0].name
        rows = [session.run(logits, {source: batch}) for batch in batches(features)]
    except Exception as error:  # its exceptions share no base of their own
        raise unreadable(str(path), "onnxruntime", error) from error
    return logits_of_mean([np.concatenate(each) for each in zip(*rows, strict=True)], ends[0].op_type == "Sigmoid")


def logits_of_mean(logits: Sequence[np.ndarray], sigmoid: bool) -> np.ndarray:
    """Logits of the mean of several networks' probabilities; those of one network are given back as they are.

    logits: (n, classes) each. Returns the same; of softmax probabilities their logarithms.
    """
    if len(logits) == 1:
        return logits[0]
    every = np.stack(logits).astype(np.float64)
    if sigmoid:  # log(sigmoid(x)) = -log(1 + exp(-x)), log(1 - sigmoid(x)) = -log(1 + exp(x))
        mean = np.logaddexp.reduce(-np.logaddexp(0, -every)) - np.logaddexp.reduce(-np.logaddexp(0, every))
    else:
        mean = np.logaddexp.reduce(every - np.logaddexp.reduce(every, axis=2, keepdims=True)) - np.log(len(logits))
    return mean.astype(np.float32)


def _ends(graph: Graph) -> list[Softmax | Logistic]:
    """The operators that make a graph's probabilities, one, or one a member; none where it ends in something else."""
    waiting = [graph.output]
    found: list[Softmax | Logistic] = []
    while waiting:
        op = graph.producer(waiting.pop(0))
        if isinstance(op, (Softmax, Logistic)):
            found.append(op)
        elif isinstance(op, (Mean, Reshape, Concatenation)):
            waiting += op.inputs
        else:
            return []
    return found if len({type(op) for op in found}) == 1 else []


def _onnx_ends(graph: Any) -> list[Any]:
    """The nodes that make probabilities, as `_ends`."""
    makers = {name: node for node in graph.node for name in node.output}
    passing = ("QuantizeLinear", "DequantizeLinear", "ReduceMean", "Reshape", "Transpose", "Concat")
    waiting, found = [graph.output[0].name], []
    while waiting:
        node = makers.get(waiting.pop(0))
        if node is not None and node.op_type in ("Softmax", "Sigmoid"):
            found.append(node)
        elif node is not None and node.op_type in passing:
            waiting += node.input if node.op_type == "Concat" else node.input[:1]
        else:
            return []
    return found if len({node.op_type for node in found}) == 1 else []


def _tflite_tensor(graph: Graph, content: bytes, name: str, features: np.ndarray) -> np.ndarray:
    """An activation of shape (1, classes) of an int8 file, for every window: float32 (n, classes)."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter

    changed = bytearray(content)
    subgraph = schema.Model.GetRootAs(changed).Subgraphs(0)
    names = [subgraph.Tensors(index).Name().decode() for index in range(subgraph.TensorsLength())]
    subgraph.OutputsAsNumpy()[0] = names.index(name)  # a view: the file now gives this tensor
    interpreter = Interpreter(model_content=bytes(changed), num_threads=1)
    interpreter.allocate_tensors()
    source, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    codes = np.zeros((len(features), graph.tensors[name].shape[1]), np.int8)
    for index in range(len(features)):
        window = reference.quantize_input(graph, np.moveaxis(features[index : index + 1], 1, -1))
        interpreter.set_tensor(source, window)
        interpreter.invoke()
        codes[index] = interpreter.get_tensor(result)[0]
    parameters = graph.tensors[name].quantization
    assert parameters is not None  # a checked int8 graph has one on every activation
    return reference.dequantize(parameters, codes)
