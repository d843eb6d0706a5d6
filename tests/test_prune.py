"""Pruning: the smaller network is the whole one with those filters silenced, in every family."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from architectures import liven, small
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgeq.compress import importance, similarity
from edgeq.compress.prune import PUBLISHED, Change, every_convolution, prune, ratios
from edgeq.errors import InputError
from edgeq.nets import registry
from edgeq.nets.quaternion import QuaternionConv2d, QuaternionLinear
from edgeq.nets.spec import ArchitectureSpec

NAMES = ["dcase22", "qdcase22", "tiny", "qtiny", "cnn14", "qcnn14", "resnet38", "qresnet38", "mobilenetv1",
         "mobilenetv2", "cpmobile"]  # fmt: skip
WEIGHTED = (nn.Conv2d, QuaternionConv2d, nn.Linear, QuaternionLinear)


def spec_of(name: str) -> ArchitectureSpec:
    """Wide enough that a quaternion layer has three filters."""
    spec = small(name)
    return replace(spec, widths=tuple(max(12, width) for width in spec.widths))


@cache
def network_of(name: str) -> nn.Module:
    return built(spec_of(name))


def built(spec: ArchitectureSpec, seed: int = 0) -> nn.Module:
    """In double precision, so that what is equal is equal to many digits; each layer has something to say."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        network = liven(registry.build(spec)).double()
        for module in network.modules():
            if isinstance(module, WEIGHTED) and module.bias is not None:
                nn.init.uniform_(module.bias, -0.2, 0.2)
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.9
        network(input_of(spec.input_shape))  # statistics of what the layer hears: signals keep their size
    return network.eval()


@cache
def input_of(shape: tuple[int, int, int]) -> Tensor:
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def filters(layer: Any) -> int:
    return len(layer.weight[0]) if isinstance(layer, (QuaternionConv2d, QuaternionLinear)) else len(layer.weight)


def silenced(network: nn.Module, spec: ArchitectureSpec, changes: Iterable[Change]) -> nn.Module:
    """The network with the weights and biases of pruned filters zero, and what batch norm makes of them too.

    A layer's batch norm is the next one called, before any other layer with weights is.
    """
    network = copy.deepcopy(network)
    called: list[nn.Module] = []
    counted = [module for module in network.modules() if isinstance(module, (*WEIGHTED, nn.BatchNorm2d))]
    hooks = [module.register_forward_hook(lambda module, *_: called.append(module)) for module in counted]
    with torch.no_grad():
        network(input_of(spec.input_shape))
        for hook in hooks:
            hook.remove()
        for change in changes:
            layer: Any = network.get_submodule(change.layer)
            gone = torch.ones(filters(layer), dtype=torch.bool)
            gone[list(change.kept)] = False
            if isinstance(layer, (QuaternionConv2d, QuaternionLinear)):
                layer.weight[:, gone] = 0
                gone = gone.repeat(4)
            else:
                layer.weight[gone] = 0
            assert int((~gone).sum()) == change.after
            assert len(gone) == change.before
            follower: Any = called[called.index(layer) + 1]
            for affine in [layer, follower] if isinstance(follower, nn.BatchNorm2d) else [layer]:
                if affine.bias is not None:
                    affine.bias[gone] = 0
                if affine is follower:
                    affine.weight[gone] = 0
    return network


def assert_prunes_exactly(
    network: nn.Module, spec: ArchitectureSpec, chosen: dict[str, float], method: Any, round_to: int = 1
) -> tuple[ArchitectureSpec, dict[str, Change]]:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    smaller, narrow, changes = prune(network, spec, chosen, method, round_to)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    x = input_of(spec.input_shape)
    with torch.no_grad():
        expected = silenced(network, spec, changes)(x)
        assert (expected - network(x)).abs().max() > 1e-6 or not changes  # silencing is no idle work
        torch.testing.assert_close(smaller(x), expected, rtol=0, atol=1e-10)
    # What is left is what the smaller spec builds, with nothing missing or over.
    again = registry.build(narrow).double().eval()
    again.load_state_dict(smaller.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(again(x), expected, rtol=0, atol=1e-10)
    return narrow, {change.layer: change for change in changes}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(NAMES) - {"tiny", "cnn14"}))
