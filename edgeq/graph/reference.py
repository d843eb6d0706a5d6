"""Run a graph in NumPy: in float, or in int8 bit for bit as TensorFlow Lite's reference kernels do.

The int8 side is the definition that exported files and C kernels are held to.
"""

from __future__ import annotations

from typing import Literal, overload

import numpy as np

from edgeq.errors import InputError
from edgeq.graph.float_kernels import FLOAT_KERNELS
from edgeq.graph.int8_kernels import INT8_KERNELS
from edgeq.graph.ir import Graph, Quantization, Tensor

_LOWEST, _HIGHEST = np.float32(-128), np.float32(127)


@overload
def run(graph: Graph, x: np.ndarray, keep: Literal[False] = False) -> np.ndarray: ...
@overload
def run(graph: Graph, x: np.ndarray, keep: Literal[True]) -> dict[str, np.ndarray]: ...
def run(graph: Graph, x: np.ndarray, keep: bool = False) -> np.ndarray | dict[str, np.ndarray]:
    """Run a graph on a batch of any size.

    x: (N, ...) NHWC, float32 for a float graph, int8 codes for a quantized one (see quantize_input).
    Returns the output, or with keep every activation by name, input included.
    Raises InputError where x does not fit the graph's input.
    """
    _check_input(graph, x)
    kernels = INT8_KERNELS if graph.quantized else FLOAT_KERNELS
    last_use = {name: index for index, op in enumerate(graph.ops) for name in op.inputs}
    values = {graph.input: x}
    for index, op in enumerate(graph.ops):
        inputs = [values[name] if name in values else constant(graph.tensors[name]) for name in op.inputs]
        values[op.output] = kernels[type(op)](op, graph.tensors, *inputs)
        if not keep:
            for name in set(op.inputs) - {graph.output}:
                if name in values and last_use[name] == index:
                    del values[name]
    return values if keep else values[graph.output]


def constant(tensor: Tensor) -> np.ndarray:
    """The value that an operator sees: a float weight has batch norm's gain multiplied in."""
    if tensor.data is None:
        raise InputError(f"{tensor.name}: used before it is computed: expected operators in execution order")
    if tensor.gain is None:
        return tensor.data
    return tensor.data * tensor.gain.reshape(-1, *[1] * (tensor.data.ndim - 1))


def quantize_input(graph: Graph, x: np.ndarray) -> np.ndarray:
    """Codes of a float input, by `quantize`.

    x: (N, ...) NHWC. Returns int8 of the same shape.
    Raises InputError where the graph is not quantized or x is not finite.
    """
    parameters = _quantization(graph, graph.input)
    if not np.isfinite(x).all():
        raise InputError(f"{graph.name}: input holds NaN or infinity: expected finite values")
    return quantize(parameters, x)


def dequantize_output(graph: Graph, codes: np.ndarray) -> np.ndarray:
    """Real values of output codes, float32. Raises InputError where the graph is not quantized."""
    return dequantize(_quantization(graph, graph.output), codes)


def quantize(parameters: Quantization, x: np.ndarray) -> np.ndarray:
    """Nearest codes of an activation's real values (one scale), int8: ties to even as in ONNX, saturated."""
    # In place: every caller of an INT8 file pays for this, before each inference.
    codes = np.asarray(np.divide(x, parameters.scale[0], dtype=np.float32))  # not float64
    np.add(np.rint(codes, out=codes), np.float32(parameters.zero_point[0]), out=codes)
    np.maximum(np.minimum(codes, _HIGHEST, out=codes), _LOWEST, out=codes)
    return codes.astype(np.int8)


def dequantize(parameters: Quantization, codes: np.ndarray) -> np.ndarray:
    """Real values of an activation's codes (one scale), float32."""
    return np.subtract(codes, parameters.zero_point[0], dtype=np.float32) * parameters.scale[0]


def _quantization(graph: Graph, name: str) -> Quantization:
    parameters = graph.tensors[name].quantization
    if parameters is None:
        raise InputError(f"{graph.name}: {name} is {graph.tensors[name].dtype}: expected a quantized graph")
    return parameters


def _check_input(graph: Graph, x: np.ndarray) -> None:
    tensor = graph.tensors[graph.input]
    if x.ndim != len(tensor.shape) or x.shape[1:] != tensor.shape[1:]:
        expected = ", ".join(["N", *map(str, tensor.shape[1:])])
        raise InputError(f"{graph.name}: input of shape {x.shape}: expected ({expected})")
    if x.dtype != tensor.dtype:
        raise InputError(f"{graph.name}: input of dtype {x.dtype}: expected {tensor.dtype}")
