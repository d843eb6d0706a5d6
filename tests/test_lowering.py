"""Lowering: the graph computes what the torch network computes, and refuses by name what it does not know."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from edgeq.errors import InputError
from edgeq.graph.reference import run
from edgeq.lowering.fold import BatchNorm, fold
from edgeq.lowering.trace import lower
from edgeq.nets.hamilton import COMPONENT
from edgeq.nets.panns import MelBatchNorm
from edgeq.nets.quaternion import QuaternionConv2d, QuaternionLinear
from edgeq.nets.registry import PRESETS, build
from edgeq.nets.spec import ArchitectureSpec


def trained(network):
    """The network with biases and batch norm statistics as after a training: none of them neutral."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.normal_()
                module.running_mean.normal_()
                module.running_var.uniform_(0.1, 3.0)
            if getattr(module, "bias", None) is not None:
                module.bias.normal_()
    return network.eval()


def spec_of(shape, classes=5, output="softmax"):
    return ArchitectureSpec("custom", (8,), classes, shape, output)


def narrow(spec):
    """The spec, or where its windows are long a network of the same layers on a small map, a few channels wide."""
    if spec.input_shape[2] < 200:
        return spec
    widths = tuple(max(4, width // 8 // 4 * 4) for width in spec.widths)
    return replace(spec, widths=widths, input_shape=(spec.input_shape[0], 32, 40), classes=7)


def assert_equal(network, spec, seed=0, tolerance=2e-6):
    x = torch.randn(3, *spec.input_shape, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        logits = network(x)
    expected = logits.softmax(-1) if spec.output == "softmax" else logits.sigmoid()
    graph = lower(network, spec)
    np.testing.assert_allclose(run(graph, x.permute(0, 2, 3, 1).numpy()), expected.numpy(), atol=tolerance)
    return graph


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_lowers_to_the_same_function(name):
    torch.manual_seed(1)
    spec = narrow(PRESETS[name])
    assert_equal(trained(build(spec)), spec, tolerance=1e-5)


def test_names_are_canonical():
    dcase, small = (lower(build(PRESETS[name]), PRESETS[name]) for name in ("qdcase22", "qtiny"))
    assert [op.output for op in dcase.ops] == [
        "conv_1", "tanh_1", "conv_2", "pool_1", "conv_3", "tanh_2", "pool_2", "reshape_1", "dense_1", "tanh_3",
        "dense_2", "softmax",
    ]  # fmt: skip
    assert [op.output for op in small.ops] == [
        "conv_1", "pool_1", "conv_2", "pool_2", "conv_3", "pool_3", "conv_4", "pool_4", "conv_5", "mean_1", "mean_2",
        "max_1", "add_1", "dense_1", "softmax",
    ]  # fmt: skip
    assert small.ops[0].inputs == ("input", "conv_1.weight", "conv_1.bias")
    assert (small.input, small.output, small.name) == ("input", "softmax", "qcnn5")
    assert small.tensors["input"].shape == (1, 64, 50, 4)
    assert small.tensors["conv_5"].shape == (1, 4, 3, 96)
    assert [op.activation for op in small.ops if op.kind == "CONV_2D"] == ["relu"] * 5


def test_weights_stay_as_trained_and_batch_norm_is_the_gain():
    torch.manual_seed(1)
    network = trained(build(PRESETS["qtiny"]))
    graph = lower(network, PRESETS["qtiny"])
    weight, bn = graph.tensors["conv_2.weight"], network.get_submodule("bns.1")
    components = network.get_submodule("convs.1").weight.detach().numpy()
    blocks = weight.data.reshape(4, 8, 3, 3, 4, 4)  # row, out, kernel, column, in
    for row in range(4):
        for column in range(4):
            part = components[COMPONENT[row][column]]
            assert np.array_equal(np.abs(blocks[row, :, :, :, column]), np.abs(part.transpose(0, 2, 3, 1)))
    assert weight.data.dtype == weight.gain.dtype == np.float32
    with torch.no_grad():
        expected = bn.weight / torch.sqrt(bn.running_var + bn.eps)
    np.testing.assert_allclose(weight.gain, expected.numpy(), rtol=1e-6)
    assert graph.tensors["dense_1.weight"].gain is None


def test_component_rows_of_a_filter_hold_the_same_numbers_up_to_sign():
    torch.manual_seed(1)
    graph = lower(trained(build(PRESETS["qnano"])), PRESETS["qnano"])
    for n in range(1, 6):
        weight = graph.tensors[f"conv_{n}.weight"].data
        magnitudes = np.sort(np.abs(weight).reshape(4, weight.shape[0] // 4, -1), axis=-1)
        assert all(np.array_equal(magnitudes[0], row) for row in magnitudes[1:])


def test_lowering_changes_nothing_in_the_network():
    torch.manual_seed(1)
    network = trained(build(PRESETS["tiny"]))
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    graph = lower(network, PRESETS["tiny"])
    graph.tensors["conv_1.weight"].data[:] = 0
    graph.tensors["dense_1.bias"].data[:] = 0
    assert network.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


@settings(max_examples=30)
@given(st.integers(1, 5), st.integers(0, 2**31), st.booleans(), st.sampled_from([1e-5, 1e-3]))
def test_folding_is_batch_norm_after_the_convolution(channels, seed, biased, epsilon):
    rng = np.random.default_rng(seed)
    gamma, beta, mean, x, bias = rng.normal(size=(5, channels))
    variance = rng.uniform(0, 4, channels)
    gain, folded = fold(BatchNorm(gamma, beta, mean, variance, epsilon), bias if biased else None)
    tensors = (torch.from_numpy(values) for values in (mean, variance, gamma, beta))
    convolved = torch.from_numpy(x + (bias if biased else 0))[None]
    expected = functional.batch_norm(convolved, *tensors, eps=epsilon)[0].numpy()
    np.testing.assert_allclose(gain * x + folded, expected, rtol=1e-4, atol=1e-4 * np.abs(gain).max())
    assert gain.dtype == folded.dtype == np.float32


class Residual(nn.Module):
    """A little of everything that later architectures need: stride, odd kernels, shortcut, pools, wide flatten."""

    def __init__(self, quaternion, stride, kernel, pad, bias, pool):
        super().__init__()
        conv = QuaternionConv2d if quaternion else nn.Conv2d
        dense = QuaternionLinear if quaternion else nn.Linear
        self.conv1 = conv(4, 8, kernel, stride=stride, padding=pad, bias=bias)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = conv(8, 8, 3, padding=1, bias=bias)
        self.relu = nn.ReLU()
        self.pool = pool
        self.head = nn.Sequential(
            nn.Flatten(), nn.Dropout(), dense(flat_size(stride, kernel, pad, pool), 12), nn.Tanh()
        )
        self.classifier = nn.Linear(12, 5)

    def forward(self, x):
        x = self.bn1(self.conv1(x))
        x = self.relu(x + functional.dropout(self.conv2(x), 0.5, self.training))
        return self.classifier(self.head(self.pool(x)))


def flat_size(stride, kernel, pad, pool):
    with torch.no_grad():
        return pool(nn.Conv2d(1, 8, kernel, stride=stride, padding=pad)(torch.zeros(1, 1, 12, 13))).numel()


@settings(max_examples=25)
@given(
    st.booleans(),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.tuples(st.integers(1, 5), st.integers(1, 4)),
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
    st.booleans(),
    st.sampled_from([nn.AvgPool2d(2), nn.MaxPool2d((2, 3), (1, 2)), nn.Identity()]),
    st.sampled_from(["softmax", "sigmoid"]),
    st.integers(0, 1000),
)
def test_residual_nets_of_many_shapes(quaternion, stride, kernel, pad, bias, pool, output, seed):
    torch.manual_seed(seed)
    network = trained(Residual(quaternion, stride, kernel, pad, bias, pool))
    graph = assert_equal(network, spec_of((4, 12, 13), output=output), seed)
    kinds = [op.kind for op in graph.ops]
    assert kinds[-1] == ("SOFTMAX" if output == "softmax" else "LOGISTIC")
    assert "RELU" not in kinds and kinds.count("ADD") == 1


def test_a_relu_is_not_fused_where_the_map_is_read_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 8, 3), nn.Linear(8, 5)

        def forward(self, x):
            x = self.conv(x)
            return self.fc((x + functional.relu(x)).mean(dim=(2, 3)))

    torch.manual_seed(0)
    graph = assert_equal(trained(Twice()), spec_of((1, 9, 7)))
    assert [op.output for op in graph.ops] == ["conv_1", "relu_1", "add_1", "mean_1", "dense_1", "softmax"]


class Inverted(nn.Module):
    """MobileNetV2's block: 1 x 1, depthwise, 1 x 1, with batch norm and ReLU6; pools before batch norm where asked."""

    def __init__(self, stride, multiplier, pooled):
        super().__init__()
        pool = nn.AvgPool2d(2) if pooled else nn.Identity()
        self.stem = nn.Sequential(nn.Conv2d(2, 6, 3, bias=False), pool, nn.BatchNorm2d(6), nn.ReLU6())
        self.block = nn.Sequential(
            nn.Conv2d(6, 12, 1, bias=False), nn.BatchNorm2d(12), nn.ReLU6(),
            nn.Conv2d(12, 12, 3, padding=1, groups=12), pool, nn.BatchNorm2d(12), Call(functional.relu6),
            nn.Conv2d(12, 6, 1, bias=False), nn.BatchNorm2d(6),
        )  # fmt: skip
        depthwise = nn.Conv2d(6, 6 * multiplier, (3, 2), stride, (1, 0), groups=6, bias=False)
        self.last = nn.Sequential(depthwise, nn.BatchNorm2d(6 * multiplier))
        self.pool = pool
        self.classifier = nn.Linear(6 * multiplier, 5)

    def forward(self, x):
        x = self.stem(x)
        x = functional.relu6(self.pool(x) + self.block(x))
        return self.classifier(self.last(x).mean(dim=(2, 3)))


@pytest.mark.parametrize("stride", [1, 2, (1, 2)])
@pytest.mark.parametrize("multiplier", [1, 3])
@pytest.mark.parametrize("pooled", [False, True])
def test_depthwise_convolutions_fold_batch_norm_and_fuse_relu6(stride, multiplier, pooled):
    torch.manual_seed(0)
    graph = assert_equal(trained(Inverted(stride, multiplier, pooled)), spec_of((2, 19, 17)))
    kinds = [op.kind for op in graph.ops]
    assert kinds.count("DEPTHWISE_CONV_2D") == 2
    assert kinds.count("RELU6") == (2 if pooled else 0)
    assert all(graph.tensors[f"depthwise_{n}.weight"].gain is not None for n in (1, 2))
    assert graph.tensors["depthwise_1.weight"].shape == (12, 3, 3, 1)


def mel_normed(bn0):
    return nn.Sequential(bn0, nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 8 * 6, 5))


def test_batch_norm_over_mels_is_a_product_and_a_sum():
    torch.manual_seed(0)
    graph = assert_equal(trained(mel_normed(MelBatchNorm(8))), spec_of((2, 8, 6)))
    assert [op.output for op in graph.ops][:3] == ["mul_1", "add_1", "conv_1"]
    assert graph.ops[0].inputs == ("input", "mul_1.constant")
    assert graph.tensors["mul_1.constant"].shape == graph.tensors["add_1.constant"].shape == (1, 8, 1, 1)


@pytest.mark.parametrize(("gain", "shift", "kept"), [(1, 0, []), (2, 0, ["mul_1"]), (1, 3, ["add_1"])])
def test_batch_norm_over_mels_leaves_out_what_changes_nothing(gain, shift, kept):
    torch.manual_seed(0)
    network = mel_normed(MelBatchNorm(8, eps=0)).eval()
    with torch.no_grad():
        network[0].weight.fill_(gain)
        network[0].bias.fill_(shift)
    graph = assert_equal(network, spec_of((2, 8, 6)))
    assert [op.output for op in graph.ops if op.kind in ("MUL", "ADD")] == kept


def test_functional_pools_and_joins():
    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right, self.classifier = nn.Conv2d(1, 4, 3), nn.Conv2d(1, 2, 3), nn.Linear(12, 5)

        def forward(self, x):
            x = torch.cat((functional.max_pool2d(self.left(x), 2), functional.avg_pool2d(self.right(x), (2, 2))), dim=1)
            x = functional.avg_pool2d(functional.avg_pool2d(x, 3, (1, 2), padding=(1, 0)), kernel_size=1)
            return self.classifier(torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1))

    torch.manual_seed(0)
    graph = assert_equal(Joined().eval(), spec_of((1, 12, 15)))
    assert [op.output for op in graph.ops] == [
        "conv_1", "pool_1", "conv_2", "pool_2", "concat_1", "pad_1", "pool_3", "mean_1", "max_1", "concat_2", "dense_1",
        "softmax",
    ]  # fmt: skip


def test_what_a_pool_of_one_cell_passes_on_is_not_changed_where_others_read_it_too():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.pool, self.fc = nn.Conv2d(1, 8, 3), nn.AvgPool2d(1), nn.Linear(8, 5)

        def forward(self, x):
            x = self.conv(x)
            return self.fc((x + functional.relu(self.pool(x))).mean(dim=(2, 3)))

    torch.manual_seed(0)
    graph = assert_equal(trained(Twice()), spec_of((1, 9, 7)))
    assert [op.output for op in graph.ops] == ["conv_1", "relu_1", "add_1", "mean_1", "dense_1", "softmax"]


class Around(nn.Module):
    """Convolution, the function or layer in question, mean, dense."""

    def __init__(self, middle):
        super().__init__()
        self.conv, self.middle, self.fc = nn.Conv2d(1, 8, 3), middle, nn.Linear(8, 5)

    def forward(self, x):
        return self.fc(self.middle(self.conv(x)).mean(dim=(2, 3)))


class Call(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    ("middle", "message"),
    [
        (nn.GELU(), r"middle \(GELU\): no lowering"),
        (nn.Conv2d(8, 8, 3, groups=2), r"middle \(Conv2d\): groups 2: expected 1, or one a channel \(8\)"),
        (nn.Conv2d(8, 8, 3, dilation=2), "dilation"),
        (nn.Conv2d(8, 8, 3, padding="same"), "padding 'same'"),
        (nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), "padding mode"),
        (nn.Conv2d(8, 8, 30), r"does not fit inputs of shapes \(1, 7, 5, 8\), \(8, 30, 30, 8\)"),
        (nn.Conv2d(4, 8, 3), r"does not fit inputs of shapes \(1, 7, 5, 8\), \(8, 3, 3, 4\)"),
        (nn.AvgPool2d(2, ceil_mode=True), "ceil_mode"),
        (nn.AvgPool2d(3, padding=1, count_include_pad=False), "padding that is not counted"),
        (nn.AvgPool2d(3, divisor_override=2), "divisor_override"),
        (nn.MaxPool2d(3, padding=1), "padding"),
        (nn.MaxPool2d(3, return_indices=True), "return_indices"),
        (Call(lambda x: functional.avg_pool2d(x, 2, ceil_mode=True)), "avg_pool2d: ceil_mode"),
        (nn.MaxPool2d(3, dilation=2), "dilation"),
        (nn.Sequential(nn.ReLU(), nn.BatchNorm2d(8)), r"middle.1 \(BatchNorm2d\): batch norm that does not"),
        (nn.Sequential(nn.BatchNorm2d(8), nn.BatchNorm2d(8)), "does not directly follow"),
        (nn.BatchNorm2d(8, track_running_stats=False), "without running statistics"),
        (Call(torch.sigmoid), "sigmoid: no lowering"),
        (Call(lambda x: x.clamp(0, 6)), "clamp: no lowering"),
        (Call(lambda x: x + 1), "a constant in the sum"),
        (Call(lambda x: torch.add(x, x, alpha=2)), "add: arguments without a lowering"),
        (Call(lambda x: x + x.mean(dim=1, keepdim=True)), "mean: over axes"),
        (Call(lambda x: x.amax(dim=(0,))), "amax: over axes"),
        (Call(lambda x: x.flatten(2)), "flatten: from axis 2"),
        (Call(lambda x: torch.cat((x, x), dim=2)), "cat: over axis 2"),
        (nn.Sequential(nn.AvgPool2d(2), nn.ReLU(), nn.BatchNorm2d(8)), "does not directly follow"),
        (MelBatchNorm(8), r"middle \(MelBatchNorm\): of 8 mels for a map of shape \(1, 7, 5, 8\)"),
        (Call(lambda x: x if x.sum() > 0 else -x), "cannot be traced"),
    ],
)
def test_what_has_no_lowering_is_refused_by_name(middle, message):
    with pytest.raises(InputError, match=message):
        lower(Around(middle).eval(), spec_of((1, 9, 7)))


def test_the_network_must_fit_its_spec():
    network = Around(nn.Identity())
    with pytest.raises(InputError, match=r"output of shape \(1, 5\): expected \(1, 6\)"):
        lower(network, spec_of((1, 9, 7), classes=6))
    with pytest.raises(InputError, match=r"conv \(Conv2d\): CONV_2D 'conv_1': does not fit inputs of shapes"):
        lower(network, spec_of((2, 9, 7)))
    with pytest.raises(InputError, match=r"fc \(Linear\): input of shape"):
        lower(Around(nn.Conv2d(8, 6, 1)), spec_of((1, 9, 7)))


def test_two_inputs_or_two_outputs_are_refused():
    class Two(nn.Module):
        def forward(self, x, y):
            return x + y

    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    with pytest.raises(InputError, match="y: a second input"):
        lower(Two(), spec_of((1, 9, 7)))
    with pytest.raises(InputError, match="expected one tensor of logits"):
        lower(Pair(), spec_of((1, 9, 7)))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_of_a_diverged_training_are_refused(value):
    network = build(PRESETS["qnano"])
    with torch.no_grad():
        network.get_submodule("convs.2").weight[0, 0, 0, 0, 0] = value
    with pytest.raises(InputError, match=r"convs.2 \(QuaternionConv2d\): weights hold NaN or infinity"):
        lower(network, PRESETS["qnano"])
