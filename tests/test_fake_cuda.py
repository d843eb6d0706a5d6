"""What is done on a GPU, done on one made of the processor: all is where it has to be, and nothing comes out other.

Where operators mix devices this fails as CUDA would. It says nothing of CUDA's own kernels, their rounding and speed:
these are tested where there is a GPU, see test_gpu_and_openvino.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import architectures
import fake_gpu
import numpy as np
import pytest
import test_teacher
import torch
from fake_gpu import GPU
from small_corpus import FRONTEND, folders
from torch import Tensor, distributed
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call

from edgeq import runtime, zoo
from edgeq.audio.frontend import FrontendSpec, with_derivatives
from edgeq.audio.frontend_torch import Features, LogMel
from edgeq.corpora import pack, packed_corpus
from edgeq.errors import InputError
from edgeq.lowering.fast import lower_fast, quaternion_layers
from edgeq.lowering.trace import lower
from edgeq.nets import arrays, registry
from edgeq.runtime.torch_graph import GraphModule
from edgeq.training import fit as fitting
from edgeq.training import processes
from edgeq.training.augment import Changes, drawn, wishes
from edgeq.training.competition import Measured
from edgeq.training.config import FitConfig
from edgeq.training.fit import fit
from edgeq.training.source import InMemory, Plan
from edgeq.training.streamed import PackedMaps
from edgeq.training.teacher import Teacher

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC, ELSEWHERE = test_teacher.SPEC, test_teacher.ELSEWHERE
CONFIG = replace(
    test_teacher.CONFIG,
    epochs=2,
    mixup_alpha=0.5,
    stripe_count=2,
    stripe_mels=3,
    stripe_frames=5,
    speed_probability=0.5,
)
Weights = dict[str, Tensor]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with fake_gpu.gpu(monkeypatch):
        yield


def fitted(config: FitConfig, output: str = "softmax", **options: Any) -> Weights:
    """On the GPU, unless the config says otherwise."""
    torch.manual_seed(0)
    network = registry.build(replace(test_teacher.ARCHITECTURE, output=output))
    source = InMemory(test_teacher.clicks(SPEC), torch.eye(2)[torch.arange(6) % 2], SPEC, config)
    fit(network, source, SPEC, config, 0, output=output, **options)
    return network.state_dict()


def on_both(config: FitConfig, make: Callable[[FitConfig], Weights] = fitted) -> None:
    expected, found = make(replace(config, device="cpu")), make(replace(config, device="cuda"))
    for name, weights in expected.items():
        assert found[name].device.type == "cpu"
        assert torch.equal(found[name], weights), name


@pytest.mark.parametrize(
    "changes",
    [
        {"crop_seconds": (1.0, 0.8)},
        {"parts": 2, "precision": "bf16"},
        {"optimiser": "amsgrad", "weight_decay": 0.0, "sampling": "balanced", "epochs": 0, "iterations": 3},
    ],
)
def test_a_training_on_a_gpu_ends_with_the_processors_weights(gpu: None, changes: dict[str, Any]) -> None:
    if (
        changes.get("precision") == "bf16"
        and replace(CONFIG, device="cpu", precision="bf16").usable_precision != "bf16"
    ):
        changes = changes | {"precision": "float32"}
    on_both(replace(CONFIG, **changes), partial(fitted, output="sigmoid" if "parts" in changes else "softmax"))


def test_teachers_answer_on_the_gpu_each_behind_its_own_front_end(gpu: None) -> None:
    def taught(config: FitConfig) -> Weights:
        torch.manual_seed(1)
        own, other = (
            registry.build(replace(test_teacher.ARCHITECTURE, input_shape=spec.input_shape))
            for spec in (SPEC, ELSEWHERE)
        )
        elsewhere = test_teacher.member(
            other, frontend=ELSEWHERE, maps=test_teacher.clicks(ELSEWHERE), labels=("low", "high"), sha256="1"
        )
        teacher = Teacher((test_teacher.member(own), elsewhere))
        return fitted(config, teacher=teacher.prepared(test_teacher.LABELS, "softmax", SPEC, range(6)))

    on_both(CONFIG, taught)


def test_a_run_is_measured_on_the_gpu_and_goes_on_there_from_its_checkpoint(gpu: None, tmp_path: Path) -> None:
    windows = np.random.default_rng(0).normal(size=(3, *SPEC.input_shape)).astype(np.float32)
    devices = []

    def measure(network: torch.nn.Module) -> float:
        devices.append(next(network.parameters()).device)
        return float(arrays.probabilities(network, "softmax", windows)[0, 0])

    def stop(epoch: int, loss: float) -> None:
        if epoch == 1:
            raise KeyboardInterrupt

    def resumed(config: FitConfig) -> Weights:
        options = {"checkpoint": tmp_path / config.device, "measured": Measured(measure, "")}
        with pytest.raises(KeyboardInterrupt):
            fitted(config, **options, on_progress=stop)
        return fitted(config, **options)

    on_both(CONFIG, resumed)
    assert devices == [torch.device("cpu")] * 2 + [GPU] * 2
    kept = [torch.load(tmp_path / device, weights_only=True) for device in ("cpu", "cuda")]
    assert [len(state["chance"]) for state in kept] == [1, 2]
    fitted(
        replace(CONFIG, device="cpu"), checkpoint=tmp_path / "cuda", measured=Measured(measure, "")
    )  # on another machine


def test_float16_scales_its_gradients_and_a_step_that_overflows_changes_no_weight(
    gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, device="cuda", precision="float16")
    scaler = torch.amp.GradScaler
    learnt = fitted(config)
    monkeypatch.setattr(torch.amp, "GradScaler", partial(scaler, init_scale=2.0**60))
    skipped = fitted(config)
    torch.manual_seed(0)
    start = dict(registry.build(test_teacher.ARCHITECTURE).named_parameters())
    for name, weights in start.items():
        assert learnt[name].isfinite().all() and not torch.equal(learnt[name], weights)
        assert torch.equal(skipped[name], weights)


@pytest.mark.parametrize("first", ["cpu", "cuda"])
def test_a_run_in_float16_goes_on_where_there_is_another_device(gpu: None, tmp_path: Path, first: str) -> None:
    """In float16 on the GPU, in float32 on the processor."""

    def stop(epoch: int, loss: float) -> None:
        raise KeyboardInterrupt

    config = replace(CONFIG, precision="float16")
    with pytest.raises(KeyboardInterrupt):
        fitted(replace(config, device=first), checkpoint=tmp_path / "run", on_progress=stop)
    then = replace(config, device="cpu" if first == "cuda" else "cuda")
    epochs: list[int] = []
    fitted(then, checkpoint=tmp_path / "run", on_progress=lambda epoch, loss: epochs.append(epoch))
    assert epochs == [1, 2]


@pytest.mark.parametrize("stage", ["torch", "onnx"])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_the_runtime_answers_from_the_gpu_as_from_the_processor(gpu: None, stage: str, precision: str) -> None:
    model = zoo.find("esc10-qnano")
    ready = runtime.open(model, stage, "torch-cuda", precision=precision)
    windows = np.random.default_rng(0).normal(size=(3, *ready.input_shape)).astype(np.float32)
    exact = runtime.open(model, stage, "torch", precision=precision)
    np.testing.assert_allclose(
        ready.predict(windows), exact.predict(windows), atol=1e-6 if precision == "float32" else 1e-2
    )


def test_packed_recordings_become_log_mel_on_the_gpu(gpu: None, tmp_path: Path) -> None:
    pack.pack(folders(tmp_path / "sounds", clips=8), tmp_path / "packed", jobs=1)
    corpus, spec = packed_corpus.open(tmp_path / "packed"), FrontendSpec(**FRONTEND)
    config = FitConfig(epochs=1, batch_size=4, crop_seconds=(0.25,), speeds=(0.8,), logmel="torch")
    generator = torch.Generator().manual_seed(0)
    changes = drawn(config, 8, spec.n_mels, 30, generator)
    wanted = [Plan(0, wishes(torch.arange(8), 1, 0.5, generator), changes)]
    found, expected = (
        next(PackedMaps(corpus, spec, one).source(corpus.positives, spec, one).read(wanted))
        for one in (replace(config, device="cuda"), replace(config, device="cpu"))
    )
    assert (found.power.device, expected.power.device) == (GPU, torch.device("cpu"))
    assert torch.equal(found.power.cpu(), expected.power) and found.places == expected.places


def test_processes_that_share_a_gpu_are_told_so(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(tensor: Tensor) -> None:
        raise RuntimeError(
            "NCCL error in: NCCLUtils.cpp:94, invalid usage, NCCL version 2.27.5\nncclInvalidUsage: This usually "
            "reflects invalid usage of NCCL library.\nLast error:\n"
            "Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 1000"
        )

    monkeypatch.setattr(distributed, "all_reduce", refuse)
    with pytest.raises(InputError, match=r'two processes on one GPU, .* --nproc-per-node 1, or .* device = "cpu"'):
        processes.Processes(0, 2).sum_up([torch.zeros(2, device=GPU)])


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["qdcase22", "cpmobile"])
def test_networks_cast_as_cudas_autocast_does(
    monkeypatch: pytest.MonkeyPatch, name: str, precision: torch.dtype
) -> None:
    """In torch's own tensors without values, which know what CUDA's operators give: forward alone, see fake_gpu."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # else autocast is switched off
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    spec = architectures.small(name)
    network = registry.build(spec).eval()
    given = torch.zeros(2, *spec.input_shape)
    with torch.autocast("cuda", precision, enabled=precision != torch.float32):
        logits = without_values(network, given)
    assert (logits.device, logits.dtype, tuple(logits.shape)) == (GPU, precision, (2, spec.classes))
    graph = lower(network, spec)
    form = GraphModule(lower_fast(graph, quaternion_layers(graph)) if name.startswith("q") else graph).to(precision)
    assert without_values(form.eval(), given.to(precision)).dtype == precision


