"""The networks: published shapes, twins, heads, and what a spec may not ask for."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from architectures import liven, small
from torch import nn

from edgeq.errors import InputError
from edgeq.nets.quaternion import QuaternionConv2d, QuaternionLinear
from edgeq.nets.registry import FAMILIES, FRONTENDS, PRESETS, build, preset
from edgeq.nets.spec import ArchitectureSpec


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_gives_logits_and_learns(name):
    torch.manual_seed(0)
    spec = small(name)
    network = liven(build(spec))  # ResNet38's branches begin with gamma 0, which stops their gradient
    logits = network(torch.randn(3, *spec.input_shape))
    assert logits.shape == (3, spec.classes)
    logits.square().sum().backward()
    for parameter_name, parameter in network.named_parameters():
        # A bias before batch norm has no gradient but rounding.
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0 or parameter_name.endswith("bias")


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_fits_its_front_end(name):
    from edgeq.audio.spec import PRESETS as FRONT_ENDS
    from edgeq.audio.spec import with_derivatives

    frontend = FRONT_ENDS[FRONTENDS[name]]
    if PRESETS[name].input_shape[0] == 4:
        frontend = with_derivatives(frontend)
    assert frontend.input_shape == PRESETS[name].input_shape


TWINS = [("dcase22", "qdcase22"), ("tiny", "qtiny"), ("cnn14", "qcnn14"), ("resnet38", "qresnet38")]


@pytest.mark.parametrize(("family", "twin"), TWINS)
def test_twins_share_widths_and_differ_in_layers(family, twin):
    real, quaternion = PRESETS[family], PRESETS[twin]
    assert real.widths == quaternion.widths and real.classes == quaternion.classes
    layers = [type(module) for module in build(small(twin)).modules()]
    assert nn.Conv2d not in layers and QuaternionConv2d in layers
    assert layers.count(nn.Linear) == 1  # the classifier stays real
    assert layers.count(QuaternionLinear) == (0 if family == "tiny" else 1)
    assert not any(
        isinstance(module, (QuaternionConv2d, QuaternionLinear)) for module in build(small(family)).modules()
    )


@pytest.mark.parametrize("name", ["dcase22", "qdcase22", "tiny", "qtiny"])
def test_a_seed_gives_one_network_and_evaluation_is_repeatable(name):
    networks = []
    for _ in range(2):
        torch.manual_seed(3)
        networks.append(build(PRESETS[name]).eval())
    for left, right in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        assert torch.equal(left, right)
    x = torch.randn(2, *PRESETS[name].input_shape)
    assert torch.equal(networks[0](x), networks[1](x))


@pytest.mark.parametrize("name", ["tiny", "qtiny", "qnano"])
@pytest.mark.parametrize("frames", [16, 50, 100, 137])
def test_the_small_family_takes_windows_of_any_length(name, frames):
    spec = PRESETS[name]
    network = build(spec).eval()
    assert network(torch.randn(2, spec.input_shape[0], 64, frames)).shape == (2, 10)


def test_the_small_head_is_mean_over_mels_then_mean_plus_maximum_over_time():
    torch.manual_seed(0)
    network = build(PRESETS["qnano"]).eval()
    maps = []
    network.get_submodule("bns.4").register_forward_hook(lambda module, inputs, output: maps.append(output))
    with torch.no_grad():
        logits = network(torch.randn(2, 4, 64, 50)).numpy()
    over_mels = np.maximum(maps[0].detach().numpy(), 0).mean(axis=2)
    pooled = over_mels.mean(axis=2) + over_mels.max(axis=2)
    classifier = network.get_submodule("classifier")
    expected = pooled @ classifier.weight.detach().numpy().T + classifier.bias.detach().numpy()
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_the_dcase_net_activates_and_pools_as_published():
    torch.manual_seed(0)
    network = build(PRESETS["dcase22"]).eval()
    seen = {}
    for name, module in network.named_modules():
        module.register_forward_hook(lambda module, inputs, output, name=name: seen.update({name: (inputs[0], output)}))
    with torch.no_grad():
        network(torch.randn(1, 1, 40, 51))
    torch.testing.assert_close(seen["conv2"][0], torch.tanh(seen["bn1"][1]))
    torch.testing.assert_close(seen["pool1"][0], torch.relu(seen["bn2"][1]))
    torch.testing.assert_close(seen["pool2"][0], torch.tanh(seen["bn3"][1]))
    torch.testing.assert_close(seen["classifier"][0], torch.tanh(seen["hidden"][1]))
    assert seen["pool1"][1].shape == (1, 16, 8, 10)
    assert seen["pool2"][1].shape == (1, 32, 2, 1)
    assert seen["hidden"][0].shape == (1, 64)


def test_only_the_small_family_drops_out_and_only_in_training():
    torch.manual_seed(0)
    network = build(PRESETS["tiny"]).eval()
    x = torch.randn(1, 1, 64, 50)
    assert torch.equal(network(x), network(x))
    network.get_submodule("dropout").train()
    assert not torch.equal(network(x), network(x))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (ArchitectureSpec("cnn6", (16,), 10, (1, 64, 50)), "family 'cnn6': expected one of dcase22, qdcase22, cnn5"),
        (ArchitectureSpec("cnn5", (16, 32), 10, (1, 64, 50)), "expected five"),
        (ArchitectureSpec("dcase22", (16, 16, 32), 10, (1, 40, 51)), "expected four"),
        (ArchitectureSpec("cnn5", (16, 32, 48, 64, 96), 10, (1, 15, 50)), "at least 16 x 16"),
        (ArchitectureSpec("dcase22", (16, 16, 32, 100), 10, (1, 40, 49)), "at least 20 x 50"),
        (ArchitectureSpec("qcnn5", (16, 32, 48, 66, 96), 10, (4, 64, 50)), "qcnn5: convs.3: 66 channels"),
        (ArchitectureSpec("qcnn5", (16, 32, 48, 64, 96), 10, (1, 64, 50)), "qcnn5: input: 1 channels"),
        (ArchitectureSpec("qdcase22", (16, 16, 22, 100), 10, (4, 40, 51)), "qdcase22: conv3: 22 channels"),
        (ArchitectureSpec("qdcase22", (16, 16, 32, 98), 10, (4, 40, 51)), "qdcase22: hidden: 98 channels"),
        (ArchitectureSpec("cnn5", (1 << 30,) * 5, 10, (1, 64, 50)), "more than 1,000,000,000 parameters"),
        (ArchitectureSpec("cnn5", (1 << 15,) * 5, 10, (1, 64, 50)), "more than 1,000,000,000 parameters"),
        (ArchitectureSpec("cnn5", (4,) * 5, 10**9, (1, 64, 50)), "1000000000 classes, 1 input components: more than"),
    ],
)
def test_a_spec_that_cannot_be_built_is_refused_by_layer(spec, message):
    with pytest.raises(InputError, match=message):
        build(spec)


def test_presets_by_name():
    assert preset("qtiny") is PRESETS["qtiny"]
    assert {spec.family for spec in PRESETS.values()} == set(FAMILIES)
    with pytest.raises(InputError, match="architecture 'huge': expected one of dcase22"):
        preset("huge")


def test_listing_architectures_does_not_import_torch():
    code = "import sys, edgeq.nets.registry; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
