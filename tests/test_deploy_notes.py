"""The lines for firmware say what the file holds."""

from __future__ import annotations

import re

import graphs
import numpy as np

from edgeq.export.deploy_notes import _RESOLVER_METHODS, tflite_micro
from edgeq.export.tflite import to_tflite
from edgeq.graph import ir
from edgeq.graph.quantize import observe, quantize


def test_every_operator_has_a_resolver_method() -> None:
    assert set(_RESOLVER_METHODS) == set(ir.OPS)


def test_the_pad_that_only_the_file_has_is_registered() -> None:
    net = graphs.Builder((1, 8, 10, 2))
    graph = net.graph("one", net.conv("input", 3, (3, 3), (2, 2), (1, 1, 1, 1)))
    lines = tflite_micro(to_tflite(graph)).splitlines()
    assert lines[0] == "tflite::MicroMutableOpResolver<2> resolver;"
    assert lines[1:3] == ["resolver.AddConv2D();", "resolver.AddPad();"]
    assert "constexpr int kInputShape[] = {1, 8, 10, 2};  // batch, mels, frames, components; float32" in lines
    assert not any("Scale" in line for line in lines)


def test_scales_survive_the_way_through_decimal_digits() -> None:
    graph = graphs.chain()
    graph = quantize(graph, observe(graph, [graphs.inputs(graph, 16)]))
    text = tflite_micro(to_tflite(graph))
    for prefix, name in (("kInput", graph.input), ("kOutput", graph.output)):
        quantization = graph.tensors[name].quantization
        (scale,) = re.findall(rf"constexpr float {prefix}Scale = (\S+)f;", text)
        assert np.float32(scale) == quantization.scale[0]
        assert f"constexpr int {prefix}ZeroPoint = {quantization.zero_point[0]};" in text
    assert "constexpr int kOutputShape[] = {1, 3};  // batch, classes; int8" in text


def test_a_relu6_of_its_own_that_changes_the_scale_is_told_to_be_wrong_there() -> None:
    net = graphs.Builder((1, 8, 10, 2))
    pooled = net.average_pool(net.conv(net.input, 3, (3, 3), activation=ir.NONE), (2, 2))  # as in mobilenetv2
    floats = net.graph("pooled", net.relu6(pooled))
    assert "WRONG" not in tflite_micro(to_tflite(floats))
    graph = quantize(floats, observe(floats, [graphs.inputs(floats, 16)]))
    assert tflite_micro(to_tflite(graph)).startswith(f"// WRONG CODES: 1 RELU6 ({graph.output}): ")


def test_a_relu6_that_keeps_the_scale_is_right_there() -> None:
    same = ir.Quantization(np.float32([0.05]), np.int32([-100]))
    tensors = {name: ir.Tensor(name, (1, 8), "int8", quantization=same) for name in ("x", "y")}
    graph = ir.Graph("limit", tensors, (ir.Relu6(("x",), "y"),), "x", "y")
    lines = tflite_micro(to_tflite(graph)).splitlines()
    assert lines[:2] == ["tflite::MicroMutableOpResolver<1> resolver;", "resolver.AddRelu6();"]
