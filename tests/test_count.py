"""Counts against published and independently derived figures."""

from dataclasses import replace

import pytest
from architectures import small

from edgeq.audio.spec import PRESETS as FRONT_ENDS
from edgeq.audio.spec import with_derivatives
from edgeq.errors import InputError
from edgeq.lowering.trace import lower
from edgeq.nets.count import count
from edgeq.nets.registry import FRONTENDS, PRESETS, build
from edgeq.nets.spec import ArchitectureSpec


def preset_count(name):
    return count(PRESETS[name], FRONT_ENDS[FRONTENDS[name]])


@pytest.mark.parametrize(
    ("name", "published", "trainable", "folded", "macs"),
    [
        ("dcase22", 14_886, 14_758, 14_630, 5_369_960),
        ("dcase22-c1", 14_254, 14_134, 14_014, 4_121_480),
        ("dcase22-c2", 13_138, 13_018, 12_898, 4_102_760),
        ("dcase22-c3", 11_396, 11_288, 11_180, 5_252_760),
        ("dcase22-c12", 12_650, 12_538, 12_426, 3_148_040),
        ("dcase22-c23", 10_008, 9_908, 9_808, 4_014_360),
        ("dcase22-c123", 9_520, 9_428, 9_336, 3_059_640),
    ],
)
def test_the_seven_published_dcase_shapes(name, published, trainable, folded, macs):
    found = preset_count(name)
    assert found.parameters["with_statistics"] == published
    assert found.parameters["trainable"] == trainable
    assert found.parameters["stored"] == found.parameters["lowered"] == folded
    assert found.macs["network"] == macs


def test_the_dcase_layers_one_by_one():
    layers = {layer["name"]: layer for layer in preset_count("dcase22").layers}
    assert {name: (layer["parameters"], layer["macs"]) for name, layer in layers.items()} == {
        "conv1": (160, 293_760),
        "bn1": (64, 0),
        "conv2": (2_320, 4_700_160),
        "bn2": (64, 0),
        "pool1": (0, 0),
        "conv3": (4_640, 368_640),
        "bn3": (128, 0),
        "pool2": (0, 0),
        "hidden": (6_500, 6_400),
        "classifier": (1_010, 1_000),
    }
    assert layers["conv1"]["op"] == "Conv2d" and layers["conv1"]["output_shape"] == [16, 40, 51]
    assert layers["pool2"]["op"] == "AvgPool2d" and layers["pool2"]["output_shape"] == [32, 2, 1]
    assert layers["classifier"]["output_shape"] == [10]


def test_the_quaternion_dcase_twin():
    found = preset_count("qdcase22")
    kernels, real = 4 * 16 * 9 + 16 * 16 * 9 + 16 * 32 * 9 + 64 * 100, 100 * 10
    biases = 16 + 16 + 32 + 100 + 10
    assert found.parameters["stored"] == kernels // 4 + real + biases
    assert found.parameters["lowered"] == kernels + real + biases
    assert found.macs["network"] == (4 * 16 + 16 * 16) * 9 * 40 * 51 + 16 * 32 * 9 * 8 * 10 + 64 * 100 + 1000


@pytest.mark.parametrize(
    ("name", "stored", "lowered", "macs"),
    [
        ("tiny", 102_746, 102_746, 8_793_024),
        ("qtiny", 26_714, 103_178, 10_175_424),
        ("qnano", 7_026, 26_250, 3_004_896),
    ],
)
def test_the_small_family(name, stored, lowered, macs):
    found = preset_count(name)
    assert (found.parameters["stored"], found.parameters["lowered"]) == (stored, lowered)
    components, widths, rows, columns = PRESETS[name].input_shape[0], PRESETS[name].widths, 64, 50
    expected = widths[-1] * 10
    for before, after in zip((components, *widths[:-1]), widths, strict=True):
        expected += before * after * 9 * rows * columns
        rows, columns = rows // 2, columns // 2
    assert found.macs["network"] == macs == expected


def test_what_the_zoo_promises():
    qtiny, qnano = preset_count("qtiny"), preset_count("qnano")
    assert qtiny.parameters["stored"] <= 27_000
    assert qtiny.parameters["lowered"] <= 128_000
    assert qtiny.macs["network"] <= 30_000_000
    assert qnano.parameters["stored"] == pytest.approx(7_000, rel=0.01)
    assert qnano.macs["network"] == pytest.approx(3_000_000, rel=0.01)


@pytest.mark.parametrize("name", PRESETS)
def test_layers_add_up_and_the_lowered_count_is_what_the_graph_holds(name):
    spec = small(name)
    found = count(spec, replace(FRONT_ENDS[FRONTENDS[name]], n_mels=spec.input_shape[1]))
    assert sum(layer["parameters"] for layer in found.layers) == found.parameters["with_statistics"]
    assert sum(layer["macs"] for layer in found.layers) == found.macs["network"]
    graph = lower(build(spec), spec)
    constants = [tensor.data for tensor in graph.tensors.values() if tensor.data is not None]
    assert found.parameters["lowered"] == sum(data.size for data in constants)


def test_the_quaternion_papers_front_end_is_1_083_456_parameters():
    # The figure that makes every parameter count of the quaternion paper come out: torchlibrosa's frozen matrices.
    spec = ArchitectureSpec("qcnn5", (16, 32, 48, 64, 96), 527, (4, 64, 1001))
    found = count(spec, FRONT_ENDS["panns-32k"]).parameters
    assert found["with_frontend"] - found["trainable"] == 1_083_456


def test_the_front_end_estimate():
    # 50 frames of: 1024 window, 1024 x 10 FFT, 513 bins squared and through two filters each, 64 cells normalised.
    assert preset_count("tiny").macs["frontend"] == 50 * (1024 + 10_240 + 4 * 513 + 64)
    # Three derivatives of width 9 more, and four components to normalise.
    assert preset_count("qtiny").macs["frontend"] == 50 * (1024 + 10_240 + 4 * 513 + 64 * (27 + 4))
    # Or three of width 5 of every bin, which go through the filters too.
    of_bins = count(PRESETS["qtiny"], with_derivatives(FRONT_ENDS["edge-32k"], "power-frequency"))
    assert of_bins.macs["frontend"] == 50 * (1024 + 10_240 + 2 * 513 + 3 * 5 * 513 + 4 * 2 * 513 + 4 * 64)


def test_pruned_widths_classes_and_windows_are_counted():
    spec = ArchitectureSpec("qcnn5", (16, 32, 48, 32, 48), 10, (4, 64, 50))
    found = count(spec, FRONT_ENDS["edge-32k"])
    # accuracy of the pruned net was measured on one of 12.3 K stored, 47.3 K lowered and 9.0 M MACs
    assert found.parameters["stored"] == pytest.approx(12_300, rel=0.01)
    assert found.parameters["lowered"] == pytest.approx(47_300, rel=0.01)
    assert found.macs["network"] == pytest.approx(9_000_000, rel=0.01)


def test_a_front_end_of_other_mels_is_refused():
    with pytest.raises(InputError, match="takes 64 mels, but the front end gives 40"):
        count(PRESETS["tiny"], FRONT_ENDS["dcase2022"])
