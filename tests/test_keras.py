"""edgeq's INT8 file against the one that TensorFlow's converter makes of the same graph and calibration."""

from __future__ import annotations

import sys

import graphs
import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from edgeq.errors import InputError
from edgeq.export.keras import convert_with_tensorflow, to_keras
from edgeq.export.tflite import to_tflite
from edgeq.graph import ir, reference
from edgeq.graph.quantize import observe, quantize
from edgeq.lowering.trace import lower
from edgeq.nets import registry
from edgeq.nets.spec import ArchitectureSpec


def litert(model: bytes, x: np.ndarray) -> np.ndarray:
    interpreter = Interpreter(model_content=model, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    source, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    outputs = []
    for one in x:
        interpreter.set_tensor(source, one[None])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(result))
    return np.concatenate(outputs)


def network(family: str, widths: tuple[int, ...], shape: tuple[int, int, int]) -> ir.Graph:
    torch.manual_seed(0)
    spec = ArchitectureSpec(family, widths, 5, shape)
    return lower(registry.build(spec).eval(), spec)


GRAPHS = {
    **{name: make for name, make in graphs.BUILDERS.items() if name not in ("mean_max", "streams")},
    "qcnn5": lambda: network("qcnn5", (8, 8, 12, 12, 16), (4, 32, 26)),
    "qdcase22": lambda: network("qdcase22", (8, 8, 8, 16), (4, 40, 51)),
}


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.parametrize("name", sorted(GRAPHS))
def test_both_files_hold_nearly_equal_codes_and_decide_alike(name: str) -> None:
    pytest.importorskip("tensorflow", reason="the extra `tensorflow` is not installed")
    graph = GRAPHS[name]()
    calibration, x = graphs.inputs(graph, 64), graphs.inputs(graph, 128, seed=9)
    quantized = quantize(graph, observe(graph, [calibration]))
    codes = reference.quantize_input(quantized, x)

    ours = litert(to_tflite(quantized), codes).astype(int)
    theirs = litert(convert_with_tensorflow(graph, calibration), codes).astype(int)

    # TensorFlow scales dense weights per output, edgeq per layer; the rest is the same specification.
    difference = np.abs(ours - theirs)
    assert difference.max() <= 4
    assert difference.mean() <= 0.5
    # Where they decide differently, the two best scores of either are a code or two apart.
    unlike = ours.argmax(1) != theirs.argmax(1)
    best = np.sort(ours, axis=1)
    assert ((best[:, -1] - best[:, -2])[unlike] <= 2).all()
    assert unlike.mean() <= 0.02


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ["mean_max", "streams"])
def test_a_float_file_computes_what_the_graph_does(name: str) -> None:
    pytest.importorskip("tensorflow", reason="the extra `tensorflow` is not installed")
    graph = graphs.BUILDERS[name]()
    x = graphs.inputs(graph, 8)
    model = convert_with_tensorflow(graph, x, int8=False)
    np.testing.assert_allclose(litert(model, x), reference.run(graph, x), atol=2e-6)


@pytest.mark.slow
@pytest.mark.tensorflow
def test_the_converters_file_takes_and_gives_int8() -> None:
    pytest.importorskip("tensorflow", reason="the extra `tensorflow` is not installed")
    graph = graphs.chain()
    model = schema.ModelT.InitFromPackedBuf(convert_with_tensorflow(graph, graphs.inputs(graph, 16)))
    subgraph = model.subgraphs[0]
    types = {subgraph.tensors[index].type for index in (*subgraph.inputs, *subgraph.outputs)}
    assert types == {schema.TensorType.INT8}


@pytest.mark.tensorflow
def test_strides_that_tensorflow_lacks_are_refused() -> None:
    pytest.importorskip("tensorflow", reason="the extra `tensorflow` is not installed")
    net = graphs.Builder((1, 5, 5, 2))
    with pytest.raises(InputError, match=r"depthwise_1: depthwise stride \(1, 2\)"):
        to_keras(net.graph("strided", net.depthwise("input", (3, 3), (1, 2))))


def test_without_tensorflow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(InputError, match=r"edgeq\[tensorflow\]"):
        to_keras(graphs.chain())


def test_a_quantized_graph_and_an_empty_calibration_are_refused() -> None:
    graph = graphs.chain()
    with pytest.raises(InputError, match="nothing to calibrate with"):
        convert_with_tensorflow(graph, graphs.inputs(graph, 0))
    with pytest.raises(InputError, match="quantized"):
        to_keras(quantize(graph, observe(graph, [graphs.inputs(graph, 4)])))
