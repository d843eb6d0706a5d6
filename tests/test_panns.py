"""PANNs' networks and their quaternion twins, against the papers' forward pass written out in PANNs' own layout."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from architectures import liven, small
from torch import nn
from torch.nn import functional

from edgeq import zoo
from edgeq.audio.spec import PRESETS as FRONT_ENDS
from edgeq.audio.spec import with_derivatives
from edgeq.errors import InputError
from edgeq.nets.count import count
from edgeq.nets.panns import BasicBlock, Cnn14, ConvBlock, ResNet38
from edgeq.nets.registry import FRONTENDS, PRESETS, build, frontend, known, preset, pruned, with_transfer_head
from edgeq.nets.spec import ArchitectureSpec

NAMES = ("cnn14", "cnn14-4ch", "qcnn14", "resnet38", "resnet38-4ch", "qresnet38")


def shapes(name):
    with torch.device("meta"):
        state = build(preset(name)).state_dict()
    return {key: tuple(value.shape) for key, value in state.items() if not key.endswith("num_batches_tracked")}


def hamilton(left, right):
    """A product of quaternions expanded from i^2 = j^2 = k^2 = ijk = -1; the components are on the first axis."""
    (a, b, c, d), (e, f, g, h) = left, right
    return np.stack(
        [
            a * e - b * f - c * g - d * h,
            a * f + b * e + c * h - d * g,
            a * g - b * h + c * e + d * f,
            a * h + b * g - c * f + d * e,
        ]
    )


def quaternion_convolution(weight, x):
    """weight: (4, out, in, 3, 3); x: (4 in, rows, columns), component-major. Padded by 1, one quaternion at a time."""
    filters, (rows, columns) = weight.shape[1], x.shape[1:]
    x = np.pad(x.reshape(4, -1, rows, columns), ((0, 0), (0, 0), (1, 1), (1, 1)))
    y = np.zeros((4, filters, rows, columns))
    for out in range(filters):
        for channel in range(x.shape[1]):
            for row in range(3):
                for column in range(3):
                    tap = weight[:, out, channel, row, column, None, None]
                    y[:, out] += hamilton(tap, x[:, channel, row : row + rows, column : column + columns])
    return y.reshape(4 * filters, rows, columns)


def normalised(x, bn):
    gamma, beta, mean, variance = (
        value.detach().double().numpy()[:, None, None]
        for value in (bn.weight, bn.bias, bn.running_mean, bn.running_var)
    )
    return gamma * (x - mean) / np.sqrt(variance + bn.eps) + beta


def test_a_quaternion_block_is_two_hamilton_products_with_real_batch_norm_and_split_relu():
    torch.manual_seed(0)
    block = liven(ConvBlock(8, 12, 4, quaternion=True)).eval()
    x = torch.randn(1, 8, 6, 5)
    with torch.no_grad():
        found = block(x)[0].numpy()
    y = x[0].double().numpy()
    for conv, bn in ((block.conv1, block.bn1), (block.conv2, block.bn2)):
        y = np.maximum(normalised(quaternion_convolution(conv.weight.detach().double().numpy(), y), bn), 0)
    np.testing.assert_allclose(found, y, rtol=1e-4, atol=1e-5)


class Published:
    """The forward pass by torch's functions, on (N, channels, frames, mels) as in PANNs' code."""

    def __init__(self, network):
        self.state = network.state_dict()

    def conv(self, x, name):
        weight = self.state[f"{name}.weight"]
        if weight.ndim == 5:
            r, i, j, k = weight
            rows = ((r, -i, -j, -k), (i, r, -k, j), (j, k, r, -i), (k, -j, i, r))
            weight = torch.cat([torch.cat(row, dim=1) for row in rows], dim=0)
        return functional.conv2d(x, weight.transpose(2, 3), padding=weight.shape[2] // 2)

    def norm(self, x, name):
        keys = ("running_mean", "running_var", "weight", "bias")
        return functional.batch_norm(x, *(self.state[f"{name}.{key}"] for key in keys))

    def block(self, x, name):
        x = functional.relu(self.norm(self.conv(x, f"{name}.conv1"), f"{name}.bn1"))
        return functional.relu(self.norm(self.conv(x, f"{name}.conv2"), f"{name}.bn2"))

    def basic(self, x, name, stride):
        y = functional.avg_pool2d(x, 2) if stride == 2 else x
        y = functional.relu(self.norm(self.conv(y, f"{name}.conv1"), f"{name}.bn1"))
        y = self.norm(self.conv(y, f"{name}.conv2"), f"{name}.bn2")
        if stride == 2:
            x = functional.avg_pool2d(x, 2)
            x = self.norm(self.conv(x, f"{name}.skip.0"), f"{name}.skip.1")
        return functional.relu(y + x)

    def dense(self, x, name):
        weight = self.state[f"{name}.weight"]
        if weight.ndim == 3:
            r, i, j, k = weight
            rows = ((r, -i, -j, -k), (i, r, -k, j), (j, k, r, -i), (k, -j, i, r))
            weight = torch.cat([torch.cat(row, dim=1) for row in rows], dim=0)
        return functional.linear(x, weight, self.state[f"{name}.bias"])

    def head(self, x):
        x = torch.mean(x, dim=3)
        x = torch.max(x, dim=2)[0] + torch.mean(x, dim=2)
        return self.dense(functional.relu(self.dense(x, "head.fc1")), "head.classifier")

    def bn0(self, x):
        return self.norm(x.transpose(1, 3), "bn0").transpose(1, 3)

    def cnn14(self, x):
        x = self.bn0(x)
        for block in range(1, 7):
            x = self.block(x, f"block{block}")
            x = functional.avg_pool2d(x, 2) if block < 6 else x
        return self.head(x)

    def resnet38(self, x):
        x = functional.avg_pool2d(self.block(self.bn0(x), "stem"), 2)
        for stage, blocks in enumerate((3, 4, 6, 3), 1):
            for block in range(blocks):
                x = self.basic(x, f"layer{stage}.{block}", stride=2 if stage > 1 and block == 0 else 1)
        return self.head(self.block(functional.avg_pool2d(x, 2), "after1"))


@pytest.mark.parametrize("name", NAMES)
def test_the_forward_pass_is_the_published_one(name):
    torch.manual_seed(0)
    spec = small(name)
    network = liven(build(spec)).eval()
    published = Published(network)
    x = torch.randn(2, *spec.input_shape)
    with torch.no_grad():
        found = network(x)
        forward = published.resnet38 if "resnet38" in name else published.cnn14
        expected = forward(x.transpose(2, 3))
    assert found.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_weights_have_the_published_shapes():
    real, quaternion = shapes("cnn14"), shapes("qcnn14")
    assert real["bn0.weight"] == quaternion["bn0.weight"] == (64,)
    assert real["block1.conv1.weight"] == (64, 1, 3, 3)
    assert quaternion["block1.conv1.weight"] == (4, 16, 1, 3, 3)
    assert real["block6.conv2.weight"] == (2048, 2048, 3, 3)
    assert quaternion["block6.conv2.weight"] == (4, 512, 512, 3, 3)
    assert quaternion["block6.bn2.weight"] == (2048,)
    assert real["head.fc1.weight"] == (2048, 2048) and quaternion["head.fc1.weight"] == (4, 512, 512)
    assert real["head.classifier.weight"] == quaternion["head.classifier.weight"] == (527, 2048)
    assert shapes("qcnn14-p50")["head.fc1.weight"] == (4, 512, 256)
    assert not any("conv" in key and key.endswith("bias") for key in (*real, *quaternion))

    real, quaternion = shapes("resnet38"), shapes("qresnet38-p75")
    assert len([key for key in real if re.search(r"layer\d\.\d\.conv\d\.weight", key)]) == 32
    assert [key for key in real if key.endswith("skip.0.weight")] == [f"layer{n}.0.skip.0.weight" for n in (2, 3, 4)]
    assert real["layer3.0.skip.0.weight"] == (256, 128, 1, 1)
    assert real["after1.conv1.weight"] == (2048, 512, 3, 3)
    assert quaternion["after1.conv1.weight"] == (4, 128, 128, 3, 3)
    assert quaternion["layer4.2.conv2.weight"] == (4, 128, 128, 3, 3)


def test_initialisation_is_pannss_where_real_and_polar_where_quaternion():
    torch.manual_seed(0)
    real = build(replace(small("resnet38"), widths=tuple(width // 4 for width in PRESETS["resnet38"].widths)))
    kernel = real.get_submodule("after1.conv2").weight.detach()
    limit = (6 / (9 * (512 + 512))) ** 0.5  # Glorot and Bengio 2010, Eq. 16
    assert kernel.abs().max() <= limit and kernel.std() == pytest.approx(limit / 3**0.5, rel=0.01)
    assert all(not module.bias.any() for module in real.modules() if isinstance(module, nn.Linear))
    gammas = [block.bn2.weight for block in real.modules() if isinstance(block, BasicBlock)]
    assert len(gammas) == 16 and not any(gamma.any() for gamma in gammas)
    assert real.get_submodule("stem.bn2").weight.all()

    quaternion = build(replace(small("qcnn14"), widths=tuple(width // 4 for width in PRESETS["qcnn14"].widths)))
    weight = quaternion.get_submodule("block6.conv2").weight.detach()
    squared = 4 / (2 * 9 * (128 + 128))  # E|w|^2 = 4 s^2, fans of the quaternion kernel
    assert weight.square().sum(dim=0).mean() == pytest.approx(squared, rel=0.02)


def test_dropout_is_where_pannss_is():
    rates = [
        (name, module.p) for name, module in Cnn14(small("cnn14")).named_modules() if isinstance(module, nn.Dropout)
    ]
    assert rates == [("dropout", 0.2), ("head.dropout", 0.5)]
    network = ResNet38(small("resnet38"))
    rates = [module.p for module in network.modules() if isinstance(module, nn.Dropout)]
    assert sorted(rates) == [0.1] * 16 + [0.2, 0.5]

    seen = []
    network = Cnn14(replace(small("cnn14"), input_shape=(1, 64, 101)))
    network.dropout.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape[2:])))
    network(torch.randn(2, 1, 64, 101))
    assert seen == [(32, 50), (16, 25), (8, 12), (4, 6), (2, 3), (2, 3)]  # after every block, the sixth unpooled


@pytest.mark.parametrize(
    ("ratio", "widths"),
    [(0, (512, 1024, 2048)), (0.25, (384, 768, 1536)), (0.5, (256, 512, 1024)), (0.75, (128, 256, 512))],
)
def test_the_papers_pruning_sites(ratio, widths):
    four, five, six = widths
    for name in ("cnn14", "qcnn14"):
        expected = (64, 64, 128, 128, 256, 256, four, four, five, five, six, six, 2048)
        assert pruned(PRESETS[name], ratio).widths == expected
    for name in ("resnet38", "qresnet38"):
        expected = PRESETS[name].widths
        assert pruned(PRESETS[name], ratio).widths == (*expected[:21], six, six, expected[23])


@pytest.mark.parametrize("percent", range(1, 100))
def test_a_suffix_prunes_or_is_refused_by_layer(percent):
    name, ratio = f"-p{percent:02}", percent / 100
    assert preset(f"cnn14{name}").widths[6] == 512 * (100 - percent) // 100
    if all(width * (100 - percent) // 100 % 4 == 0 for width in (512, 1024, 2048)):
        assert preset(f"qcnn14{name}") == pruned(PRESETS["qcnn14"], ratio)
    else:
        with pytest.raises(InputError, match=r"qcnn14: block\d\.conv1: a pruning ratio of .* expected a multiple of 4"):
            preset(f"qcnn14{name}")


def test_names_of_pruned_architectures():
    assert known("qcnn14") and known("qcnn14-p25") and known("cnn14-4ch-p50") and known("tiny-p50")
    assert not any(
        known(name) for name in ("qcnn14-p00", "qcnn14-p5", "qcnn14-p100", "qcnn14-P50", "-p50", "nothing-p50")
    )
    assert frontend("qcnn14-p25") == FRONTENDS["qcnn14"] == "panns-32k"
    assert preset("cnn14-4ch-p50").input_shape[0] == 4
    with pytest.raises(InputError, match="architecture 'nothing-p50': expected one of dcase22"):
        preset("nothing-p50")
    for name in ("qcnn14-p00", "qcnn14-p5", "qcnn14-p050"):
        for refusing in (preset, zoo.find):
            with pytest.raises(
                InputError, match=f"'{name}': expected qcnn14-p and two digits.*01 to 99, as in qcnn14-p50"
            ):
                refusing(name)
    with pytest.raises(InputError, match="tiny-p50: cnn5: no paper says which of its layers to prune"):
        preset("tiny-p50")


@pytest.mark.parametrize(
    ("name", "ratio", "message"),
    [
        ("qcnn14", 1.0, "qcnn14: pruning ratio 1: expected 0 or more and less than 1"),
        ("qcnn14", -0.25, "pruning ratio -0.25: expected 0 or more"),
        ("qcnn14", float("nan"), "pruning ratio nan: expected 0 or more"),
        ("qcnn14", 0.3, "qcnn14: block4.conv1: a pruning ratio of 0.3 leaves 358 channels, expected a multiple of 4"),
        ("qresnet38", 0.3, "qresnet38: after1.conv1: a pruning ratio of 0.3 leaves 1433 channels"),
        (
            "resnet38",
            0.9999,
            "resnet38: after1.conv1: a pruning ratio of 0.9999 leaves 0 channels, expected at least 1",
        ),
        ("qtiny", 0.5, "qcnn5: no paper says which of its layers to prune; expected one of cnn14, qcnn14"),
        ("dcase22", 0.5, "dcase22: no paper says"),
    ],
)
def test_pruning_that_cannot_be_done_is_refused(name, ratio, message):
    with pytest.raises(InputError, match=re.escape(message)):
        pruned(PRESETS[name], ratio)


def test_ratios_are_exact_in_decimals():
    spec = ArchitectureSpec("cnn14", (10,) * 13, 10, (1, 64, 64))
    assert pruned(spec, 0.9).widths == (10,) * 6 + (1,) * 6 + (10,)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("cnn14", {"widths": (64,) * 12}, "cnn14: 12 widths: expected 13 (block1.conv1 to head.fc1), or one more"),
        (
            "qresnet38",
            {"widths": (64,) * 26},
            "qresnet38: 26 widths: expected 24 (stem.conv1 to head.fc1), or one more",
        ),
        ("qcnn14", {"widths": (64,) * 8 + (66,) + (64,) * 4}, "qcnn14: block5.conv1: 66 channels"),
        ("qcnn14", {"widths": (64,) * 12 + (10,)}, "qcnn14: head.fc1: 10 channels"),
        ("qresnet38", {"widths": (64,) * 7 + (30,) + (64,) * 16}, "qresnet38: layer1.2.conv1: 30 channels"),
        ("qresnet38", {"widths": (64,) * 2 + (30,) + (64,) * 21}, "qresnet38: layer2: 30 channels"),
        ("qcnn14", {"input_shape": (1, 64, 1001)}, "qcnn14: input: 1 channels"),
        ("cnn14", {"input_shape": (1, 64, 31)}, "cnn14: input of 64 mels x 31 frames: expected at least 32 x 32"),
        (
            "resnet38",
            {"input_shape": (1, 31, 500)},
            "resnet38: input of 31 mels x 500 frames: expected at least 32 x 32",
        ),
        ("cnn14", {"classes": 1}, "cnn14: 1 classes: expected at least 2"),
    ],
)
def test_a_spec_that_cannot_be_built_is_refused_by_layer(name, changes, message):
    with pytest.raises(InputError, match=re.escape(message)):
        build(replace(PRESETS[name], **changes))


@pytest.mark.parametrize("name", ["cnn14", "qcnn14", "resnet38", "qresnet38"])
def test_the_least_input_runs_and_no_frame_less(name):
    spec = replace(small(name), input_shape=(PRESETS[name].input_shape[0], 32, 32))
    network = build(spec).eval()
    x = torch.randn(1, *spec.input_shape)
    assert network(x).shape == (1, 7)
    with pytest.raises(RuntimeError):  # the pools need what the error says that they need
        network(x[..., :31])


def test_the_least_input_is_told_in_seconds():
    frontend = replace(FRONT_ENDS["panns-32k"], window_seconds=0.2)
    spec = replace(PRESETS["cnn14"], input_shape=frontend.input_shape)
    with pytest.raises(InputError, match=r"64 mels x 21 frames: expected at least 32 x 32 .* 32 frames are 0\.31 s"):
        count(spec, frontend)
    enough = replace(frontend, window_seconds=0.31)
    assert count(replace(spec, input_shape=enough.input_shape), enough).macs["network"] > 0


@pytest.mark.parametrize("name", ["cnn14", "qcnn14", "resnet38", "qresnet38"])
def test_a_transfer_head_is_a_dense_layer_on_top_of_the_tags(name):
    base = small(name)
    spec = with_transfer_head(base, 3)
    assert (spec.classes, spec.output) == (3, "softmax")
    torch.manual_seed(0)
    network, plain = build(spec).eval(), build(base).eval()
    state = network.state_dict()
    for key in ("weight", "bias"):
        state[f"head.classifier.{key}"] = state.pop(f"head.tags.{key}")
    plain.load_state_dict(state)
    classifier = nn.Linear(7, 3)
    classifier.load_state_dict(network.get_submodule("head.classifier").state_dict())
    x = torch.randn(2, *spec.input_shape)
    torch.testing.assert_close(network(x), classifier(plain(x)))
    assert build(spec.with_classes(2)).get_submodule("head.classifier").weight.shape == (2, 7)


def test_a_transfer_head_that_cannot_be_had_is_refused():
    with pytest.raises(InputError, match="qcnn5: has no transfer head; expected one of cnn14"):
        with_transfer_head(PRESETS["qtiny"], 10)
    with pytest.raises(InputError, match="qcnn14: has a transfer head already"):
        with_transfer_head(with_transfer_head(PRESETS["qcnn14"], 50), 10)
    with pytest.raises(InputError, match="1 classes: expected at least 2"):
        with_transfer_head(PRESETS["qcnn14"], 1)


def test_a_transfer_head_keeps_through_pruning():
    spec = pruned(with_transfer_head(PRESETS["qcnn14"], 10), 0.5)
    assert spec == with_transfer_head(preset("qcnn14-p50"), 10)
    assert spec.widths[-2:] == (2048, 527)


def test_four_components_mean_derivatives():
    front = with_derivatives(FRONT_ENDS["panns-32k"])
    assert front.input_shape == PRESETS["qcnn14"].input_shape == PRESETS["cnn14-4ch"].input_shape == (4, 64, 1001)
    assert FRONT_ENDS["panns-32k"].input_shape == PRESETS["cnn14"].input_shape
