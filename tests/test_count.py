"""Counts against published and independently derived figures."""

import math
from dataclasses import replace

import pytest
import torch
from architectures import liven, small

from edgeq import fresh
from edgeq.audio.spec import PRESETS as FRONT_ENDS
from edgeq.audio.spec import with_derivatives
from edgeq.errors import InputError
from edgeq.inspection import inspect
from edgeq.lowering.trace import lower
from edgeq.nets.count import count
from edgeq.nets.quaternion import QuaternionConv2d
from edgeq.nets.registry import FRONTENDS, PRESETS, build, with_transfer_head
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
    graph = lower(liven(build(spec)), spec)  # a batch norm that adds nothing leaves nothing behind
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


PUBLISHED = {
    # Trainable parameters at 527 classes, and true MACs of ten seconds.
    "cnn14": (80_753_615, 20_041_926_656),
    "cnn14-4ch": (80_755_343, 20_152_629_248),
    "qcnn14": (21_012_431, 20_152_629_248),
    "qcnn14-p25": (12_673_487, 15_752_673_280),
    "qcnn14-p50": (6_620_111, 12_525_287_424),
    "qcnn14-p75": (2_852_303, 10_470_471_680),
    "resnet38": (73_783_247, 23_391_078_400),
    "resnet38-4ch": (73_784_975, 23_501_780_992),
    "qresnet38": (19_276_751, 23_501_780_992),
    "qresnet38-p25": (14_293_967, 22_330_521_600),
    "qresnet38-p50": (10_490_831, 21_451_814_912),
    "qresnet38-p75": (7_867_343, 20_865_660_928),
}

