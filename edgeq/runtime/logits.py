"""Logits of an INT8 file, before softmax rounds them away: what a network that decides nothing is judged by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgeq.batches import batches
from edgeq.errors import InputError
from edgeq.graph import from_tflite, model_file, reference
from edgeq.graph.ir import Logistic, Softmax
from edgeq.runtime import onnx_runtime
from edgeq.runtime.face import missing, unreadable


def tflite_logits(path: Path, features: np.ndarray) -> np.ndarray:
    """Logits of an int8 .tflite file in LiteRT, in the kernels that `runtime.litert` runs it with.

    features: float32 (n, components, mels, frames). Returns float32 (n, classes).
    Raises InputError where the file is no such model, or does not end in SOFTMAX or LOGISTIC.
    """
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter

    graph = from_tflite.read(path)
    last = graph.producer(graph.output)
    if not isinstance(last, (Softmax, Logistic)) or not graph.quantized:
        raise InputError(f"{path}: expected an int8 model that ends in SOFTMAX or LOGISTIC")
    content = bytearray(model_file.content(path))
    subgraph = schema.Model.GetRootAs(content).Subgraphs(0)
    names = [subgraph.Tensors(index).Name().decode() for index in range(subgraph.TensorsLength())]
    subgraph.OutputsAsNumpy()[0] = names.index(last.inputs[0])  # a view: the file now gives its logits
    interpreter = Interpreter(model_content=bytes(content), num_threads=1)
    interpreter.allocate_tensors()
    source, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    codes = np.zeros((len(features), graph.tensors[graph.output].shape[1]), np.int8)
    for index in range(len(features)):
        window = reference.quantize_input(graph, np.moveaxis(features[index : index + 1], 1, -1))
        interpreter.set_tensor(source, window)
        interpreter.invoke()
        codes[index] = interpreter.get_tensor(result)[0]
    parameters = graph.tensors[last.inputs[0]].quantization
    assert parameters is not None  # a checked int8 graph has one on every activation
    return reference.dequantize(parameters, codes)


def onnx_logits(path: Path, features: np.ndarray) -> np.ndarray:
    """Logits of an ONNX file in onnxruntime; arguments and errors as `tflite_logits`, or where onnx is missing."""
    try:
        import onnx
    except ImportError as error:
        raise missing("onnx", "pip install 'edgeq[export]'") from error
    onnxruntime = onnx_runtime.load()
    model: Any = onnx.load_from_string(model_file.content(path))
    last = [node for node in model.graph.node if node.op_type in ("Softmax", "Sigmoid")]
    if not last:
        raise InputError(f"{path}: expected a model that ends in Softmax or Sigmoid")
    logits = last[-1].input[0]
    model.graph.output.append(onnx.helper.make_tensor_value_info(logits, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        source = session.get_inputs()[0].name
        return np.concatenate([session.run([logits], {source: batch})[0] for batch in batches(features)])
    except Exception as error:  # its exceptions share no base of their own
        raise unreadable(str(path), "onnxruntime", error) from error
