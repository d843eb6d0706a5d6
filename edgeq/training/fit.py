"""The training loop: seeded, resumable after a kill, with averaged weights at the end."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import deterministic

from edgeq import atomic
from edgeq.audio.frontend import FrontendSpec
from edgeq.audio.frontend_torch import Features
from edgeq.errors import InputError
from edgeq.training import augment
from edgeq.training.features import CorpusMaps

PRECISIONS = ("float32", "bf16")
EpochDone = Callable[[int, float], None]


@dataclass(frozen=True)
class FitConfig:
    """How a network is fitted; every field is a key of a recipe's [fit] table.

    epochs (one crop of each clip an epoch); batch_size; learning_rate after a linear warm-up over that fraction of
    all steps, then cosine to 0; weight_decay (AdamW, on weights of convolutions and dense layers only);
    label_smoothing; average_decay: of the exponential average of weights and batch-norm statistics that is the result.
    crop_seconds: lengths of crops, of which each batch draws one (a network with a dense layer over time takes only
    the window's); crop_depth_db: crops are drawn where something within this of the clip's peak sounds; speeds with
    speed_probability; gain_db; filter_db; mix_probability; stripe_mels, stripe_frames: see training.augment.
    precision: "float32", or "bf16" (autocast; twice as fast on processors that have AVX512-BF16 or AMX, float32 on
    others). Raises InputError where a field is out of range, naming it.
    """

    epochs: int
    batch_size: int = 32
    learning_rate: float = 3e-3
    warmup: float = 0.05
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    average_decay: float = 0.99
    crop_seconds: tuple[float, ...] = (1.0,)
    crop_depth_db: float = 30.0
    speeds: tuple[float, ...] = (0.8, 0.9, 1.1, 1.25)
    speed_probability: float = 0.6
    gain_db: float = 6.0
    filter_db: float = 3.0
    mix_probability: float = 0.4
    stripe_mels: int = 9
    stripe_frames: int = 19
    precision: str = "float32"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            _require(isinstance(getattr(self, name), int) and getattr(self, name) > 0, self, name, "a positive integer")
        for name in ("stripe_mels", "stripe_frames"):
            _require(isinstance(getattr(self, name), int) and getattr(self, name) >= 0, self, name, "0 or more, whole")
        for name in ("learning_rate", "crop_depth_db"):
            _require(0 < getattr(self, name) < math.inf, self, name, "a positive number")
        for name in ("weight_decay", "gain_db", "filter_db"):
            _require(0 <= getattr(self, name) < math.inf, self, name, "0 or more")
        for name in ("warmup", "label_smoothing", "average_decay"):
            _require(0 <= getattr(self, name) < 1, self, name, "from 0 to below 1")
        for name in ("speed_probability", "mix_probability"):
            _require(0 <= getattr(self, name) <= 1, self, name, "from 0 to 1")
        lengths = self.crop_seconds
        _require(bool(lengths) and all(0 < length < math.inf for length in lengths), self, "crop_seconds", "lengths")
        _require(all(0.25 <= speed <= 4 for speed in self.speeds), self, "speeds", "factors from 0.25 to 4")
        _require(self.precision in PRECISIONS, self, "precision", f"one of {', '.join(PRECISIONS)}")

    @property
    def usable_precision(self) -> str:
        """The precision that this processor trains in: "bf16" only where it multiplies bfloat16 natively."""
        return "bf16" if self.precision == "bf16" and bf16_is_fast() else "float32"


def fit(
    network: nn.Module,
    maps: CorpusMaps,
    targets: Tensor,
    spec: FrontendSpec,
    config: FitConfig,
    seed: int,
    checkpoint: Path | None = None,
    on_epoch: EpochDone | None = None,
) -> None:
    """Fit a network in place, to the average of its weights over the last steps; it is left in evaluation mode.

    maps: log-mel of the training clips at speeds (1, *config.speeds). targets: float32 (clips, classes) that sum to 1
    a clip, for softmax cross-entropy. spec: with the normalisation to train under.
    With `checkpoint`, the state is kept there after every epoch and a run that finds it goes on from it; since each
    epoch draws from its own seed, a resumed run ends with the very weights of an uninterrupted one. on_epoch is told
    how many epochs are done and the last one's mean loss. Results are equal for equal seed, data, thread count and
    processor. Raises InputError where the checkpoint is of another run.
    """
    if len(targets) < 2:
        raise InputError(f"training on {len(targets)} clips: expected at least 2")
    run = _Run(network, maps, targets, spec, config, seed)
    with _deterministic():
        done = run.restore(checkpoint) if checkpoint is not None else 0
        for epoch in range(done, config.epochs):
            loss = run.epoch(epoch)
            if not math.isfinite(loss):
                raise InputError(f"epoch {epoch + 1}: loss {loss}; lower learning_rate (now {config.learning_rate})")
            if checkpoint is not None:
                run.save(checkpoint, epoch + 1)
            if on_epoch is not None:
                on_epoch(epoch + 1, loss)
        run.finish()


def bf16_is_fast() -> bool:
    """Whether this processor multiplies bfloat16 natively, which is when precision "bf16" is honoured."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:  # only Linux lists its processor there
        return False
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)