WITH_FRONTEND = {
    "cnn14": 81_837_071,
    "cnn14-4ch": 81_838_799,
    "qcnn14": 22_095_887,
    "qcnn14-p25": 13_756_943,
    "qcnn14-p50": 7_703_567,
    "qcnn14-p75": 3_935_759,
    "resnet38": 74_866_703,
    "resnet38-4ch": 74_868_431,
    "qresnet38": 20_360_207,
    "qresnet38-p25": 15_377_423,
    "qresnet38-p50": 11_574_287,
    "qresnet38-p75": 8_950_799,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_papers_networks(name):
    found = count(*fresh.specs(name))
    assert (found.parameters["trainable"], found.macs["network"]) == PUBLISHED[name]
    assert found.parameters["with_frontend"] == WITH_FRONTEND[name]


# Weights of convolutions and dense layers with the biases of the latter, as real block kernels.
@pytest.mark.parametrize(
    ("name", "lowered"),
    [
        ("qcnn14", 80_739_087),
        ("qcnn14-p25", 47_397_647),
        ("qcnn14-p50", 23_198_479),
        ("qcnn14-p75", 8_141_583),
        ("qresnet38", 73_759_503),
        ("qresnet38-p25", 53_836_559),
        ("qresnet38-p50", 38_632_207),
        ("qresnet38-p75", 28_146_447),
    ],
)
def test_what_the_papers_networks_hold_after_lowering(name, lowered):
    spec, frontend = fresh.specs(name)
    found = count(spec, frontend)
    with torch.device("meta"):
        network = build(spec)
    # What batch norm leaves: a bias for each filter; and bn0, which nothing precedes: a factor and a summand a mel.
    filters = sum(module.out_channels for module in network.modules() if isinstance(module, QuaternionConv2d))
    assert found.parameters["lowered"] == lowered + filters + 2 * 64
    # Each quaternion component once: a quarter of all weights but the real classifier's.
    kernels, classifier, biases = lowered - 2048 * 527 - 2048 - 527, 2048 * 527, filters + 2048 + 527 + 2 * 64
    assert found.parameters["stored"] == kernels // 4 + classifier + biases


TRUE_MACS = {
    30: {
        "qcnn14": (60_498_950_144, 47_276_406_784, 37_578_651_648, 31_405_684_736),
        "qresnet38": (70_542_211_072, 67_030_530_048, 64_396_507_136, 62_640_142_336),
    },
    5: {
        "qcnn14": (10_009_425_920, 7_839_004_672, 6_246_610_944, 5_232_244_736),
        "qresnet38": (11_680_331_776, 11_113_052_160, 10_687_330_304, 10_403_166_208),
    },
    4: {
        "qcnn14": (8_031_746_048, 6_285_998_080, 5_005_031_424, 4_188_846_080),
        "qresnet38": (9_378_117_632, 8_924_084_224, 8_583_297_024, 8_355_756_032),
    },
}


@pytest.mark.parametrize("seconds", TRUE_MACS)
@pytest.mark.parametrize("name", ["qcnn14", "qresnet38"])
def test_the_papers_networks_on_the_clips_of_its_other_corpora(name, seconds):
    ratios = (0, 0.25, 0.5, 0.75)
    reports = [inspect(name, clip_seconds=seconds, prune_ratio=ratio) for ratio in ratios]
    assert tuple(report["macs"]["network"] for report in reports) == TRUE_MACS[seconds][name]
    assert [report["parameters"]["trainable"] for report in reports] == [
        PUBLISHED[name if ratio == 0 else f"{name}-p{ratio * 100:.0f}"][0] for ratio in ratios
    ]


def weights_and_macs(report):
    """Name to weights and MACs of every layer that multiplies."""
    return {
        layer["name"]: (layer["parameters"], layer["macs"])
        for layer in report["layers"]
        if layer["op"] in ("QuaternionConv2d", "QuaternionLinear", "Linear")
    }


def test_qcnn14_layer_by_layer():
    kept = {
        "block1.conv1": (576, 147_603_456),
        "block1.conv2": (9_216, 2_361_655_296),
        "block2.conv1": (18_432, 1_179_648_000),
        "block2.conv2": (36_864, 2_359_296_000),
        "block3.conv1": (73_728, 1_179_648_000),
        "block3.conv2": (147_456, 2_359_296_000),
    }
    pruned = {
        "block4.conv1": [
            (294_912, 1_179_648_000),
            (221_184, 884_736_000),
            (147_456, 589_824_000),
            (73_728, 294_912_000),
        ],
        "block4.conv2": [
            (589_824, 2_359_296_000),
            (331_776, 1_327_104_000),
            (147_456, 589_824_000),
            (36_864, 147_456_000),
        ],
        "block5.conv1": [
            (1_179_648, 1_170_210_816),
            (663_552, 658_243_584),
            (294_912, 292_552_704),
            (73_728, 73_138_176),
        ],
        "block5.conv2": [
            (2_359_296, 2_340_421_632),
            (1_327_104, 1_316_487_168),
            (589_824, 585_105_408),
            (147_456, 146_276_352),
        ],
        "block6.conv1": [
            (4_718_592, 1_170_210_816),
            (2_654_208, 658_243_584),
            (1_179_648, 292_552_704),
            (294_912, 73_138_176),
        ],
        "block6.conv2": [
            (9_437_184, 2_340_421_632),
            (5_308_416, 1_316_487_168),
            (2_359_296, 585_105_408),
            (589_824, 146_276_352),
        ],
        "head.fc1": [(1_050_624, 4_194_304), (788_480, 3_145_728), (526_336, 2_097_152), (264_192, 1_048_576)],
    }
    for column, ratio in enumerate((0, 0.25, 0.5, 0.75)):
        report = inspect("qcnn14", prune_ratio=ratio)
        expected = kept | {name: row[column] for name, row in pruned.items()}
        assert weights_and_macs(report) == expected | {"head.classifier": (1_079_823, 1_079_296)}
    shapes = {layer["name"]: layer["output_shape"] for layer in inspect("qcnn14")["layers"]}
    assert shapes["block4.conv1"] == [512, 8, 125] and shapes["block6.conv2"] == [2048, 2, 31]
    # Batch norm: gamma and beta, and with_statistics adds a mean and a variance.
    norms = {layer["name"]: layer["parameters"] for layer in inspect("qcnn14")["layers"] if "Norm" in layer["op"]}
    assert norms["bn0"] == 2 * 128 and norms["block6.bn1"] == 2 * 4_096


def test_qresnet38_layer_by_layer():
    expected = {"stem.conv1": (576, 147_603_456), "stem.conv2": (9_216, 2_361_655_296)}
    stages = [
        (3, (9_216, 589_824_000), (9_216, 589_824_000), None),
        (4, (18_432, 294_912_000), (36_864, 589_824_000), (2_048, 32_768_000)),
        (6, (73_728, 294_912_000), (147_456, 589_824_000), (8_192, 32_768_000)),
        (3, (294_912, 292_552_704), (589_824, 585_105_408), (32_768, 32_505_856)),
    ]
    for stage, (blocks, first, other, skip) in enumerate(stages, 1):
        for block in range(blocks):
            expected[f"layer{stage}.{block}.conv1"] = first if block == 0 else other
            expected[f"layer{stage}.{block}.conv2"] = other
        if skip:
            expected[f"layer{stage}.0.skip.0"] = skip
    after = {
        0: ((2_359_296, 585_105_408), (9_437_184, 2_340_421_632), (1_050_624, 4_194_304)),
        0.25: ((1_769_472, 438_829_056), (5_308_416, 1_316_487_168), (788_480, 3_145_728)),
        0.5: ((1_179_648, 292_552_704), (2_359_296, 585_105_408), (526_336, 2_097_152)),
        0.75: ((589_824, 146_276_352), (589_824, 146_276_352), (264_192, 1_048_576)),
    }
    for ratio, (conv1, conv2, fc1) in after.items():
        last = {"after1.conv1": conv1, "after1.conv2": conv2, "head.fc1": fc1}
        found = weights_and_macs(inspect("qresnet38", prune_ratio=ratio))
        assert found == expected | last | {"head.classifier": (1_079_823, 1_079_296)}


@pytest.mark.parametrize(
    ("name", "gtzan", "esc50", "ravdess"),
    [
        ("qcnn14-p25", 13_762_223, 13_783_343, 13_761_167),
        ("qcnn14-p75", 3_941_039, 3_962_159, 3_939_983),
        ("qresnet38-p25", 15_382_703, 15_403_823, 15_381_647),
        ("qresnet38-p75", 8_956_079, 8_977_199, 8_955_023),
    ],
)
def test_transfer_heads_of_table_ii(name, gtzan, esc50, ravdess):
    spec, frontend = fresh.specs(name)
    counts = [count(with_transfer_head(spec, classes), frontend).parameters for classes in (10, 50, 8)]
    assert [found["with_frontend"] for found in counts] == [gtzan, esc50, ravdess]


def test_grouped_convolutions_count_the_kernels_that_they_hold():
    spec = PRESETS["mobilenetv1"]
    layers = {layer["name"]: layer for layer in count(spec, FRONT_ENDS["panns-32k"]).layers}
    depthwise = [layer for layer in layers.values() if layer["op"] == "Conv2d" and layer["parameters"] == 9 * 512]
    assert len(depthwise) == 6
    assert all(layer["macs"] == 9 * 512 * math.prod(layer["output_shape"][1:]) for layer in depthwise[:5])