@given(data=st.data())
@settings(max_examples=4)
def test_equals_the_network_with_those_filters_silenced(name: str, data: st.DataObject) -> None:
    spec, network = spec_of(name), network_of(name)
    sites = data.draw(st.lists(st.sampled_from(every_convolution(spec)), min_size=1, max_size=5, unique=True))
    chosen = {}
    for site in sites:
        count = filters(network.get_submodule(site))
        chosen[site] = 1 - data.draw(st.integers(1, count - 1)) / count
    method = data.draw(st.sampled_from([name for name in importance.METHODS if name != "similarity"]))
    narrow, changes = assert_prunes_exactly(network, spec, chosen, importance.named(method, seed=1))
    for site, ratio in chosen.items():
        count = filters(network.get_submodule(site))
        assert len(changes[site].kept) == round(count * (1 - ratio))
    assert sum(narrow.widths) < sum(spec.widths)


@pytest.mark.parametrize("name", NAMES)
def test_every_convolution_at_once(name: str) -> None:
    spec, network = spec_of(name), network_of(name)
    chosen = dict.fromkeys(every_convolution(spec), 0.4)
    narrow, changes = assert_prunes_exactly(network, spec, chosen, importance.l1)
    assert set(chosen) <= set(changes)
    kept = [after / before for before, after in zip(spec.widths, narrow.widths, strict=True)]
    dense = {"dcase22": 1, "qdcase22": 1, "tiny": 0, "qtiny": 0, "cpmobile": 0}.get(name, 1)  # the hidden layer's width
    assert all(0.25 <= part <= 0.6 for part in kept[: len(kept) - dense])


@pytest.mark.parametrize("method", importance.METHODS)
def test_the_least_important_filters_go(method: str) -> None:
    spec, network = spec_of("qtiny"), network_of("qtiny")
    scores = importance.named(method, seed=2)
    _, changes = assert_prunes_exactly(network, spec, {"convs.2": 0.5, "convs.4": 0.3}, scores)
    for layer, count in (("convs.2", 6), ("convs.4", 16)):  # of 12 and 24
        found = scores(network.get_submodule(layer).weight.detach().float().numpy())
        assert set(changes[layer].kept) == set(np.argsort(found)[-count:].tolist())


def test_a_hidden_quaternion_layer_is_pruned_like_a_convolution() -> None:
    narrow, _ = assert_prunes_exactly(
        network_of("qdcase22"), spec_of("qdcase22"), {"conv3": 0.5, "hidden": 0.2}, importance.l1
    )
    assert narrow.widths == (16, 16, 16, 80)


def test_flattening_gives_each_channel_its_own_places() -> None:
    """51 frames and 60 mels leave 3 x 1 cells a channel: the hidden layer reads three features of each."""
    spec = replace(spec_of("dcase22"), input_shape=(1, 60, 51))
    network = built(spec)
    smaller, _, _ = prune(network, spec, {"conv3": 0.5}, importance.l1)
    kept = np.sort(np.argsort(importance.l1(network.conv3.weight.detach().numpy()))[16:])
    columns = (kept[:, np.newaxis] * 3 + np.arange(3)).ravel()
    assert torch.equal(smaller.hidden.weight, network.hidden.weight[:, columns])


def test_layers_that_add_up_lose_the_same_channels() -> None:
    spec, network = spec_of("qresnet38"), network_of("qresnet38")
    _, changes = assert_prunes_exactly(network, spec, {"layer2.1.conv2": 0.5}, importance.operator_norm)
    tied = ["layer2.0.conv2", "layer2.0.skip.0", "layer2.1.conv2", "layer2.2.conv2", "layer2.3.conv2"]
    assert sorted(changes) == tied
    assert len({change.kept for change in changes.values()}) == 1
    total = sum(
        (score := importance.operator_norm(network.get_submodule(layer).weight.detach().float().numpy())) / score.mean()
        for layer in tied
    )
    assert total.argmin() not in changes["layer2.0.conv2"].kept
    assert total.argmax() in changes["layer2.0.conv2"].kept