class _Run:
    """One fit under way: the network, its average, its optimiser, and where the batches come from."""

    def __init__(
        self, network: nn.Module, maps: CorpusMaps, targets: Tensor, spec: FrontendSpec, config: FitConfig, seed: int
    ) -> None:
        self.network = network
        for parameter in network.parameters():
            if parameter.ndim == 4:  # convolutions and pools are several times faster with channels last
                parameter.data = parameter.data.to(memory_format=torch.channels_last)
        self.config, self.spec, self.seed = config, spec, seed
        self.banks = augment.crop_banks(
            maps, spec, [_frames(spec, s) for s in config.crop_seconds], config.crop_depth_db
        )
        self.features = Features(spec)
        self.targets = targets
        self.batch_size = min(config.batch_size, len(targets))
        self.steps_per_epoch = len(targets) // self.batch_size
        self.bf16 = config.usable_precision == "bf16"
        decayed = [p for p in network.parameters() if p.ndim > 1]
        plain = [p for p in network.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
        self.averaged = [t for t in network.state_dict().values() if t.is_floating_point()]
        self.average = [t.clone() for t in self.averaged]
        self.fingerprint = self._fingerprint()

    def epoch(self, epoch: int) -> float:
        """One pass over the clips; returns the mean loss."""
        # A seed for each epoch means that no random state has to be saved to go on exactly where a run was killed.
        generator = torch.Generator().manual_seed(_seed(self.seed, epoch))
        torch.manual_seed(_seed(self.seed, epoch))  # dropout draws from the global generator
        self.network.train()
        order = torch.randperm(len(self.targets), generator=generator)
        losses = []
        for step in range(self.steps_per_epoch):
            clips = order[step * self.batch_size : (step + 1) * self.batch_size]
            self._set_learning_rate(epoch * self.steps_per_epoch + step)
            losses.append(self._step(clips, generator))
        return math.fsum(losses) / len(losses)

    def finish(self) -> None:
        with torch.no_grad():
            for tensor, average in zip(self.averaged, self.average, strict=True):
                tensor.copy_(average)
        self.network.eval()

    def save(self, path: Path, epochs: int) -> None:
        state = {
            "fingerprint": self.fingerprint,
            "epochs": epochs,
            "network": self.network.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        atomic.write_bytes(path, buffer.getvalue())

    def restore(self, path: Path) -> int:
        """Take up a checkpoint; returns the epochs it has behind it, 0 where there is none."""
        if not path.is_file():
            return 0
        try:
            state = torch.load(path, weights_only=True)
            other = state["fingerprint"] != self.fingerprint
        except Exception as error:  # torch's reader fails in any way on a file that is something else
            raise InputError(f"{path}: not a checkpoint of training ({type(error).__name__}); remove it") from error
        if other:
            raise InputError(f"{path}: found a checkpoint of another recipe, seed or data; remove it to start afresh")
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        for average, saved in zip(self.average, state["average"], strict=True):
            average.copy_(saved)
        return int(state["epochs"])

    def _step(self, clips: Tensor, generator: torch.Generator) -> float:
        inputs, targets = self._batch(clips, generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            logits = self.network(inputs)
        loss = self._loss(logits.float(), targets)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        torch._foreach_lerp_(self.average, self.averaged, 1 - self.config.average_decay)
        return loss.item()

    @torch.no_grad()
    def _batch(self, clips: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        config = self.config
        targets = self.targets[clips]
        bank = self.banks[int(torch.randint(len(self.banks), (), generator=generator))]
        power = augment.crop(bank, clips, config.speed_probability, generator)
        power = augment.gain(power, config.gain_db, generator)
        power = augment.band_filter(power, self.spec.n_mels, config.filter_db, generator)
        power, targets = augment.mix(power, targets, config.mix_probability, generator)
        inputs = self.features(augment.to_log(power, self.spec))
        inputs = augment.stripes(inputs, config.stripe_mels, config.stripe_frames, generator)
        return inputs.contiguous(memory_format=torch.channels_last), targets

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(logits, targets, label_smoothing=self.config.label_smoothing)

    def _set_learning_rate(self, step: int) -> None:
        steps = self.config.epochs * self.steps_per_epoch
        warmup = max(1, round(self.config.warmup * steps))
        if step < warmup:
            factor = (step + 1) / warmup
        else:
            factor = (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * factor

    def _fingerprint(self) -> str:
        shapes = {name: list(tensor.shape) for name, tensor in self.network.state_dict().items()}
        frames = [[power.shape[1] for power in powers] for powers in self.banks[0].powers]
        what = [asdict(self.config), self.spec.to_json(), self.seed, shapes, frames, self.targets.tolist()]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def _frames(spec: FrontendSpec, seconds: float) -> int:
    """Frames of a crop; a crop as long as the window has as many frames as the window."""
    return spec.window_frames + round((seconds - spec.window_seconds) * spec.sample_rate / spec.hop_length)


def _seed(seed: int, epoch: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{epoch}".encode()).digest()[:7])


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    # Typed loosely: torch makes this module's switch a property of a class that it puts in the module's place.
    memory: Any = deterministic
    before = torch.are_deterministic_algorithms_enabled(), memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    memory.fill_uninitialized_memory = False  # a fifth of the time, for memory that nobody reads
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        memory.fill_uninitialized_memory = before[1]


def _require(holds: bool, config: FitConfig, name: str, expected: str) -> None:
    if not holds:
        raise InputError(f"fit: {name} = {getattr(config, name)!r}: expected {expected}")
