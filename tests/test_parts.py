"""A batch in parts: each with statistics and chance of its own, gradients and running statistics averaged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_fit import ARCHITECTURE, CONFIG, SPEC, corpus, fitted, same, taught
from torch import Tensor, nn
from torch.nn import functional

from edgeq.audio.frontend_torch import Features
from edgeq.errors import InputError
from edgeq.nets import registry
from edgeq.nets.spec import ArchitectureSpec
from edgeq.training import augment, checkpoints
from edgeq.training import fit as fitting
from edgeq.training.competition import Best, Measured
from edgeq.training.config import FitConfig
from edgeq.training.fit import fit
from edgeq.training.processes import Processes
from edgeq.training.source import Heard, InMemory, Plan

pytestmark = pytest.mark.usefixtures("one_thread")

PLAIN = FitConfig(
    epochs=1, batch_size=8, parts=2, crop_seconds=(1.0,), learning_rate=0.1, warmup=0.0, weight_decay=0.0,
    label_smoothing=0.0, average_decay=0.0, speeds=(), gain_db=0.0, filter_db=0.0, mix_probability=0.0, stripe_count=0,
    optimiser="adam", schedule="constant",
)  # fmt: skip
DROPPING = ArchitectureSpec("cnn5", (4, 4, 4, 4, 4), 2, SPEC.input_shape)


class Noting:
    """A source that keeps what it was asked for and gave."""

    def __init__(self, source: InMemory) -> None:
        self.source, self.given = source, []
        self.clips, self.classes, self.fingerprint, self.order = (
            source.clips, source.classes, source.fingerprint, source.order,
        )  # fmt: skip

    def read(self, plans: Iterator[Plan]) -> Iterator[Heard]:
        for heard in self.source.read(plans):
            self.given.append(heard)
            yield heard


def by_hand(network: nn.Module, parts: list[Heard], rate: float) -> nn.Module:
    """One step of Adam from the mean of the parts' gradients; statistics the mean of what each part makes of them."""
    features, before = Features(SPEC), {name: tensor.clone() for name, tensor in network.state_dict().items()}
    gradients: list[list[Tensor]] = []
    statistics: list[dict[str, Tensor]] = []
    for heard in parts:
        network.load_state_dict(before)
        network.train().zero_grad()
        logits = network(features(augment.to_log(heard.power, SPEC)))
        functional.cross_entropy(logits, heard.targets).backward()
        gradients.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
        statistics.append({name: one.clone() for name, one in network.named_buffers() if "running" in name})
    network.load_state_dict(before)
    with torch.no_grad():
        for parameter, *own in zip(network.parameters(), *gradients, strict=True):
            mean = torch.stack(own).mean(dim=0)
            parameter -= rate * mean / (mean.abs() + 1e-8)  # Adam's first step
        for name, one in network.named_buffers():
            if "running" in name:
                one.copy_(torch.stack([own[name] for own in statistics]).mean(dim=0))
    return network


def test_a_step_is_the_mean_of_its_parts() -> None:
    maps, targets = corpus(8)
    torch.manual_seed(3)
    network, twin = registry.build(ARCHITECTURE), registry.build(ARCHITECTURE)
    twin.load_state_dict(network.state_dict())
    source = Noting(InMemory(maps, targets, SPEC, PLAIN))
    fit(network, source, SPEC, PLAIN, 0)
    assert [len(heard.targets) for heard in source.given] == [4, 4]
    expected = by_hand(twin, source.given, PLAIN.learning_rate).state_dict()
    found = network.state_dict()
    for name, tensor in expected.items():
        if "num_batches" in name:
            assert found[name] == 1, "as often as there were steps, not parts"
        elif name not in ("conv1.bias", "conv2.bias", "conv3.bias"):  # batch norm follows: a gradient of rounding alone
            torch.testing.assert_close(found[name], tensor, atol=2e-5, rtol=1e-4)


def test_parts_have_chance_of_their_own_that_step_and_part_decide() -> None:
    config = replace(CONFIG, parts=4, mixup_alpha=0.5, speed_probability=0.5)
    maps, targets = corpus(8)
    heard = []
    for seed in (0, 0, 1):
        source = Noting(InMemory(maps, targets, SPEC, config))
        fit(registry.build(ARCHITECTURE), source, SPEC, replace(config, epochs=2), seed)
        heard.append([one.plan.changes.gain.flatten().tolist() for one in source.given])
    assert heard[0] == heard[1] and heard[0] != heard[2]
    assert len({tuple(one) for one in heard[0]}) == len(heard[0]) == 2 * 2 * 4