def test_a_depthwise_convolution_follows_what_it_reads() -> None:
    _, changes = assert_prunes_exactly(
        network_of("mobilenetv1"), spec_of("mobilenetv1"), {"blocks.2.4": 0.5}, importance.l1
    )
    assert list(changes) == ["blocks.2.4", "blocks.3.0"]
    assert changes["blocks.2.4"].kept == changes["blocks.3.0"].kept


@pytest.mark.parametrize(("round_to", "widths"), [(1, (20, 36)), (4, (20, 36)), (8, (24, 40)), (16, (32, 48)),
                                                  (6, (24, 36)), (64, (48, 64))])  # fmt: skip
def test_kept_widths_are_rounded_up_to_what_runtimes_like(round_to: int, widths: tuple[int, int]) -> None:
    """5 of 12 filters and 9 of 16: 20 and 36 channels; never more than there are."""
    narrow, _ = assert_prunes_exactly(
        network_of("qtiny"), spec_of("qtiny"), {"convs.2": 0.55, "convs.3": 0.4}, importance.l1, round_to
    )
    assert narrow.widths[2:4] == widths


def test_a_ratio_of_nothing_changes_nothing() -> None:
    spec = spec_of("dcase22")
    smaller, narrow, changes = prune(network_of("dcase22"), spec, {"conv1": 0.0}, importance.l1)
    assert narrow == spec
    assert changes == ()
    x = input_of(spec.input_shape)
    with torch.no_grad():
        assert torch.equal(smaller(x), network_of("dcase22")(x))


def test_ratios_that_floats_cannot_hold() -> None:
    """int(10 * (1 - 0.9)) would be 0, and int(100 * (1 - 0.42)) is 57.99 to a float."""
    spec = ArchitectureSpec("cnn5", (10, 100, 8, 8, 8), 3, (1, 16, 16))
    _, narrow, _ = prune(built(spec), spec, {"convs.0": 0.9, "convs.1": 0.42}, importance.l1)
    assert narrow.widths[:2] == (1, 58)


def test_the_network_stays_in_its_mode() -> None:
    spec = spec_of("qtiny")
    for training in (True, False):
        smaller, _, _ = prune(built(spec).train(training), spec, {"convs.0": 0.5}, importance.l1)
        assert all(module.training is training for module in smaller.modules())
        assert all(parameter.requires_grad for parameter in smaller.parameters())


@pytest.mark.parametrize("family", ["qcnn14", "qresnet38", "cnn14", "resnet38"])
@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
def test_the_papers_sites_give_the_papers_widths(family: str, ratio: float) -> None:
    spec, network = small(family), built(small(family))
    chosen = ratios(network, spec, "l1", ["paper"], ratio)
    assert set(chosen) == {layer for layer, _ in PUBLISHED[family].values()}
    assert prune(network, spec, chosen, importance.l1)[1] == registry.pruned(spec, ratio)


@pytest.mark.parametrize(
    ("sites", "preset"),
    [(["C1"], "c1"), (["C2"], "c2"), (["C3"], "c3"), (["C1", "C2"], "c12"), (["C2", "C3"], "c23"), (["paper"], "c123")],
)
def test_the_dcase_sites_give_the_six_published_networks(sites: list[str], preset: str) -> None:
    spec, network = registry.preset("dcase22"), built(registry.preset("dcase22"))
    chosen = ratios(network, spec, "similarity", sites)
    assert prune(network, spec, chosen, similarity.scores)[1] == registry.preset(f"dcase22-{preset}")


def test_sites_as_people_write_them() -> None:
    spec, network = spec_of("qtiny"), network_of("qtiny")
    assert ratios(network, spec, "l1", ["convs.1=.25", "convs.3"], 0.5) == {"convs.1": 0.25, "convs.3": 0.5}
    assert ratios(network, spec, "l1", (), 0.5) == {f"convs.{number}": 0.5 for number in range(5)}
    # Without a ratio similarity removes as many as it finds redundant.
    found = ratios(network, spec, "similarity", ["convs.4"])
    weights = network.get_submodule("convs.4").weight.detach().numpy()
    assert found == {"convs.4": len(similarity.redundant(weights)) / 24}
    _, changes = assert_prunes_exactly(network, spec, found, similarity.scores)
    assert set(changes["convs.4"].kept) == set(range(24)) - set(similarity.redundant(weights).tolist())


