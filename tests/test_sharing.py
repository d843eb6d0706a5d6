"""Maps that members of an ensemble have in common: found, computed once, and nothing else changed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from architectures import inputs, lively, small
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.compress.sharing import share
from edgeq.errors import InputError
from edgeq.nets import registry
from edgeq.nets.spec import ArchitectureSpec, EnsembleSpec, SharedMaps

DCASE = ArchitectureSpec("dcase22", (6, 5, 4, 5), 3, (1, 20, 50))
CNN5 = ArchitectureSpec("cnn5", (4, 6, 4, 8, 8), 3, (1, 16, 32))
FILTER = ("conv{0}.weight", "conv{0}.bias", "bn{0}.weight", "bn{0}.bias", "bn{0}.running_mean", "bn{0}.running_var")


def copies(member: ArchitectureSpec, count: int) -> tuple[torch.nn.Module, EnsembleSpec]:
    """An ensemble of one network several times, but for the classifiers."""
    spec = EnsembleSpec((member,) * count)
    network = lively(spec)
    weights = network.state_dict()
    for name in list(weights):
        if name.startswith("members.0.") and "classifier" not in name:
            for number in range(1, count):
                weights[name.replace("members.0.", f"members.{number}.")] = weights[name].clone()
    network.load_state_dict(weights)
    return network, spec


@pytest.mark.parametrize("member", [DCASE, CNN5, small("cpmobile")], ids=lambda member: member.family)
def test_equal_members_share_every_map_and_answer_as_before(member):
    network, spec = copies(member, 3)
    x = inputs(spec)
    shared, smaller, notes = share(network, spec, 0.0, x.numpy())
    with torch.inference_mode():
        torch.testing.assert_close(shared(x), network(x), rtol=0, atol=0)
    layers = {entry.layer for entry in smaller.shared}
    assert smaller == replace(
        spec,
        shared=tuple(
            SharedMaps(number, layer, 0, 0, network.get_submodule(f"members.0.{layer}").out_channels)
            for layer in dict.fromkeys(entry.layer for entry in smaller.shared)
            for number in (1, 2)
        ),
    )
    if member.family == "cpmobile":
        assert layers == {"stem.0", "blocks.5.conv.6"}
        assert "a sum or a depthwise convolution ties their channels" in notes[0]
    else:
        assert len(layers) == (3 if member is DCASE else 5) and not notes
        own = {name.split(".")[1] for name in shared.state_dict() if "conv" in name}
        assert own == {"0"}


@settings(max_examples=5, deadline=None)
@given(st.data())
def test_filters_alike_are_found_wherever_they_stand_and_however_often(data):
    """Some of conv2's filters of member 1 are those of member 0, some of member 2's of either, scaled a little."""
    spec = EnsembleSpec((DCASE, replace(DCASE, widths=(6, 7, 4, 5)), DCASE))
    network = lively(spec)
    weights = network.state_dict()
    for name in list(weights):  # equal inputs for conv2
        if name.startswith("members.0.") and name.split(".")[2] in ("conv1", "bn1"):
            for number in (1, 2):
                weights[name.replace("members.0.", f"members.{number}.")] = weights[name].clone()
    expected = []
    for member, source in ((1, 0), (2, data.draw(st.sampled_from([0, 1])))):
        places = data.draw(st.lists(st.integers(0, spec.members[member].widths[1] - 1), unique=True, max_size=4))
        froms = data.draw(st.lists(st.integers(0, 4), min_size=len(places), max_size=len(places)))
        for field in FILTER:
            field = field.format(2)
            weights[f"members.{member}.{field}"][places] = weights[f"members.{source}.{field}"][froms]
        for place in places:  # a map 0.1 % larger
            for field in ("bn2.weight", "bn2.bias"):
                weights[f"members.{member}.{field}"][place] *= 1.001
        expected.append(len(places))
    network.load_state_dict(weights)
    x = inputs(spec)
    shared, smaller, _ = share(network, spec, 0.005, x.numpy())
    found = [sum(entry.channels for entry in smaller.borrowed(member, "conv2")) for member in (1, 2)]
    assert found[0] >= expected[0] and found[1] >= expected[1]
    assert sum(entry.channels for entry in smaller.shared if entry.layer == "conv1") == 12
    with torch.inference_mode():
        torch.testing.assert_close(shared(x).softmax(1), network(x).softmax(1), rtol=0, atol=0.01)
    for member, taken in zip((1, 2), found, strict=True):
        if taken < spec.members[member].widths[1]:
            kept = shared.state_dict()[f"members.{member}.conv2.weight"]
            assert len(kept) == spec.members[member].widths[1] - taken


def test_nothing_alike_changes_nothing():
    spec = EnsembleSpec((DCASE, DCASE))
    network = lively(spec)
    shared, same, notes = share(network, spec, 1e-6, inputs(spec).numpy())
    assert same == spec and not notes and shared is network


def test_the_tolerance_is_a_part_of_the_maps_norm():
    """Maps of which one is the other times 1.1 are 1 / 11 of the larger apart."""
    network, spec = copies(DCASE, 2)
    with torch.no_grad():
        for norm in ("weight", "bias"):
            network.get_submodule("members.1.bn2").get_parameter(norm).mul_(1.1)
    x = inputs(spec).numpy()
    for tolerance, expected in ((0.09, 0), (0.092, 5)):
        _, smaller, _ = share(network, spec, tolerance, x)
        assert sum(entry.channels for entry in smaller.borrowed(1, "conv2")) == expected


def test_a_map_that_is_taken_over_is_not_lent_on():
    network, spec = copies(DCASE, 3)
    _, smaller, _ = share(network, spec, 0.0, inputs(spec).numpy())
    assert {entry.source for entry in smaller.shared} == {0}
    registry.build(smaller)  # which checks what is lent


def test_what_cannot_be_shared_says_why():
    quaternion = registry.preset("qdcase22")
    x = np.zeros((1, *quaternion.input_shape), np.float32)
    pair = EnsembleSpec((quaternion, quaternion))
    with pytest.raises(InputError, match="qdcase22: quaternion layers share no maps, of which four belong together"):
        share(lively(pair), pair, 0.1, x)
    other = replace(CNN5, input_shape=DCASE.input_shape)
    pair = EnsembleSpec((DCASE, other))
    with pytest.raises(InputError, match="dcase22: one member only: shares no maps; cnn5: one member only"):
        share(lively(pair), pair, 0.1, inputs(pair).numpy())
    network, pair = copies(DCASE, 2)
    for tolerance in (-0.1, float("nan"), float("inf")):
        with pytest.raises(InputError, match="expected a number from 0 up"):
            share(network, pair, tolerance, inputs(pair).numpy())
    again, shared, _ = share(network, pair, 0.0, inputs(pair).numpy())
    with pytest.raises(InputError, match="share maps already"):
        share(again, shared, 0.0, inputs(pair).numpy())
