"""The words that firmware around a .tflite file needs: which operators to register, how to read input and output."""

from __future__ import annotations

from edgeq.graph import from_tflite, ir

# Methods of tflite::MicroMutableOpResolver (tensorflow/lite/micro/micro_mutable_op_resolver.h).
_RESOLVER_METHODS = {
    "CONV_2D": "AddConv2D",
    "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D",
    "FULLY_CONNECTED": "AddFullyConnected",
    "AVERAGE_POOL_2D": "AddAveragePool2D",
    "MAX_POOL_2D": "AddMaxPool2D",
    "MEAN": "AddMean",
    "REDUCE_MAX": "AddReduceMax",
    "ADD": "AddAdd",
    "SUB": "AddSub",
    "MUL": "AddMul",
    "CONCATENATION": "AddConcatenation",
    "SLICE": "AddSlice",
    "RELU": "AddRelu",
    "RELU6": "AddRelu6",
    "HARD_SWISH": "AddHardSwish",
    "TANH": "AddTanh",
    "LOGISTIC": "AddLogistic",
    "SOFTMAX": "AddSoftmax",
    "RESHAPE": "AddReshape",
    "PAD": "AddPad",
    "TRANSPOSE": "AddTranspose",
    "QUANTIZE": "AddQuantize",
}


def tflite_micro(model: bytes) -> str:
    """C++ lines for TensorFlow Lite Micro: the operator resolver, and shape, scale and zero point of input and output.

    model: a .tflite file; the lines say what is in it, and which operators come out wrong there. Raises InputError
    where it can't be read.
    """
    graph = from_tflite.read(model)
    methods = [_RESOLVER_METHODS[kind] for kind in sorted({op.kind for op in graph.ops})]
    lines = [
        *_warnings(graph),
        f"tflite::MicroMutableOpResolver<{len(methods)}> resolver;",
        *(f"resolver.{method}();" for method in methods),
        *_constants("kInput", graph.tensors[graph.input]),
        *_constants("kOutput", graph.tensors[graph.output]),
    ]
    return "\n".join(lines) + "\n"


def _warnings(graph: ir.Graph) -> list[str]:
    """A RELU6 that is not fused into another operator is limited there, but not brought to its output's scale."""
    wrong = [op.output for op in graph.ops if isinstance(op, ir.Relu6) and _rescales(op, graph)]
    if not wrong:
        return []
    return [
        f"// WRONG CODES: {len(wrong)} RELU6 ({', '.join(wrong)}): this runtime's kernel limits codes,",
        "// and leaves out the change of scale that the file asks for. edgeq's own C (--c) computes them right.",
    ]


def _rescales(op: ir.Op, graph: ir.Graph) -> bool:
    source, result = (graph.tensors[name].quantization for name in (op.inputs[0], op.output))
    if source is None or result is None:  # of a float file
        return False
    return bool((source.scale != result.scale).any() or (source.zero_point != result.zero_point).any())


def _constants(prefix: str, tensor: ir.Tensor) -> list[str]:
    lines = [f"constexpr int {prefix}Shape[] = {{{', '.join(map(str, tensor.shape))}}};  // {_axes(tensor)}"]
    if tensor.quantization is not None:
        scale, zero_point = tensor.quantization.scale[0], tensor.quantization.zero_point[0]
        # Nine digits are enough to get the same float back.
        lines.append(f"constexpr float {prefix}Scale = {_c_float(scale)};")
        lines.append(f"constexpr int {prefix}ZeroPoint = {zero_point};")
    return lines


def _axes(tensor: ir.Tensor) -> str:
    names = {4: "batch, mels, frames, components", 2: "batch, classes"}.get(len(tensor.shape), "batch first")
    return f"{names}; {tensor.dtype}"


def _c_float(value: float) -> str:
    digits = f"{value:.9g}"
    return f"{digits}f" if any(mark in digits for mark in ".e") else f"{digits}.0f"