@pytest.mark.parametrize(
    ("sites", "ratio", "message"),
    [
        (["convs.9"], 0.5, r"qcnn5: no convolution or dense layer 'convs.9'; did you mean convs\.\d or convs\.\d"),
        (["classifier"], 0.5, "classifier: its outputs are the network's input or classes; leave it out"),
        (["bns.1"], 0.5, "no convolution or dense layer 'bns.1'"),
        (["convs.1"], 1.0, "convs.1: ratio 1: expected 0 or more and less than 1"),
        (["convs.1=-.1"], None, "convs.1: ratio -0.1: expected 0 or more"),
        (["convs.1=nan"], None, "convs.1: ratio nan: expected 0 or more"),
        (["convs.0"], 0.8, "convs.0: a ratio of 0.8 leaves none of its 4 filters; expected at most 0.75"),
        (["convs.1=half"], None, "site 'convs.1=half': expected NAME or NAME=RATIO, a number"),
        (["convs.1"], None, "site convs.1: no ratio for it; give a ratio for all, or convs.1=RATIO"),
        (["", ""], 0.5, "site '': has no name; expected NAME or NAME=RATIO"),
        (["=.5"], None, "site '=.5': has no name"),
        (["convs.1", "convs.1=.2"], 0.5, "site convs.1: named twice; name it once"),
        (["paper"], 0.5, "qcnn5: no paper says which of its layers to prune"),
    ],
)
def test_bad_sites_and_ratios_are_one_clear_line(sites: list[str], ratio: float | None, message: str) -> None:
    spec, network = spec_of("qtiny"), network_of("qtiny")
    with pytest.raises(InputError, match=message) as error:
        prune(network, spec, ratios(network, spec, "l1", sites, ratio), importance.l1)
    assert "\n" not in str(error.value)


def test_tied_layers_have_one_ratio() -> None:
    spec, network = spec_of("resnet38"), network_of("resnet38")
    both = {"layer1.0.conv2": 0.5, "stem.conv2": 0.5}
    assert_prunes_exactly(network, spec, both, importance.l1)
    with pytest.raises(InputError, match=r"layer1.0.conv2 and stem.conv2 have the same channels, but ratios 0.5 and"):
        prune(network, spec, {**both, "stem.conv2": 0.25}, importance.l1)


def test_similarity_names_the_layer_it_cannot_compare() -> None:
    spec, network = spec_of("mobilenetv1"), network_of("mobilenetv1")
    with pytest.raises(InputError, match=r"^blocks.2.4: kernels of a single tap"):
        ratios(network, spec, "similarity", ["blocks.2.4"])
    with pytest.raises(InputError, match=r"^blocks.2.4: kernels of a single tap"):
        prune(network, spec, {"blocks.2.4": 0.5}, similarity.scores)


def test_rounding_below_a_channel_is_refused() -> None:
    with pytest.raises(InputError, match="round_to 0"):
        prune(network_of("qtiny"), spec_of("qtiny"), {"convs.0": 0.5}, importance.l1, round_to=0)


class Joined(nn.Module):
    """Real maps joined, a depthwise convolution with two filters a channel, a quaternion convolution after it."""

    def __init__(self, spec: ArchitectureSpec) -> None:
        super().__init__()
        left, right, last = spec.widths
        self.left, self.right = nn.Conv2d(1, left, 3, padding=1), nn.Conv2d(1, right, 1)
        self.depthwise = nn.Conv2d(left + right, 2 * (left + right), 3, padding=1, groups=left + right)
        self.quaternion = QuaternionConv2d(2 * (left + right), last, 3)
        self.classifier = nn.Linear(last, spec.classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.left(x).relu(), self.right(x)], dim=1)
        x = torch.tanh(self.quaternion(self.depthwise(x).relu()))
        return self.classifier(x.mean(dim=(2, 3)))


class Partial(nn.Module):
    """A map of which half of the channels are one layer's, half another's, and all a third's."""

    def __init__(self, spec: ArchitectureSpec) -> None:
        super().__init__()
        self.left, self.right, self.whole = (nn.Conv2d(1, width, 1) for width in spec.widths)
        self.classifier = nn.Linear(spec.widths[2], spec.classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.left(x), self.right(x)], dim=1) + self.whole(x)
        return self.classifier(x.mean(dim=(2, 3)))