@pytest.mark.parametrize("architecture", [ARCHITECTURE, DROPPING], ids=["plain", "dropout"])
@pytest.mark.parametrize("parts", [1, 2], ids=["one part", "two parts"])
def test_a_run_killed_within_an_epoch_goes_on_to_the_very_same_weights(
    tmp_path: Path, architecture: ArchitectureSpec, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, epochs=3, batch_size=2, parts=parts, checkpoint_minutes=1e-9)
    maps, targets = corpus()

    def trained(checkpoint: Path | None) -> dict[str, Tensor]:
        torch.manual_seed(0)
        network = registry.build(architecture)
        fit(network, InMemory(maps, targets, SPEC, config), SPEC, config, 0, checkpoint)
        return network.state_dict()

    step = fitting._Run._step

    def killed(run: fitting._Run, number: int, heard: Iterator[Heard]) -> Tensor:
        if number == 7:  # of five an epoch
            raise KeyboardInterrupt
        return step(run, number, heard)

    with monkeypatch.context() as patched:
        patched.setattr(fitting._Run, "_step", killed)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "run")
    state = torch.load(tmp_path / "run", weights_only=True)
    assert state["steps"] == 7
    assert same(trained(tmp_path / "run"), trained(None))


def test_of_those_measured_the_best_are_kept_and_the_best_is_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, scores = replace(CONFIG, epochs=6), [0.1, 0.5, 0.3, 0.5, 0.2, 0.4]
    maps, targets = corpus()

    def trained(checkpoint: Path | None, seen: list[dict[str, Tensor]]) -> tuple[Best | None, dict[str, Tensor]]:
        def measure(measured: nn.Module) -> float:
            assert not measured.training
            seen.append({name: tensor.clone() for name, tensor in measured.state_dict().items()})
            return scores[len(seen) - 1]

        torch.manual_seed(0)
        network = registry.build(ARCHITECTURE)
        source = InMemory(maps, targets, SPEC, config)
        best = fit(network, source, SPEC, config, 0, checkpoint, measured=Measured(measure, "", keep=2))
        return best, network.state_dict()

    seen: list[dict[str, Tensor]] = []
    best, state = trained(tmp_path / "run", seen)
    assert best == Best(0.5, 4) and same(state, seen[1]), "of equals the earlier one, after two epochs of two batches"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run.best-4", "run.best-8"]
    kept = torch.load(tmp_path / "run.best-8", weights_only=True)
    assert kept["score"] == 0.5
    floats = [tensor for tensor in seen[3].values() if tensor.is_floating_point()]
    assert all(torch.equal(one, other) for one, other in zip(kept["average"], floats, strict=True))

    step, again = fitting._Run._step, []

    def killed(run: fitting._Run, number: int, heard: Iterator[Heard]) -> Tensor:
        if number == 7:
            raise KeyboardInterrupt
        return step(run, number, heard)

    with monkeypatch.context() as patched:
        patched.setattr(fitting._Run, "_step", killed)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "killed", again)
    resumed, its = trained(tmp_path / "killed", again)
    assert resumed == best and same(its, state), "what was best before the kill still is"


def test_between_its_minutes_only_the_ends_of_epochs_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []
    monkeypatch.setattr(checkpoints, "write", lambda path, state: kept.append(state["steps"]))
    fitted(replace(CONFIG, epochs=2, batch_size=2), checkpoint=tmp_path / "run")
    assert kept == [5, 10]


def test_iterations_may_end_within_an_epoch() -> None:
    config = replace(CONFIG, epochs=0, iterations=7, batch_size=2)
    told: list[int] = []
    fitted(config, on_progress=lambda done, loss: told.append(done))
    assert told == [5, 7]
    whole = replace(CONFIG, epochs=0, iterations=10, batch_size=2)
    assert same(fitted(whole), fitted(replace(CONFIG, epochs=2, batch_size=2))), "two epochs by another count"


@pytest.mark.parametrize("change", [{"optimiser": "adam"}, {"optimiser": "amsgrad"}, {"schedule": "constant"}])
def test_optimisers_and_schedules_are_torchs_own(change: dict) -> None:
    config = replace(
        PLAIN, **{"epochs": 4, "parts": 1, "learning_rate": 0.003, "optimiser": "adamw", "schedule": "cosine", **change}
    )
    maps, targets = corpus(8)
    torch.manual_seed(3)
    network, twin = registry.build(ARCHITECTURE), registry.build(ARCHITECTURE)
    twin.load_state_dict(network.state_dict())
    source = Noting(InMemory(maps, targets, SPEC, config))
    fit(network, source, SPEC, config, 0)
    kinds = {"adam": {}, "amsgrad": {"amsgrad": True}}
    kind = torch.optim.Adam if config.optimiser in kinds else torch.optim.AdamW
    more = kinds.get(config.optimiser, {"weight_decay": 0.0})
    optimiser = kind(twin.parameters(), lr=config.learning_rate, **more)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        # A warm-up of one step, at the full rate.
        lambda step: 1.0 if config.schedule == "constant" or not step else (1 + np.cos(np.pi * (step - 1) / 3)) / 2,
    )
    for heard in source.given:
        optimiser.zero_grad()
        logits = twin.train()(Features(SPEC)(augment.to_log(heard.power, SPEC)))
        functional.cross_entropy(logits, heard.targets).backward()
        optimiser.step()
        scheduler.step()
    for name, tensor in twin.state_dict().items():
        if tensor.ndim > 1:  # a bias before batch norm has a gradient of rounding alone, which Adam makes large
            torch.testing.assert_close(network.state_dict()[name], tensor, atol=1e-4, rtol=1e-3)


