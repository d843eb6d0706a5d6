"""CP-Mobile: the published table of its layers, the DCASE budget, and what runs after lowering."""

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from architectures import inputs, lively
from litert import run_litert
from torch import nn
from torch.nn import functional

from edgeq.audio.spec import PRESETS as FRONT_ENDS
from edgeq.errors import InputError
from edgeq.export.onnx import to_onnx
from edgeq.export.run import export
from edgeq.graph.reference import run
from edgeq.lowering.trace import lower
from edgeq.nets.count import count
from edgeq.nets.registry import PRESETS, build

TABLE = (
    (88, 304_144), (2_368, 2_506_816),
    (2_176, 2_228_352), (704, 626_816), (2_112, 2_228_288),
    (2_176, 2_228_352), (704, 626_816), (2_112, 2_228_288),
    (2_176, 2_228_352), (704, 331_904), (2_112, 1_179_712),
    (2_176, 1_179_776), (704, 166_016), (3_696, 1_032_304),
    (6_960, 1_935_600), (1_320, 311_280), (6_832, 1_935_472),
    (6_960, 1_935_600), (1_320, 311_280), (12_688, 3_594_448),
    (1_060, 299_540),
)  # fmt: skip
"""Parameters and MACs of each convolution with its batch norm, for 256 mels x 65 frames: DCASE 2024 Task 1 baseline.

Its counter takes batch norm's two parameters a channel for a MAC each.
"""


def test_every_layer_costs_what_the_baseline_of_dcase_2024_says():
    wide = replace(FRONT_ENDS["edge-32k"], n_fft=4096, win_length=3072, hop_length=500, n_mels=256)
    spec = replace(PRESETS["cpmobile"], input_shape=(1, 256, 65))
    counted = count(spec, wide)
    network = dict(build(spec).named_modules())
    layers = [layer for layer in counted.layers if layer["op"] in ("Conv2d", "BatchNorm2d")]
    found = []
    for convolution, norm in zip(layers[::2], layers[1::2], strict=True):
        affine = 2 * network[norm["name"]].num_features
        found.append((convolution["parameters"] + affine, convolution["macs"] + affine))
    assert tuple(found) == TABLE
    assert counted.parameters["trainable"] == 61_148
    assert counted.macs["network"] + 2 * sum(m.num_features for m in norms(network.values())) == 29_419_156


def norms(modules):
    return [module for module in modules if isinstance(module, nn.BatchNorm2d)]


def test_the_preset_is_within_the_dcase_budget():
    counted = count(PRESETS["cpmobile"], FRONT_ENDS["edge-32k"])
    assert counted.parameters["lowered"] == 58_440 + 1_354 <= 128_000
    assert counted.macs["network"] == 5_669_632 <= 30_000_000


def test_the_network_written_out_again():
    """The same weights, in order, through convolutions of functional and the strides of the published table."""
    network = lively(PRESETS["cpmobile"])
    weights = iter([module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.BatchNorm2d))])

    def conv(x, stride=1, groups=1):
        kernel, bn = next(weights).weight, next(weights)
        x = functional.conv2d(x, kernel, None, stride, kernel.shape[-1] // 2, 1, groups)
        return functional.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias)

    features = inputs(PRESETS["cpmobile"])
    with torch.no_grad():
        x = conv(conv(features, 2).relu(), 2).relu()
        for stride, residual in (
            ((1, 1), True),
            ((1, 1), True),
            ((1, 2), True),
            ((2, 1), False),
            ((1, 1), True),
            ((1, 1), False),
        ):
            y = conv(x).relu()
            y = conv(conv(y, stride, groups=y.shape[1]).relu())
            if residual and stride != (1, 1):
                # The mean over 3 x 3 with its padding counted is a convolution with ninths.
                ninths = torch.full((x.shape[1], 1, 3, 3), 1 / 9)
                x = functional.conv2d(x, ninths, None, stride, 1, 1, x.shape[1])
            x = (x + y if residual else y).relu()
        expected = conv(x).flatten(2).mean(2)
        assert expected.std(dim=0).mean() > 0.05 * expected.std()
        assert next(weights, None) is None
        np.testing.assert_allclose(network(features), expected, rtol=1e-4, atol=1e-4)


def test_windows_below_the_strides_and_wrong_widths_are_refused():
    spec = PRESETS["cpmobile"]
    assert build(replace(spec, input_shape=(1, 8, 8))).eval()(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
    for shape in ((1, 64, 7), (1, 7, 50)):
        with pytest.raises(InputError, match=r"cpmobile: input of .* expected at least 8 x 8"):
            build(replace(spec, input_shape=shape))
    for widths in (spec.widths[:-1], (*spec.widths, 8)):
        with pytest.raises(InputError, match=f"cpmobile: {len(widths)} widths: expected 10: the first convolution"):
            build(replace(spec, widths=widths))


@pytest.mark.parametrize("frames", [50, 37, 8])
def test_float_files_compute_what_torch_does(frames):
    """Strided depthwise convolutions and padded pools, on maps whose last row or column no stride reaches."""
    spec = replace(PRESETS["cpmobile"], input_shape=(1, 61, frames))
    network = lively(spec)
    graph = lower(network, spec)
    strides = [op.stride for op in graph.ops if op.kind == "DEPTHWISE_CONV_2D"]
    assert strides == [(1, 1), (1, 1), (1, 2), (2, 1), (1, 1), (1, 1)]
    assert [op.kind for op in graph.ops].count("PAD") == [op.kind for op in graph.ops].count("AVERAGE_POOL_2D") == 1
    x = inputs(spec)
    with torch.no_grad():
        expected = network(x).softmax(1).numpy()
    assert np.ptp(expected, axis=0).max() > 0.02
    windows = x.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(run(graph, windows), expected, atol=1e-5)
    np.testing.assert_allclose(run_litert(graph, windows)[graph.output], expected, atol=1e-5)
    session = onnxruntime.InferenceSession(to_onnx(graph), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"input": x.numpy()})[0], expected, atol=1e-5)


def test_an_int8_file_passes_the_gate(tmp_path):
    exported = export("cpmobile", tmp_path / "cpmobile", int8=True, budget="dcase2022").to_json()
    assert exported["verify"]["passed"]
    assert set(exported["ops"]) == {
        "ADD", "AVERAGE_POOL_2D", "CONV_2D", "DEPTHWISE_CONV_2D", "MEAN", "PAD", "SOFTMAX",
    }  # fmt: skip
    sizes = {file["format"]: file["bytes"] for file in exported["files"]}
    assert sizes["tflite-int8"] < 128_000
