"""Logits of an INT8 file, before softmax rounds them away: what a network that decides nothing is judged by."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeq.errors import InputError
from edgeq.graph import from_tflite, reference
from edgeq.graph.ir import Logistic, Softmax
from edgeq.runtime import onnx_runtime
from edgeq.runtime.face import missing, unreadable


def tflite_logits(content: bytes, where: str, features: np.ndarray) -> np.ndarray:
    """Logits of an int8 .tflite file in LiteRT's reference kernels.

    features: float32 (n, components, mels, frames). Returns float32 (n, classes).
    Raises InputError where the file is no such model, or does not end in SOFTMAX or LOGISTIC.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    graph = from_tflite.read(content)
    last = graph.producer(graph.output)
    if not isinstance(last, (Softmax, Logistic)) or not graph.quantized:
        raise InputError(f"{where}: expected an int8 model that ends in SOFTMAX or LOGISTIC")
    interpreter = Interpreter(
        model_content=content,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    index = {details["name"]: details["index"] for details in interpreter.get_tensor_details()}
    codes = []
    for window in reference.quantize_input(graph, np.moveaxis(features, 1, -1)):
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], window[None])
        interpreter.invoke()
        codes.append(interpreter.get_tensor(index[last.inputs[0]])[0])
    parameters = graph.tensors[last.inputs[0]].quantization
    assert parameters is not None  # a checked int8 graph has one on every activation
    return reference.dequantize(parameters, np.stack(codes))


def onnx_logits(content: bytes, where: str, features: np.ndarray) -> np.ndarray:
    """Logits of an ONNX file in onnxruntime; arguments and errors as `tflite_logits`, or where onnx is missing."""
    try:
        import onnx
    except ImportError as error:
        raise missing("onnx", "pip install 'edgeq[export]'") from error
    onnxruntime = onnx_runtime.load()
    model: Any = onnx.load_from_string(content)
    last = [node for node in model.graph.node if node.op_type in ("Softmax", "Sigmoid")]
    if not last:
        raise InputError(f"{where}: expected a model that ends in Softmax or Sigmoid")
    model.graph.output.append(onnx.helper.make_tensor_value_info(last[-1].input[0], onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return session.run([last[-1].input[0]], {session.get_inputs()[0].name: features})[0]
    except Exception as error:  # its exceptions share no base of their own
        raise unreadable(where, "onnxruntime", error) from error
