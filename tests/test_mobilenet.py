"""MobileNets of PANNs: published counts, the networks written out a second time, and what runs after lowering."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import onnxruntime
import pytest
import torch
from architectures import inputs, lively, small
from litert import run_litert
from torch import nn
from torch.nn import functional

from edgeq import fresh
from edgeq.audio.spec import PRESETS as FRONT_ENDS
from edgeq.errors import InputError
from edgeq.export.onnx import to_onnx
from edgeq.export.run import export
from edgeq.graph.quantize import observe, quantize
from edgeq.graph.reference import quantize_input, run
from edgeq.lowering.trace import lower
from edgeq.nets.count import count
from edgeq.nets.registry import PRESETS, build

NAMES = ["mobilenetv1", "mobilenetv2"]

V2_TABLE = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 2), (6, 160, 3, 1), (6, 320, 1, 1))
"""Expansion, channels, blocks, stride of the first of them: MobileNetV2's stages in PANNs' public code."""


@pytest.mark.parametrize(
    ("name", "parameters", "macs"), [("mobilenetv1", 4_796_303, 739_572_736), ("mobilenetv2", 4_075_343, 341_978_624)]
)
def test_published_parameters_and_true_macs(name, parameters, macs):
    counted = count(PRESETS[name], FRONT_ENDS["panns-32k"])
    assert counted.parameters["trainable"] == parameters  # PANNs, Table of complexities
    assert counted.macs["network"] == macs
    # Batch norm folds away, but for that of the mel bands, which precedes every convolution.
    network = build(PRESETS[name])
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    dense = [module for module in network.modules() if isinstance(module, nn.Linear)]
    weights = sum(module.weight.numel() + len(module.weight) for module in (*convolutions, *dense))
    assert counted.parameters["lowered"] == counted.parameters["stored"] == weights + 2 * 64


@pytest.mark.parametrize(("name", "published"), [("mobilenetv1", 3.614), ("mobilenetv2", 2.810)])
def test_published_multiply_adds_are_operations_and_mostly_the_stft(name, published):
    """PANNs' "multi-adds" (in 10^9, for 10 s) count a multiplication and an addition each, and more than the network.

    The rule that gives both figures: 2 a MAC, of convolutions, of dense layers and of the STFT, which runs as two
    convolutions of 513 filters of 1024; 1 a bias; 2 a cell of batch norm and of ReLU, but none of ReLU6, which the
    counter does not know; a pool's window a cell, a window of 1 where the map is not halved.
    """
    layers = count(PRESETS[name], FRONT_ENDS["panns-32k"]).layers
    network = dict(build(PRESETS[name]).named_modules())
    stft = 2 * 513 * 1024 * 1001
    operations = 2 * (stft + sum(layer["macs"] for layer in layers)) + 1024 + 527
    for layer, after in pairwise(layers):
        module, cells = network[layer["name"]], math.prod(layer["output_shape"])
        if isinstance(module, (nn.BatchNorm2d, nn.ReLU)):
            operations += 2 * cells
        elif isinstance(module, nn.AvgPool2d):
            operations += 4 * cells
        elif isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3) and after["op"] != "AvgPool2d":
            operations += cells
    assert round(operations / 1e9, 3) == published
    assert 2 * stft / operations > 0.58


class Weights:
    """The convolutions, batch norms and dense layers of a network, in order, for a forward pass written out again.

    Maps are (N, channels, frames, mels), as in PANNs, so kernels are transposed.
    """

    def __init__(self, network):
        kinds = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)
        self.modules = iter([module for module in network.modules() if isinstance(module, kinds)])

    def mel_norm(self, x):
        return self.norm(x.transpose(1, 3)).transpose(1, 3)

    def norm(self, x):
        bn = next(self.modules)
        return functional.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias, eps=1e-5)

    def conv(self, x, stride=1, groups=1):
        kernel = next(self.modules).weight.transpose(2, 3)
        x = functional.conv2d(x, kernel, padding=kernel.shape[-1] // 2, groups=groups)
        return self.norm(functional.avg_pool2d(x, stride))

    def head(self, x):
        x = x.mean(dim=3)
        x = x.max(dim=2).values + x.mean(dim=2)
        fc1, classifier = self.modules
        return functional.linear(functional.linear(x, fc1.weight, fc1.bias).relu(), classifier.weight, classifier.bias)


def mobilenetv1(network, x):
    weights = Weights(network)
    x = weights.conv(weights.mel_norm(x), stride=2).relu()
    for stride in (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1):
        x = weights.conv(x, stride, groups=x.shape[1]).relu()
        x = weights.conv(x).relu()
    return weights.head(x)


def mobilenetv2(network, x):
    weights = Weights(network)
    x = functional.relu6(weights.conv(weights.mel_norm(x), stride=2))
    for expansion, channels, blocks, first_stride in V2_TABLE:
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            y = functional.relu6(weights.conv(x)) if expansion > 1 else x
            assert y.shape[1] == expansion * x.shape[1]
            y = functional.relu6(weights.conv(y, stride, groups=y.shape[1]))
            y = weights.conv(y)
            x = x + y if stride == 1 and x.shape[1] == channels else y
            assert x.shape[1] == channels
    return weights.head(functional.relu6(weights.conv(x)))


@pytest.mark.parametrize(("name", "written_out"), [("mobilenetv1", mobilenetv1), ("mobilenetv2", mobilenetv2)])
def test_the_network_is_that_of_panns_with_axes_exchanged(name, written_out):
    spec = replace(PRESETS[name], input_shape=(1, 64, 37))
    network, x = lively(spec), inputs(spec)
    with torch.no_grad():
        expected = written_out(network, x.transpose(2, 3))
        assert expected.std(dim=0).mean() > 0.05 * expected.std()
        np.testing.assert_allclose(network(x), expected, rtol=1e-4, atol=1e-4 * expected.abs().max())


@pytest.mark.parametrize("name", NAMES)
def test_windows_below_the_pools_are_refused(name):
    spec = replace(small(name), input_shape=(1, 32, 32))
    assert build(spec).eval()(torch.zeros(1, *spec.input_shape)).shape == (1, spec.classes)
    for shape in ((1, 64, 31), (1, 31, 64)):
        with pytest.raises(InputError, match=rf"{name}: input of .* expected at least 32 x 32"):
            build(replace(spec, input_shape=shape))


@pytest.mark.parametrize(("name", "expected"), [("mobilenetv1", 15), ("mobilenetv2", 26)])
def test_the_number_of_widths_must_fit(name, expected):
    for widths in (PRESETS[name].widths[:-1], (*PRESETS[name].widths, 8)):
        with pytest.raises(InputError, match=f"{name}: {len(widths)} widths: expected {expected}: the first"):
            build(replace(PRESETS[name], widths=widths))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(64, 50), (33, 63)])
def test_float_files_compute_what_torch_does(name, shape):
    """On odd maps too, whose last row or column the pools leave out."""
    spec = replace(small(name), input_shape=(1, *shape))
    network = lively(spec)
    graph = lower(network, spec)
    assert [op.kind for op in graph.ops[:2]] == ["MUL", "ADD"]  # batch norm of the mel bands
    assert {op.kind for op in graph.ops} >= {"DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D"}
    assert not {"PAD", "TRANSPOSE"} & {op.kind for op in graph.ops}
    x = inputs(spec)
    with torch.no_grad():
        expected = network(x).sigmoid().numpy()
    assert np.ptp(expected, axis=0).max() > 0.02
    windows = x.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(run(graph, windows), expected, atol=1e-5)
    np.testing.assert_allclose(run_litert(graph, windows)[graph.output], expected, atol=1e-5)
    session = onnxruntime.InferenceSession(to_onnx(graph), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"input": x.numpy()})[0], expected, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_int8_codes_are_those_of_litert(name):
    spec = small(name)
    graph = lower(lively(spec), spec)
    windows = inputs(spec).permute(0, 2, 3, 1).numpy()
    quantized = quantize(graph, observe(graph, [windows]))
    codes = quantize_input(quantized, windows)
    found, expected = run(quantized, codes, keep=True), run_litert(quantized, codes)
    assert np.ptp(expected[quantized.output].astype(int), axis=0).max() > 10
    for op in quantized.ops:
        np.testing.assert_array_equal(found[op.output], expected[op.output], err_msg=op.output)


@pytest.mark.slow
def test_int8_files_of_mobilenetv2_pass_the_gate(tmp_path, monkeypatch):
    """Whole width, a second of sound instead of ten. With batch norm as drawn, the logits would be 1e-12."""
    spec = replace(PRESETS["mobilenetv2"], input_shape=PRESETS["tiny"].input_shape)
    monkeypatch.setattr(fresh, "specs", lambda name: (spec, FRONT_ENDS["edge-32k"]))
    exported = export("mobilenetv2", tmp_path / "mobilenetv2", int8=True).to_json()
    assert exported["verify"]["passed"]
    assert set(exported["ops"]) == {
        "ADD", "AVERAGE_POOL_2D", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "LOGISTIC", "MEAN", "MUL",
        "REDUCE_MAX", "RELU6",
    }  # fmt: skip
