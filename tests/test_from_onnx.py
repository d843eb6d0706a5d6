"""The ONNX reader against onnxruntime, on what edgeq and torch write, on hand-made models and on damaged ones."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import graphs
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from edgeq.errors import InputError
from edgeq.export.onnx import to_onnx
from edgeq.export.tflite import to_tflite
from edgeq.graph import from_onnx, reference
from edgeq.graph.quantize import observe, quantize
from edgeq.lowering.trace import lower
from edgeq.nets import registry
from edgeq.nets.spec import ArchitectureSpec

NAMES = sorted(graphs.BUILDERS)
FILES = {name: to_onnx(make()) for name, make in graphs.BUILDERS.items()}


def onnxruntime_run(model: bytes, x: np.ndarray) -> np.ndarray:
    """Outputs (N, ...) of single NCHW inputs."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: one[None]})[0] for one in x])


def assert_reads_as_it_runs(model: bytes, shape: tuple[int, ...], tolerance: float = 2e-6) -> None:
    x = np.random.default_rng(2).standard_normal((3, *shape)).astype(np.float32)
    graph = from_onnx.read(model)
    found, expected = reference.run(graph, np.moveaxis(x, 1, -1)), onnxruntime_run(model, x)
    np.testing.assert_allclose(found, np.moveaxis(expected, 1, -1), atol=tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_what_edgeq_wrote_comes_back_as_the_same_graph(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(FILES[name])
    graph = from_onnx.read(path)
    assert to_tflite(graph) == to_tflite(graphs.BUILDERS[name]())
    assert to_onnx(graph) == FILES[name]


SPECS = {
    "cnn5": ArchitectureSpec("cnn5", (4, 4, 8, 8, 8), 3, (1, 16, 18)),
    "dcase22": ArchitectureSpec("dcase22", (4, 4, 8, 8), 3, (1, 40, 51)),
    "qdcase22": ArchitectureSpec("qdcase22", (4, 4, 8, 8), 3, (4, 40, 51)),
    # Wide enough for torch's exporter to leave the assembly of a quaternion kernel to the runtime: onnxsim folds it.
    "qcnn5": ArchitectureSpec("qcnn5", (4, 4, 4, 64, 96), 3, (4, 32, 36)),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(SPECS))
def test_what_torch_exports_comes_back_as_what_lowering_gives(name: str) -> None:
    torch.manual_seed(0)
    spec = SPECS[name]
    network = registry.build(spec)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.uniform_(module.weight, -1, 1)
    network.eval()
    x = torch.randn(4, *spec.input_shape)
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(network, (x,), dynamo=True, dynamic_shapes=({0: batch},), verbose=False)
    file = io.BytesIO()
    program.save(file)

    graph, lowered = from_onnx.read(file.getvalue()), lower(network, spec)

    # torch gives logits; lowering adds the softmax.
    assert [(op.kind, op.inputs, op.output) for op in graph.ops] == [
        (op.kind, op.inputs, op.output) for op in lowered.ops[:-1]
    ]
    with torch.no_grad():
        logits = network(x).numpy()
    np.testing.assert_allclose(reference.run(graph, x.numpy().transpose(0, 2, 3, 1)), logits, atol=1e-5, rtol=1e-5)


def model(
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray] | None = None,
    shape: tuple[Any, ...] = (1, 2, 6, 8),
    opset: int = 17,
) -> bytes:
    """A hand-made model from x to y; its constants are drawn where they are not given."""
    rng = np.random.default_rng(0)
    drawn = {"w": rng.standard_normal((3, 2, 3, 3)), "b": rng.standard_normal(3), "m": np.zeros((3, 4))}
    values = {name: data.astype(np.float32) for name, data in drawn.items()} | (constants or {})
    used = {name for node in nodes for name in node.input}
    return helper.make_model(
        helper.make_graph(
            nodes,
            "made",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
            [numpy_helper.from_array(data, name) for name, data in values.items() if name in used],
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=8,
    ).SerializeToString()


def node(kind: str, inputs: str, output: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output], name=f"the_{kind.lower()}", **attributes)


READABLE = {
    "defaults": [node("Conv", "x w")],
    "uneven pads": [node("Conv", "x w b", pads=[2, 0, 1, 3], strides=[2, 1])],
    "valid": [node("Conv", "x w b", auto_pad="VALID", group=1, dilations=[1, 1])],
    "relu of a value that is read twice": [node("Conv", "x w", "a"), node("Relu", "a", "c"), node("Add", "a c")],
    "global average": [node("GlobalAveragePool", "x", "a"), node("Flatten", "a", "c"), node("Softmax", "c")],
    "global maximum": [node("GlobalMaxPool", "x", "a"), node("Squeeze", "a two_three", "y")],
    "means kept": [node("ReduceMean", "x", "a", axes=[-1]), node("ReduceMax", "a", axes=[2, 3], keepdims=0)],
    "flatten, dense": [node("MaxPool", "x", "a", kernel_shape=[5, 5], strides=[1, 4]), node("Flatten", "a", "c"),
                       node("Tanh", "c", "d"), node("Gemm", "d tall b")],
    "reshape, dense": [node("Reshape", "x shape", "a"), node("Gemm", "a wide", transB=1)],
    "padding of its own": [node("Pad", "x pads", "a"), node("Conv", "a w", "c"), node("Sigmoid", "c")],
    "identity": [node("Identity", "x", "a"), node("Relu", "a", "c"), node("Softmax", "c", axis=1)],
    "depthwise": [node("Conv", "x grouped b6", "a", group=2), node("Clip", "a zero six", "c"), node("Mul", "c c")],
    "constants of sums and products": [node("Mul", "one x", "a"), node("Add", "a bands", "c"), node("Sub", "c pair")],
    "neighbouring channels": [node("Concat", "x x x", "a", axis=-3), node("Slice", "a first far first")],
    "channels counted from the end": [node("Slice", "x minus two first second", "a"), node("Concat", "a", axis=1)],
    "relu6 alone": [node("Clip", "x zero six", "a"), node("Add", "a x", "c"), node("Relu", "c")],
    "a scalar on a flattened map": [node("Flatten", "x", "a"), node("Mul", "a one", "c"), node("Gemm", "c flat")],
}  # fmt: skip
EXTRA = {
    "two_three": np.array([2, 3]),
    "two": np.array([2]),
    "first": np.array([1]),
    "second": np.array([1]),
    "minus": np.array([-2]),
    "far": np.array([2**63 - 1]),
    "grouped": np.random.default_rng(5).standard_normal((6, 1, 2, 3)).astype(np.float32),
    "b6": np.ones(6, np.float32),
    "zero": np.array(0, np.float32),
    "one": np.array(1, np.float32),
    "six": np.array(6, np.float32),
    "bands": np.arange(6, dtype=np.float32).reshape(6, 1),
    "planes": np.zeros((1, 1, 1, 1, 1), np.float32),
    "pair": np.arange(2, dtype=np.float32).reshape(1, 2, 1, 1),
    "flat": np.random.default_rng(6).standard_normal((96, 3)).astype(np.float32),
    "tall": np.random.default_rng(3).standard_normal((4, 3)).astype(np.float32),
    "shape": np.array([0, -1]),
    "wide": np.random.default_rng(4).standard_normal((3, 96)).astype(np.float32),
    "pads": np.array([0, 0, 1, 2, 0, 0, 0, 1]),
}


@pytest.mark.parametrize("name", sorted(READABLE))
def test_other_peoples_models_are_read_as_they_run(name: str) -> None:
    assert_reads_as_it_runs(model(READABLE[name], EXTRA), (2, 6, 8), 1e-5)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([node("Erf", "x")], r"node 'the_erf' \(Erf\): not supported"),
        ([node("Conv", "x w", group=3)], r"'the_conv' \(Conv\): group 3: expected 1, or one a channel \(2\)"),
        ([node("Conv", "x w", group=2)], r"DEPTHWISE_CONV_2D 'depthwise_1': does not fit"),
        ([node("Conv", "x w", dilations=[2, 2])], "dilations"),
        ([node("Conv", "x w", auto_pad="SAME_UPPER")], "auto_pad"),
        ([node("Conv", "x m")], r"'the_conv' \(Conv\): 'm' is float32 of 2 axes"),
        ([node("Conv", "x double")], "'double' is float64"),
        ([node("Gemm", "x m")], r"the_gemm.*FULLY_CONNECTED"),
        ([node("AveragePool", "x", kernel_shape=[2, 2], pads=[1, 1, 1, 1])], "pads"),
        ([node("MaxPool", "x", kernel_shape=[2, 2], ceil_mode=1)], "ceil_mode"),
        ([node("ReduceMean", "x", axes=[1])], r"over axes \[1\]"),
        ([node("Softmax", "x", axis=3)], "over axis 3"),
        ([node("Add", "x b")], r"ADD 'add_1': does not fit"),
        ([node("Add", "x planes")], "a constant of shape"),
        ([node("Sub", "one x")], "its input is a constant"),
        ([node("MaxPool", "x", "a", kernel_shape=[2, 2]), node("Mul", "x a")], "expected two of one shape"),
        ([node("Clip", "x zero one")], "limits"),
        ([node("Clip", "x zero")], "limits"),
        ([node("Concat", "x x", axis=2)], "over axis 2"),
        ([node("Concat", "x one", axis=1)], "of constants"),
        ([node("Slice", "x first first two_three")], r"over axes \[2, 3\]"),
        ([node("Slice", "x first second first two")], "in steps of"),
        ([node("Slice", "x second first first")], "SLICE"),
        ([node("Reshape", "x odd")], r"\(1, 2, 6, 8\) to \(1, 4, 3, 8\)"),
        ([node("Flatten", "x")], "flattened map"),
        ([node("Transpose", "x", perm=[0, 2, 3, 1])], "Transpose"),
        ([node("QuantizeLinear", "x b")], "QuantizeLinear"),
    ],
)
def test_what_a_graph_cannot_hold_is_refused_by_node(nodes: list[onnx.NodeProto], message: str) -> None:
    constants = EXTRA | {"odd": np.array([1, 4, 3, 8]), "double": np.zeros((3, 2, 3, 3))}
    with pytest.raises(InputError, match=message):
        from_onnx.read(model(nodes, constants))