def test_balanced_sampling_hears_rare_classes_as_often() -> None:
    maps, _ = corpus(12)
    targets = torch.eye(3)[torch.tensor([0] * 9 + [1] * 2 + [2])]
    source = InMemory(maps, targets, SPEC, replace(CONFIG, sampling="balanced"))
    order = source.order(torch.Generator().manual_seed(1))
    assert targets[order].sum(dim=0).tolist() == [4, 4, 4]
    assert torch.equal(order, source.order(torch.Generator().manual_seed(1)))
    assert not torch.equal(order, source.order(torch.Generator().manual_seed(2)))


def test_a_teacher_hears_what_is_mixed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs: list[tuple[Tensor, Tensor]] = []
    lesson, made = taught(), augment.mixup

    def noting(features: Tensor, targets: Tensor, mixture: augment.Mixture) -> tuple[Tensor, Tensor]:
        mixed = made(features, targets, mixture)
        pairs.append((mixed[0], mixture.share))
        return mixed

    monkeypatch.setattr(augment, "mixup", noting)
    fitted(replace(CONFIG, epochs=1, mixup_alpha=1.0, stripe_count=0), teacher=lesson)
    for (teachers, its_share), (students, share) in zip(pairs[::2], pairs[1::2], strict=True):
        torch.testing.assert_close(teachers, students)
        assert torch.equal(its_share, share)


def test_a_compiled_network_learns_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """By torch's tracer alone: its code generator takes minutes."""
    compiled, made = torch.compile, []

    def eager(network: nn.Module) -> nn.Module:
        made.append(compiled(network, backend="eager"))
        return made[-1]

    monkeypatch.setattr(torch, "compile", eager)
    config = replace(CONFIG, epochs=1)
    fast, plain = fitted(replace(config, compile=True)), fitted(config)
    assert made
    for name, tensor in plain.items():
        torch.testing.assert_close(fast[name], tensor, atol=1e-4, rtol=1e-3)


def test_in_float16_losses_are_scaled_so_that_gradients_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, where alone it is asked for."""
    config = replace(CONFIG, epochs=1)
    plain = fitted(config)
    scales: list[float] = []
    scale = torch.amp.GradScaler.scale

    def noting(scaler: torch.amp.GradScaler, loss: Tensor) -> Tensor:
        scales.append(float(scale(scaler, torch.ones(()))))
        return scale(scaler, loss)

    monkeypatch.setattr(torch.amp.GradScaler, "scale", noting)
    monkeypatch.setattr(FitConfig, "usable_precision", "float16")
    half = fitted(replace(config, precision="float16"))
    assert min(scales) > 1
    for name in ("conv1.weight", "conv3.weight", "classifier.weight"):
        assert (half[name] - plain[name]).norm() < 0.1 * plain[name].norm()
        assert not torch.equal(half[name], plain[name])


def test_processes_share_parts_evenly() -> None:
    assert [list(Processes(rank, 2).share(4)) for rank in range(2)] == [[0, 1], [2, 3]]
    with pytest.raises(InputError, match=r"fit: parts = 4, 3 processes: .* the recipe parts = 3"):
        Processes(0, 3).share(4)


@pytest.mark.parametrize(
    "field",
    [
        {"parts": 3},
        {"parts": 0},
        {"iterations": 5},
        {"iterations": -1},
        {"optimiser": "sgd"},
        {"optimiser": "adam"},
        {"schedule": "step"},
        {"sampling": "even"},
        {"device": "tpu"},
        {"mixup_alpha": -0.1},
        {"checkpoint_minutes": 0.0},
    ],
)
def test_refuses_settings_out_of_range(field: dict) -> None:
    named = {
        "parts": "(batch_size|parts)",
        "iterations": "(epochs|iterations)",
        "optimiser": "(optimiser|weight_decay)",
    }
    name = next(iter(field))
    with pytest.raises(InputError, match=f"fit: {named.get(name, name)} = "):
        replace(CONFIG, weight_decay=0.05, **field)


def test_a_gpu_that_is_not_there_is_said() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(InputError, match=r'device = "cuda": torch finds no GPU here'):
        fitted(replace(CONFIG, device="cuda"))