class Fitted(nn.Module):
    """A family that goes another way where its layers are equally wide."""

    def __init__(self, spec: ArchitectureSpec) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, spec.widths[0], 1), nn.Conv2d(spec.widths[0], spec.widths[1], 1)
        self.equal = spec.widths[0] == spec.widths[1]
        self.classifier = nn.Linear(spec.widths[1], spec.classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = x + self.second(x) if self.equal else self.second(x)
        return self.classifier(x.mean(dim=(2, 3)))


class Twice(nn.Module):
    """A family that has one width for two layers, or calls a layer twice, or sorts."""

    def __init__(self, spec: ArchitectureSpec) -> None:
        super().__init__()
        (width,) = spec.widths
        self.first, self.second = nn.Conv2d(1, width, 1), nn.Conv2d(width, width, 1)
        self.classifier = nn.Linear(width, spec.classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.second(self.first(x)).mean(dim=(2, 3)))


class Again(Twice):
    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.second(self.second(self.first(x))).mean(dim=(2, 3)))


class Sorted(Twice):
    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.second(self.first(x)).mean(dim=(2, 3)).flip(1))


class Whole(Twice):
    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.second(self.first(x)).mean(dim=(2, 3)) * x.mean())


@pytest.fixture
def custom(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[nn.Module, ArchitectureSpec]]:
    def make(kind: type[nn.Module], *widths: int) -> tuple[nn.Module, ArchitectureSpec]:
        monkeypatch.setitem(registry.FAMILIES, "custom", kind)
        spec = ArchitectureSpec("custom", widths, 3, (1, 9, 8))
        return built(spec), spec

    return make


def test_a_reader_of_quaternions_ties_what_it_reads(custom: Any) -> None:
    """Its components are the channels of two real convolutions, behind a depthwise one: those go together by fours."""
    network, spec = custom(Joined, 8, 8, 8)
    narrow, changes = assert_prunes_exactly(network, spec, {"left": 0.5}, importance.l1)
    assert narrow.widths == (4, 4, 8)
    assert {name: change.after for name, change in changes.items()} == {"left": 4, "right": 4, "depthwise": 16}
    assert {number % 4 for number in changes["left"].kept} == {number % 4 for number in changes["right"].kept}
    assert assert_prunes_exactly(network, spec, {"quaternion": 0.5}, importance.l1)[0].widths == (8, 8, 4)


def test_layers_tied_in_part_are_refused(custom: Any) -> None:
    network, spec = custom(Partial, 4, 4, 8)
    for site, other in (("left", "whole"), ("whole", "left")):
        with pytest.raises(InputError, match=f"custom: {site}: {other} has its channels in part"):
            prune(network, spec, {site: 0.5}, importance.l1)


def test_a_network_that_changes_its_way_with_its_widths_is_refused(custom: Any) -> None:
    network, spec = custom(Fitted, 6, 3)
    assert assert_prunes_exactly(network, spec, {"first": 0.2}, importance.l1)[0].widths == (4, 3)
    with pytest.raises(InputError, match=r"custom: of widths \[3, 3\] it is another network"):
        prune(network, spec, {"first": 0.5}, importance.l1)


def test_a_family_that_has_one_width_for_two_layers_is_told(custom: Any) -> None:
    network, spec = custom(Twice, 6)
    with pytest.raises(InputError, match="these have one width in all its networks, and would have: first 3, second 6"):
        prune(network, spec, {"first": 0.5}, importance.l1)
    assert assert_prunes_exactly(network, spec, dict.fromkeys(("first", "second"), 0.5), importance.l1)[0].widths == (
        3,
    )


@pytest.mark.parametrize(
    ("kind", "message"),
    [(Again, "second: called twice"), (Sorted, "flip: pruning does not"), (Whole, "mean_1: .* expected channels")],
)
def test_what_channels_cannot_be_followed_through_is_named(custom: Any, kind: type[nn.Module], message: str) -> None:
    network, spec = custom(kind, 6)
    with pytest.raises(InputError, match=message):
        prune(network, spec, {"first": 0.5}, importance.l1)
