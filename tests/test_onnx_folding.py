"""Constants that a model computes from its own: as ONNX's reference computes them, and never without bounds."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgeq.errors import InputError
from edgeq.graph import from_onnx
from edgeq.graph.reference import run


def model(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    """A convolution by the value "weight", which the nodes compute, then a mean over the map."""
    convolution = helper.make_node("Conv", ["input", "weight"], ["conv"])
    mean = helper.make_node("ReduceMean", ["conv"], ["output"], axes=[2, 3], keepdims=0)
    graph = helper.make_graph(
        [*nodes, convolution, mean],
        "computed",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 4, 5, 6])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_every_kind_is_computed_as_onnx_says() -> None:
    rng = np.random.default_rng(0)
    constants = {name: rng.standard_normal((4, 2, 2, 2)).astype(np.float32) for name in "abc"}
    constants["gain"] = rng.standard_normal((4, 1, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Neg", ["a"], ["minus"]),
        helper.make_node("Add", ["minus", "b"], ["sum"]),
        helper.make_node("Sub", ["sum", "c"], ["difference"]),
        helper.make_node("Concat", ["difference", "a"], ["joined"], axis=1),
        helper.make_node("Mul", ["gain", "joined"], ["weight"]),
    ]
    computed = model(nodes, constants)
    x = rng.standard_normal((1, 4, 5, 6)).astype(np.float32)
    expected = ReferenceEvaluator(computed).run(None, {"input": x})[0]
    graph = from_onnx.read(computed.SerializeToString())
    assert [op.kind for op in graph.ops] == ["CONV_2D", "MEAN"]
    np.testing.assert_allclose(run(graph, np.moveaxis(x, 1, -1)), expected, rtol=1e-5, atol=1e-6)


def joined(*inputs: str) -> list[onnx.NodeProto]:
    return [helper.make_node("Concat", inputs, ["weight"], axis=0)]


def doubled(times: int) -> list[onnx.NodeProto]:
    """A small file that would make a large constant of a small one."""
    return [helper.make_node("Concat", [f"v{n}", f"v{n}"], [f"v{n + 1}"], axis=0) for n in range(times)]


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([helper.make_node("Mul", ["row", "column"], ["weight"])], r"node 'weight' \(Mul\): .* shape \(4096, 4096\)"),
        ([helper.make_node("Neg", ["whole"], ["weight"])], r"\(Neg\): constants of int64: expected float32"),
        (joined("row", "column"), "damaged"),
        (joined("row", "absent"), r"'weight' \(Concat\): its input is a constant, or is not there"),
        (doubled(40), r"\(Concat\): constants to compute of more than .* elements in all"),
    ],
)
def test_what_cannot_be_a_weight_is_refused(
    nodes: list[onnx.NodeProto], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeq.graph.onnx_reading.MOST_FOLDED", 1 << 20)
    constants = {
        "row": np.ones((1, 4096), np.float32),
        "v0": np.ones((1, 4096), np.float32),
        "column": np.ones((4096, 1), np.float32),
        "whole": np.ones((4, 4, 2, 2), np.int64),
    }
    with pytest.raises(InputError, match=message):
        from_onnx.read(model(nodes, constants).SerializeToString())


def test_constants_that_overflow_are_refused_without_a_warning() -> None:
    huge = np.full((2, 4, 1, 1), 3e38, np.float32)
    computed = model([helper.make_node("Mul", ["a", "a"], ["weight"])], {"a": huge})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match="holds NaN or infinite values"):
            from_onnx.read(computed.SerializeToString())
