"""TensorFlow Lite Micro's own kernels on x86, operator by operator on what reached them, against edgeq's reference.

They equal LiteRT's reference kernels, and so edgeq's, in all but two operators. FULLY_CONNECTED rounds twice, as the
convolutions do in both, where LiteRT rounds once: a code apart at most. A RELU6 of its own, not fused into another
operator, only limits codes and is wrong where its output's scale is another than its input's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import graphs
import numpy as np
import pytest

from edgeq.export.tflite import to_tflite
from edgeq.graph import from_tflite, int8_kernels, ir, reference
from edgeq.graph.fixed_point import multiply_by_quantized_multiplier, quantize_multiplier
from edgeq.graph.quantize import observe, quantize

micro = pytest.importorskip(
    "tflite_micro.python.tflite_micro.runtime",
    reason="tflite-micro is not installed: it has wheels for Linux on x86_64 and Python 3.11 and 3.12 alone",
)

ZOO = Path(__file__).resolve().parent.parent / "models"
OTHERS = os.environ.get("EDGEQ_MODELS_BY_OTHERS")
FILES = sorted(ZOO.glob("*/*.int8.tflite"))
FILES += [path for path in sorted(Path(OTHERS).rglob("*.tflite")) if "float" not in path.name] if OTHERS else []
ARENA = 4 << 20
EVERY_CODE = np.arange(-128, 128).astype(np.int8)


@dataclass(frozen=True)
class Step:
    """An operator, its inputs as TensorFlow Lite Micro computed them, and its output there."""

    op: ir.Op
    inputs: list[np.ndarray]
    output: np.ndarray


def steps(content: bytes, count: int, seed: int = 0) -> Iterator[Step]:
    """Every operator that a file names, for some windows of random codes."""
    graph = from_tflite.read(content)
    source = graph.tensors[graph.input]
    interpreter = micro.Interpreter.from_bytes(
        content, arena_size=ARENA, intrepreter_config=micro.InterpreterConfig.kPreserveAllTensors
    )
    tensors = micro.convert_bytearray_to_object(content).subgraphs[0].tensors
    places = {tensor.name.decode(): place for place, tensor in enumerate(tensors)}
    for codes in np.random.default_rng(seed).integers(-128, 128, (count, *source.shape[1:])).astype(np.int8):
        interpreter.set_input(_as_asked(codes, source, interpreter.get_input_details(0)), 0)
        interpreter.invoke()
        values: dict[str, np.ndarray] = {}
        for op in graph.ops:
            inputs = [
                values[name] if name in values else _value(graph.tensors[name], places, interpreter)
                for name in op.inputs
            ]
            if op.output in places:
                values[op.output] = _value(graph.tensors[op.output], places, interpreter)
                yield Step(op, inputs, values[op.output])
            else:  # a flattening that the file does not name
                values[op.output] = inputs[0].reshape(graph.tensors[op.output].shape)


def _as_asked(codes: np.ndarray, source: ir.Tensor, details: dict[str, Any]) -> np.ndarray:
    codes = codes.reshape(details["shape"])
    return reference.dequantize(source.quantization, codes) if details["dtype"] == np.float32 else codes


def _value(tensor: ir.Tensor, places: dict[str, int], interpreter: Any) -> np.ndarray:
    if tensor.data is not None:
        return tensor.data
    return interpreter.GetTensor(places[tensor.name], 0)["tensor_data"].reshape(tensor.shape)


def ours(graph: ir.Graph, step: Step) -> np.ndarray:
    return int8_kernels.INT8_KERNELS[type(step.op)](step.op, graph.tensors, *step.inputs).astype(int)


def dense_rounded_twice(graph: ir.Graph, step: Step) -> np.ndarray:
    """FULLY_CONNECTED as the convolutions round: after the multiplication, and after the shift to the right."""
    x, weight, bias = (values.astype(np.int64) for values in step.inputs)
    source, kernel, result = (
        graph.tensors[name].quantization for name in (step.op.inputs[0], step.op.inputs[1], step.op.output)
    )
    factor = source.scale.astype(np.float64) * kernel.scale.astype(np.float64) / result.scale.astype(np.float64)
    sums = (x - source.zero_point[0]) @ weight.T + bias
    scaled = multiply_by_quantized_multiplier(sums, *quantize_multiplier(factor)) + result.zero_point[0]
    return np.clip(scaled, *int8_kernels.activation_range(graph.tensors[step.op.output], step.op.activation))


def check(content: bytes, count: int) -> set[str]:
    """Compare all operators of a file; the kinds there were."""
    graph, kinds = from_tflite.read(content), set()
    for step in steps(content, count):
        expected = ours(graph, step)
        if isinstance(step.op, ir.FullyConnected):
            assert np.abs(step.output - expected).max() <= 1, step.op.output
            expected = dense_rounded_twice(graph, step)
        np.testing.assert_array_equal(step.output, expected, err_msg=f"{step.op.kind} {step.op.output}")
        kinds.add(step.op.kind)
    return kinds


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_files_are_computed_alike(path: Path) -> None:
    assert "FULLY_CONNECTED" in check(path.read_bytes(), 4)


def everything(seed: int) -> ir.Graph:
    net = graphs.Builder((1, 9, 8, 3), seed)
    x = net.conv(net.pad(net.input, (1, 1, 2, 0)), 4, (3, 3), activation=ir.NONE)
    y = net.hard_swish(net.depthwise(net.relu(x), (3, 3), (1, 1), (1, 1, 1, 1)))
    x = net.sub(net.mul(x, y), net.add(x, y))
    x = net.concatenation([net.max_pool(x, (2, 2)), net.average_pool(x, (2, 2))])
    x = net.tanh(net.transpose(net.slice(x, 1, 3, axis=-3), (0, 2, 1, 3)))
    x = net.conv(x, 4, (1, 1))
    x = net.concatenation([net.mean(x, (1, 2)), net.reduce_max(x, (1, 2))])
    x = net.logistic(net.dense(x, 5, activation=ir.NONE))
    return net.graph("everything", net.softmax(net.dense(x, 4, activation=ir.NONE)))


@pytest.mark.parametrize("seed", range(4))
def test_every_operator_is_computed_alike(seed: int) -> None:
    floats = everything(seed)
    kinds = check(to_tflite(quantize(floats, observe(floats, [graphs.inputs(floats, 8)]))), 3)
    assert kinds == set(ir.OPS) - {"RELU6", "QUANTIZE", "RESHAPE"}, "and these have tests of their own"


def function(kind: type[ir.Op], source: ir.Quantization, result: ir.Quantization) -> ir.Graph:
    parameters = {"x": source, "y": result}
    tensors = {name: ir.Tensor(name, (1, 256), "int8", quantization=value) for name, value in parameters.items()}
    return ir.Graph("function", tensors, (kind(("x",), "y"),), "x", "y")


def quantization(scale: float, zero_point: int) -> ir.Quantization:
    return ir.Quantization(np.float32([scale]), np.int32([zero_point]))


def of_every_code(graph: ir.Graph) -> np.ndarray:
    interpreter = micro.Interpreter.from_bytes(to_tflite(graph), arena_size=ARENA)
    interpreter.set_input(EVERY_CODE[None], 0)
    interpreter.invoke()
    return interpreter.get_output(0)[0]


@pytest.mark.parametrize("kind", [ir.Tanh, ir.Logistic, ir.Softmax, ir.HardSwish, ir.Quantize, ir.Relu])
def test_every_code_at_many_scales(kind: type[ir.Op]) -> None:
    prescribed = {ir.Tanh: (1 / 128, 0), ir.Logistic: (1 / 256, -128), ir.Softmax: (1 / 256, -128)}
    rng = np.random.default_rng(0)
    for _ in range(40):
        scale = 10 ** rng.uniform(-3, 0.5)
        free = scale * 2 ** rng.uniform(-5, 5), int(rng.integers(-128, 128))
        graph = function(
            kind, quantization(scale, int(rng.integers(-128, 128))), quantization(*prescribed.get(kind, free))
        )
        np.testing.assert_array_equal(of_every_code(graph), reference.run(graph, EVERY_CODE[None])[0])


def test_relu6_of_its_own_takes_its_output_to_have_its_input_s_scale() -> None:
    source, result = quantization(0.05, -100), quantization(6 / 255, -128)
    same = function(ir.Relu6, source, source)
    np.testing.assert_array_equal(of_every_code(same), reference.run(same, EVERY_CODE[None])[0])
    graph = function(ir.Relu6, source, result)
    limited = np.clip(EVERY_CODE, -100, 20)  # 0 and 6 in steps of the input's scale
    np.testing.assert_array_equal(of_every_code(graph), limited)
    assert np.abs(limited.astype(int) - reference.run(graph, EVERY_CODE[None])[0]).max() > 100