@pytest.mark.parametrize("derivatives", ["none", "time", "power-frequency"])
def test_the_front_end_is_where_it_is_moved_to(gpu: None, derivatives: str) -> None:
    spec = with_derivatives(SPEC, derivatives)
    waveforms = torch.randn(2, 8000)
    for module, given in ((LogMel(spec), waveforms), (Features(spec), LogMel(spec)(waveforms))):
        expected = module(given)
        found = module.to(GPU)(given.to(GPU))
        assert found.device == GPU and torch.equal(found.cpu(), expected)


def without_values(module: torch.nn.Module, given: Tensor) -> Tensor:
    """What a module on the GPU gives. A tensor that it holds and does not move is refused."""
    mode = FakeTensorMode()

    def moved(tensor: Tensor) -> Tensor:
        fake = mode.from_tensor(tensor.detach())
        with mode:
            return fake.to(GPU)

    state = {name: moved(tensor) for name, tensor in [*module.named_parameters(), *module.named_buffers()]}
    windows = moved(given)
    with mode, torch.no_grad():
        found: Tensor = functional_call(module, state, (windows,))
    return found


@pytest.mark.parametrize(
    ("where", "name", "wrong"),
    [
        (Changes, "to", lambda self, device: self),
        (fitting, "Features", lambda spec: _Stays(Features(spec))),
        (fitting._Run, "_finish", lambda self: self.network.eval()),
    ],
)
def test_what_is_left_on_the_wrong_device_fails_here(
    gpu: None, monkeypatch: pytest.MonkeyPatch, where: Any, name: str, wrong: Any
) -> None:
    monkeypatch.setattr(where, name, wrong)
    with pytest.raises((RuntimeError, AssertionError)):
        on_both(CONFIG)


class _Stays(torch.nn.Module):
    """A module that is moved nowhere."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = [module]

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.module[0](*inputs)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here")
@pytest.mark.parametrize(
    "changes",
    [{}, {"precision": "bf16"}, {"precision": "float16"}, {"compile": True}, {"parts": 2, "precision": "bf16"}],
)
def test_a_real_gpu_learns_as_the_processor_does(tmp_path: Path, changes: dict[str, Any]) -> None:
    def losses(config: FitConfig) -> list[float]:
        told: list[float] = []
        fitted(config, checkpoint=tmp_path / config.device, on_progress=lambda epoch, loss: told.append(loss))
        return told

    parts = changes.get("parts", 1)
    exact = losses(replace(CONFIG, epochs=4, device="cpu", parts=parts))
    found = losses(replace(CONFIG, epochs=4, device="cuda", **changes))
    np.testing.assert_allclose(found, exact, rtol=0.1)