@pytest.mark.parametrize("shape", [(4, 2, 6, 8), (1, 2, 6, "frames"), (1, 2, 0, 8), (1,)])
def test_shapes_that_are_not_fixed_are_refused(shape: tuple[Any, ...]) -> None:
    with pytest.raises(InputError, match="expected"):
        from_onnx.read(model([node("Relu", "x")], shape=shape))


def test_a_free_batch_becomes_one() -> None:
    graph = from_onnx.read(model([node("Relu", "x")], shape=("batch", 2, 6, 8)))
    assert graph.tensors["input"].shape == (1, 6, 8, 2)


def test_a_quantized_model_is_refused() -> None:
    graph = graphs.chain()
    with pytest.raises(InputError, match="QuantizeLinear"):
        from_onnx.read(to_onnx(quantize(graph, observe(graph, [graphs.inputs(graph, 8)]))))


def test_weights_in_another_file_are_not_fetched() -> None:
    proto = onnx.load_model_from_string(model([node("Conv", "x w")]))
    weight = proto.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="/etc/passwd")
    with pytest.raises(InputError, match="'w' lies in a file of its own"):
        from_onnx.read(proto.SerializeToString())


@pytest.mark.parametrize("content", [b"", b"no model", bytes(64), b"\xff" * 64])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.onnx"):
        from_onnx.read(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.onnx"):
        with pytest.raises(InputError, match=path.name):
            from_onnx.read(path)


@given(
    name=st.sampled_from(NAMES),
    cut=st.none() | st.floats(0, 1),
    edits=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=3) | st.just(b"\xff" * 4)),
        max_size=6,
    ),
)
def test_a_damaged_model_is_refused_or_still_makes_sense(
    name: str, cut: float | None, edits: list[tuple[float, bytes]]
) -> None:
    content = bytearray(FILES[name])
    for place, edit in edits:
        start = int(place * (len(content) - len(edit)))
        content[start : start + len(edit)] = edit
    if cut is not None:
        content = content[: int(cut * len(content))]
    try:
        graph = from_onnx.read(bytes(content))
    except InputError as error:
        assert "\n" not in str(error)
    else:
        to_tflite(graph)
