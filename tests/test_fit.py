"""The training loop: it learns, one seed gives one result, and a kill costs at most an epoch."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeq.audio.frontend import FrontendSpec
from edgeq.errors import InputError
from edgeq.nets import registry
from edgeq.nets.spec import ArchitectureSpec
from edgeq.training import config as configs
from edgeq.training.config import Distillation, FitConfig
from edgeq.training.features import CorpusMaps
from edgeq.training.fit import fit
from edgeq.training.source import InMemory
from edgeq.training.teacher import Member, Teacher

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = FrontendSpec(
    sample_rate=8000,
    n_fft=256,
    win_length=256,
    hop_length=160,
    n_mels=20,
    fmin=0,
    fmax=4000,
    floor=1e-6,
    mean=(-30.0,),
    std=(20.0,),
)
ARCHITECTURE = ArchitectureSpec("dcase22", (4, 4, 8, 12), 2, SPEC.input_shape)
CONFIG = FitConfig(epochs=6, batch_size=4, crop_seconds=(1.0,), learning_rate=0.01, speeds=(), average_decay=0.5)

KILLED_RUN = """
import sys, torch
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_fit import fitted
torch.set_num_threads(1)
fitted(checkpoint=Path({checkpoint!r}), on_progress=lambda epoch, loss: print(epoch, flush=True), wait_after=3)
"""


def corpus(clips: int = 10) -> tuple[CorpusMaps, torch.Tensor]:
    """Noise that is loud in the lower or in the upper mels, and one-hot labels that say which."""
    random = np.random.default_rng(0)
    logmels = [(random.normal(-40, 3, (20, 70))).astype(np.float32) for _ in range(clips)]
    for i, logmel in enumerate(logmels):
        logmel[slice(0, 10) if i % 2 else slice(10, 20)] += 30
    return CorpusMaps((1.0,), (tuple(logmels),)), torch.eye(2)[torch.arange(clips) % 2]


def fitted(
    config: FitConfig = CONFIG,
    seed: int = 0,
    checkpoint: Path | None = None,
    on_progress=None,
    wait_after: int = 0,
    start: int = 0,
    teacher: Teacher | None = None,
    output: str = "softmax",
) -> dict[str, torch.Tensor]:
    maps, targets = corpus()
    torch.manual_seed(seed + start)
    network = registry.build(ARCHITECTURE)

    def told(epoch: float, loss: float | None) -> None:
        if on_progress is not None:
            on_progress(epoch, loss)
        if epoch == wait_after:
            signal.pause()

    fit(network, InMemory(maps, targets, SPEC, config), SPEC, config, seed, checkpoint, told, output, teacher)
    assert not network.training
    return network.state_dict()


def taught(sha256: str = "0", **how: float) -> Teacher:
    """By a network whose answer is the level of the lower mels."""
    member = Member("t", lambda x: x[:, 0, ::10, :].mean(dim=2), ("a", "b"), "softmax", SPEC, sha256)
    return Teacher((member,), Distillation(**how))


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one if one[name].is_floating_point())


def test_learns_what_can_be_heard() -> None:
    maps, targets = corpus()
    network = registry.build(ARCHITECTURE)
    losses: list[float] = []
    config = replace(CONFIG, epochs=20)
    source = InMemory(maps, targets, SPEC, config)
    fit(network, source, SPEC, config, 0, on_progress=lambda _, loss: losses.append(loss))
    inputs = torch.from_numpy(np.stack(maps.logmels[0])[:, None, :, :50] + 30) / 20
    with torch.no_grad():
        assert torch.equal(network(inputs).argmax(dim=1), targets.argmax(dim=1))
    assert losses[-1] < losses[0]


def test_one_seed_gives_one_result() -> None:
    first = fitted()
    assert same(first, fitted())
    assert not same(first, fitted(seed=1))


def test_random_numbers_of_the_caller_are_left_alone() -> None:
    maps, targets = corpus()
    network = registry.build(ARCHITECTURE)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    config = replace(CONFIG, epochs=1)
    fit(network, InMemory(maps, targets, SPEC, config), SPEC, config, 0)
    assert torch.equal(torch.rand(3), expected)
    assert not torch.are_deterministic_algorithms_enabled()


def test_killed_run_resumes_to_the_same_weights(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.checkpoint"
    script = KILLED_RUN.format(tests=str(Path(__file__).parent), checkpoint=str(checkpoint))
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        told = [process.stdout.readline().strip() for _ in range(3)]
    finally:
        process.kill()
        process.wait()
    assert told == ["1.0", "2.0", "3.0"]
    assert process.returncode == -signal.SIGKILL
    epochs: list[float] = []
    resumed = fitted(checkpoint=checkpoint, on_progress=lambda epoch, _: epochs.append(epoch))
    assert epochs == [3, 4, 5, 6], "it says where it goes on, and no epoch was lost"
    assert same(resumed, fitted())


def test_a_taught_run_resumes_to_the_same_weights(tmp_path: Path) -> None:
    def stop(epoch: float, _: float | None) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(checkpoint=tmp_path / "run", on_progress=stop, teacher=taught())
    uninterrupted = fitted(teacher=taught())
    assert same(fitted(checkpoint=tmp_path / "run", teacher=taught()), uninterrupted)
    assert not same(uninterrupted, fitted())


def test_finished_run_is_not_run_again(tmp_path: Path) -> None:
    epochs: list[float] = []
    for _ in range(2):
        state = fitted(checkpoint=tmp_path / "done", on_progress=lambda epoch, _: epochs.append(epoch))
        assert same(state, fitted())
    assert epochs == [1, 2, 3, 4, 5, 6, 6]


def test_a_long_epoch_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.training.fit.TOLD_AFTER", 0.0)
    told: list[tuple[float, float | None]] = []
    config = replace(CONFIG, epochs=2, batch_size=2)
    fitted(config, on_progress=lambda *of: told.append(of))
    steps = len(told)
    assert [reached for reached, _ in told] == [2 * (step + 1) / steps for step in range(steps)]
    assert steps > 4 and all(loss is not None and loss > 0 for _, loss in told)


def test_refuses_the_checkpoint_of_another_run(tmp_path: Path) -> None:
    fitted(checkpoint=tmp_path / "run", teacher=taught())
    for other in (
        {"seed": 1},
        {"config": replace(CONFIG, epochs=7)},
        {"start": 1},
        {"output": "sigmoid"},
        {"teacher": None},
        {"teacher": taught("1")},
        {"teacher": taught(alpha=0.4)},
        {"teacher": taught(temperature=3.0)},
    ):
        with pytest.raises(InputError, match="another recipe, seed, teacher or data"):
            fitted(checkpoint=tmp_path / "run", **{"teacher": taught(), **other})


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"\x80\x04."])
def test_refuses_a_file_that_is_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run").write_bytes(content)
    with pytest.raises(InputError, match="not a checkpoint"):
        fitted(checkpoint=tmp_path / "run")


def test_result_is_the_average_of_weights() -> None:
    last = fitted(replace(CONFIG, average_decay=0.0, epochs=1))
    averaged = fitted(replace(CONFIG, average_decay=0.9, epochs=1))
    torch.manual_seed(0)
    start = registry.build(ARCHITECTURE).state_dict()
    name = "conv2.weight"
    moved, kept = (last[name] - start[name]).norm(), (averaged[name] - start[name]).norm()
    assert 0 < kept < moved / 2, "two steps move an average of decay 0.9 by little"


def test_without_native_bfloat16_training_is_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configs, "bf16_is_fast", lambda: False)
    assert same(fitted(replace(CONFIG, precision="bf16", epochs=1)), fitted(replace(CONFIG, epochs=1)))


def test_diverging_is_said_in_one_line() -> None:
    with pytest.raises(InputError, match="lower learning_rate"):
        fitted(replace(CONFIG, learning_rate=1e30))


def test_refuses_a_single_clip() -> None:
    maps, targets = corpus(1)
    with pytest.raises(InputError, match="training on 1 clips"):
        fit(registry.build(ARCHITECTURE), InMemory(maps, targets, SPEC, CONFIG), SPEC, CONFIG, 0)


@pytest.mark.parametrize(
    "field",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"crop_seconds": (float("inf"),)},
        {"crop_seconds": ()},
        {"weight_decay": -1.0},
        {"warmup": 1.0},
        {"average_decay": 1.0},
        {"mix_probability": 1.1},
        {"stripe_mels": -1},
        {"speeds": (0.1,)},
        {"precision": "fp16"},
    ],
)
def test_refuses_settings_out_of_range(field: dict) -> None:
    with pytest.raises(InputError, match=f"fit: {next(iter(field))} = "):
        replace(CONFIG, **field)


@pytest.mark.parametrize(
    ("seconds", "message"),
    [(0.5, "the network: does not take crops of 0.5 s"), (0.005, "crop_seconds 0.005: no frame of the front end")],
)
def test_crops_that_the_network_does_not_take_are_refused(seconds: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fitted(replace(CONFIG, crop_seconds=(1.0, seconds)))


def test_weights_that_end_infinite_are_refused_though_every_loss_was_finite() -> None:
    with pytest.raises(InputError, match=r"weights became infinite; lower learning_rate \(now 1e\+38\)"):
        fitted(replace(CONFIG, epochs=1, batch_size=10, learning_rate=1e38))


@pytest.mark.parametrize("how", [{"alpha": -0.1}, {"alpha": 1.1}, {"temperature": 0.0}, {"temperature": float("inf")}])
def test_refuses_distillation_out_of_range(how: dict) -> None:
    with pytest.raises(InputError, match=f"distillation: {next(iter(how))} "):
        Distillation(**how)
