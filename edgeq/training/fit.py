"""The training loop: seeded, resumable after a kill, with averaged weights at the end."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import deterministic

from edgeq import atomic
from edgeq.audio.frontend import FrontendSpec
from edgeq.audio.frontend_torch import Features
from edgeq.errors import InputError
from edgeq.training import augment
from edgeq.training import loss as losses
from edgeq.training.config import FitConfig
from edgeq.training.features import CorpusMaps
from edgeq.training.teacher import Lesson, Teacher, channels_last

EpochDone = Callable[[int, float], None]


def fit(
    network: nn.Module,
    maps: CorpusMaps,
    targets: Tensor,
    spec: FrontendSpec,
    config: FitConfig,
    seed: int,
    checkpoint: Path | None = None,
    on_epoch: EpochDone | None = None,
    output: str = "softmax",
    teacher: Teacher | None = None,
) -> None:
    """Fit a network in place, to the average of its weights over the last steps; it is left in evaluation mode.

    The weights it comes with are where it starts: fresh ones, or trained ones to fine-tune.
    maps: log-mel of the training clips at speeds (1, *config.speeds). targets: float32 (clips, classes), for
    `loss.classification`; output: "softmax" or "sigmoid". spec: with the normalisation to train under. teacher: adds
    `loss.distillation`; its answers are in the order of the targets' classes, its maps those of the same clips.
    With `checkpoint`, the state is kept there after every epoch and a run that finds it goes on from it; since each
    epoch draws from its own seed, a resumed run ends with the very weights of an uninterrupted one. on_epoch is told
    how many epochs are done and the last one's mean loss. Results are equal for equal seed, data, thread count and
    processor. Raises InputError where the checkpoint is of another run, the network does not take such crops, the loss
    or the result is not finite, or as `teacher.Lesson` does.
    """
    if len(targets) < 2:
        raise InputError(f"training on {len(targets)} clips: expected at least 2")
    run = _Run(network, maps, targets, spec, config, seed, output, teacher)
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
    if not all(tensor.isfinite().all() for tensor in run.averaged):
        raise InputError(f"training: weights became infinite; lower learning_rate (now {config.learning_rate:g})")


class _Run:
    """One fit under way: the network, its average, its optimiser, and where the batches come from."""

    def __init__(
        self,
        network: nn.Module,
        maps: CorpusMaps,
        targets: Tensor,
        spec: FrontendSpec,
        config: FitConfig,
        seed: int,
        output: str,
        teacher: Teacher | None,
    ) -> None:
        self.network = network
        channels_last(network)
        self.config, self.spec, self.seed, self.output = config, spec, seed, output
        augment.check_crops("the network", network.eval(), spec, config.crop_seconds, targets.shape[1])
        lengths = [augment.crop_frames(spec, seconds) for seconds in config.crop_seconds]
        self.banks = augment.crop_banks(maps, spec, lengths, config.crop_depth_db)
        self.bands = torch.linspace(0, 1, spec.n_mels)
        self.features = Features(spec)
        self.lesson = None if teacher is None else Lesson(teacher, spec, config, output, targets.shape[1])
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
        self.fingerprint = self._fingerprint(teacher)

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
            raise InputError(
                f"{path}: found a checkpoint of another recipe, seed, teacher or data; remove it to start afresh"
            )
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        for average, saved in zip(self.average, state["average"], strict=True):
            average.copy_(saved)
        return int(state["epochs"])

    def _step(self, clips: Tensor, generator: torch.Generator) -> float:
        inputs, targets, taught = self._batch(clips, generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            logits = self.network(inputs)
        loss = self._loss(logits.float(), targets, taught)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        torch._foreach_lerp_(self.average, self.averaged, 1 - self.config.average_decay)
        return loss.item()

    @torch.no_grad()
    def _batch(self, clips: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor | None]:
        """Network inputs, targets, and where there is a teacher its answers."""
        config = self.config
        length = int(torch.randint(len(self.banks), (), generator=generator))
        bank = self.banks[length]
        places = augment.places(bank, clips, config.speed_probability, generator)
        before = generator.clone_state()
        power = augment.crop(bank.powers, places, bank.length)
        power, targets = augment.augmented(power, self.targets[clips], self.bands, config, generator)
        taught = None if self.lesson is None else self.lesson.answers(power, places, length, before)
        inputs = self.features(augment.to_log(power, self.spec))
        inputs = augment.stripes(inputs, config.stripe_mels, config.stripe_frames, generator)
        return inputs.contiguous(memory_format=torch.channels_last), targets, taught

    def _loss(self, logits: Tensor, targets: Tensor, taught: Tensor | None) -> Tensor:
        labelled = losses.classification(logits, targets, self.output, self.config.label_smoothing)
        if self.lesson is None or taught is None:
            return labelled
        how = self.lesson.how
        return how.alpha * labelled + (1 - how.alpha) * losses.distillation(
            logits, taught, self.output, how.temperature
        )

    def _set_learning_rate(self, step: int) -> None:
        steps = self.config.epochs * self.steps_per_epoch
        warmup = max(1, round(self.config.warmup * steps))
        if step < warmup:
            factor = (step + 1) / warmup
        else:
            factor = (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * factor

    def _fingerprint(self, teacher: Teacher | None) -> str:
        start = hashlib.sha256()
        for name, tensor in self.network.state_dict().items():
            start.update(f"{name} {list(tensor.shape)} ".encode() + tensor.contiguous().numpy().tobytes())
        taught = teacher and [asdict(teacher.how), *([m.sha256, m.frontend.to_json()] for m in teacher.members)]
        frames = [[power.shape[1] for power in powers] for powers in self.banks[0].powers]
        what = [asdict(self.config), self.spec.to_json(), self.seed, start.hexdigest(), frames, self.targets.tolist()]
        return hashlib.sha256(json.dumps([*what, self.output, taught]).encode()).hexdigest()


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
