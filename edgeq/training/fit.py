"""The training loop: seeded, resumable after a kill, shared by processes, with averaged weights at the end."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils import deterministic

from edgeq.audio.frontend import FrontendSpec
from edgeq.audio.frontend_torch import Features
from edgeq.errors import InputError
from edgeq.training import augment, checkpoints, optimiser, plans, processes
from edgeq.training import device as devices
from edgeq.training import loss as losses
from edgeq.training.competition import Best, Competition, Measured, floats
from edgeq.training.config import FitConfig
from edgeq.training.source import Heard, Source
from edgeq.training.teacher import Lesson, Teacher, channels_last

OnProgress = Callable[[float, float | None], None]
"""Told how many epochs are done (iterations, where the config counts these), and the mean loss since it was last told;
None where no step was made since."""

TOLD_EVERY = 100
"""Iterations after which one who counts these hears how far the fit is."""

TOLD_AFTER = 20.0
"""Seconds after which whoever waits hears it, epoch or not."""


def fit(
    network: nn.Module,
    source: Source,
    spec: FrontendSpec,
    config: FitConfig,
    seed: int,
    checkpoint: Path | None = None,
    on_progress: OnProgress | None = None,
    output: str = "softmax",
    teacher: Teacher | None = None,
    measured: Measured | None = None,
) -> Best | None:
    """Fit a network in place, to the average of its weights over the last steps; it is left in evaluation mode.

    The weights it comes with are where it starts: fresh ones, or trained ones to fine-tune.
    source: of the training clips, see `source.Source`. spec: with the normalisation to train under. output: "softmax"
    or "sigmoid", for `loss.classification`. teacher: adds `loss.distillation`; its answers are in the order of the
    targets' classes, its maps those of the same clips. Where several processes fit together (`processes.current`), each
    takes its share of the config's parts, and all end with the same network. Where it is `measured`, the averages that
    it had then compete, and the best of them is the result, which is returned as `Best`.
    With `checkpoint`, the state is kept there after every epoch, and every config.checkpoint_minutes within one; a run
    that finds it goes on from it, with as many processes as there now are, and ends with the very weights of an
    uninterrupted one. Results are equal for equal seed, data, thread count and processor; another number
    of processes rounds otherwise, and so does a GPU, whose sums have no fixed order, in every run. Raises InputError
    where the checkpoint is of another run, the network does not take such crops, the loss or the result is not finite,
    the processes differ in data or recipe, they are more than the parts or do not divide them, or as `teacher.Lesson`
    does.
    """
    if source.clips < 2:
        raise InputError(f"training on {source.clips} clips: expected at least 2")
    if source.clips < config.parts:
        raise InputError(f"training on {source.clips} clips in {config.parts} parts: expected a clip for each part")
    run = _Run(network, source, spec, config, seed, output, teacher, measured)
    with _deterministic(run.device):
        run.go(checkpoint, on_progress or (lambda done, loss: None))
    if not all(tensor.isfinite().all() for tensor in run.averaged):
        raise InputError(f"training: weights became infinite; lower learning_rate (now {config.learning_rate:g})")
    return run.competition.ranking[0] if run.competition else None


class _Run:
    """One fit under way: the network, its average, its optimiser, and where the batches come from."""

    def __init__(
        self,
        network: nn.Module,
        source: Source,
        spec: FrontendSpec,
        config: FitConfig,
        seed: int,
        output: str,
        teacher: Teacher | None,
        measured: Measured | None,
    ) -> None:
        self.together = processes.current()
        self.own = self.together.share(config.parts)
        self.network = network
        channels_last(network)
        self.config, self.spec, self.seed, self.output, self.source = config, spec, seed, output, source
        augment.check_crops("the network", network.eval(), spec, config.crop_seconds, source.classes)
        self.fingerprint = self._fingerprint(teacher, measured)
        self.together.check_same("data", source.fingerprint, f"{source.clips} clips of {source.classes} classes")
        what = "recipe, seed, teacher, first weights or validation clips"
        self.together.check_same(what, self.fingerprint, f"{network.__class__}")
        self.device = devices.chosen(config)
        network.to(self.device)
        self.forward = torch.compile(network) if config.compile else network
        self.bands = torch.linspace(0, 1, spec.n_mels, device=self.device)
        self.features = Features(spec).to(self.device)
        self.lesson = None if teacher is None else Lesson(teacher, spec, config, output, source.classes)
        self.course = plans.course(config, source.clips)
        self.optimiser = optimiser.built(network, config)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.usable_precision == "float16")
        norms = [module for module in network.modules() if isinstance(module, _NormBase)]
        self.statistics = [one for norm in norms for one in norm.buffers()]
        self.averaged = floats(network)
        self.average = [t.clone() for t in self.averaged]
        self.competition = None if measured is None else Competition(measured)

    def go(self, checkpoint: Path | None, on_progress: OnProgress) -> None:
        """Every step that is left, and the average at the end."""
        done = self._restore(checkpoint) if checkpoint is not None else 0
        told, told_at = done, time.monotonic()
        kept_at = told_at
        since: list[Tensor] = []
        if done:
            on_progress(self._reached(done), None)
        steps, epoch_steps = self.course.steps, self.course.epoch_steps
        wanted = plans.plans(self.course, self.source.order, self.spec, self.config, self.seed, self.own, done)
        self.network.train()
        with contextlib.closing(self.source.read(wanted)) as heard:
            while done < steps:
                if done % epoch_steps == 0 and self.config.parts == 1:
                    # A seed for each epoch, so that at its start no state of chance has to be taken up.
                    torch.manual_seed(plans.drawn_seed(self.seed, done // epoch_steps))  # dropout draws from it
                since.append(self._step(done, heard))
                done += 1
                epoch_ends = done % epoch_steps == 0 or done == steps
                tell = epoch_ends or (self.config.iterations > 0 and done - told >= TOLD_EVERY)
                tell = tell or time.monotonic() - told_at >= TOLD_AFTER
                loss = self._mean(since, done) if tell else 0.0
                if self.competition is not None and self._is_measured(done, self.competition.measured.every):
                    self.competition.enter(self.network, self.average, done, checkpoint, self.fingerprint)
                late = time.monotonic() - kept_at >= 60 * self.config.checkpoint_minutes
                if checkpoint is not None and self.together.main and (epoch_ends or late):
                    checkpoints.write(checkpoint, self._state(done))
                    kept_at = time.monotonic()
                if tell:
                    on_progress(self._reached(done), loss)
                    told, told_at, since = done, time.monotonic(), []
        self._finish()

    def _reached(self, done: int) -> float:
        """How far so many steps are, in what the config counts."""
        return done if self.config.iterations else done / self.course.epoch_steps

    def _step(self, step: int, heard: Iterator[Heard]) -> Tensor:
        """One update from all parts of a batch; returns the mean loss, the same in every process."""
        parts = self.config.parts
        optimiser.set_learning_rate(self.optimiser, self.config, step, self.course.steps)
        self.optimiser.zero_grad()
        before = [one.clone() for one in self.statistics] if parts > 1 else []
        means = [torch.zeros_like(one) for one in before]
        total = torch.zeros(1, device=self.device)
        for part in self.own:
            if parts > 1:  # every part starts from the same state of the network, and has chance of its own
                torch.manual_seed(plans.drawn_seed(self.seed, step, part))
                for one, saved in zip(self.statistics, before, strict=True):
                    one.copy_(saved)
            loss = self._loss(next(heard)) / parts
            self.scaler.scale(loss).backward()
            total += loss.detach()
            for mean, one in zip(means, self.statistics, strict=False):
                if one.is_floating_point():
                    mean += one / parts
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        self.together.sum_up([*gradients, *(mean for mean in means if mean.is_floating_point()), total])
        for mean, one in zip(means, self.statistics, strict=False):
            if one.is_floating_point():
                one.copy_(mean)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        torch._foreach_lerp_(self.average, self.averaged, 1 - self.config.average_decay)
        return total

    def _loss(self, heard: Heard) -> Tensor:
        inputs, targets, taught = self._batch(heard)
        with devices.autocast(self.config, self.device):
            logits = self.forward(inputs).float()
        labelled = losses.classification(logits, targets, self.output, self.config.label_smoothing)
        if self.lesson is None or taught is None:
            return labelled
        how = self.lesson.how
        return how.alpha * labelled + (1 - how.alpha) * losses.distillation(
            logits, taught, self.output, how.temperature
        )

    @torch.no_grad()
    def _batch(self, heard: Heard) -> tuple[Tensor, Tensor, Tensor | None]:
        """Network inputs, targets, and where there is a teacher its answers."""
        changes = heard.plan.changes.to(self.device)
        power, targets = (one.to(self.device, non_blocking=True) for one in (heard.power, heard.targets))
        power, targets = augment.augmented(power, targets, self.bands, changes)
        taught = None
        if self.lesson is not None:
            taught = self.lesson.answers(power, heard.places, heard.plan.length, changes)
        inputs = self.features(augment.to_log(power, self.spec))
        if changes.mixup is not None:
            inputs, targets = augment.mixup(inputs, targets, changes.mixup)
        for mels, frames in zip(changes.mels, changes.frames, strict=True):
            inputs = augment.stripes(inputs, mels, frames)
        return inputs.contiguous(memory_format=torch.channels_last), targets, taught

    def _is_measured(self, done: int, every: int) -> bool:
        each = every if self.config.iterations else every * self.course.epoch_steps
        return done == self.course.steps or done % each == 0

    def _mean(self, losses: list[Tensor], done: int) -> float:
        loss = math.fsum(one.item() for one in losses) / len(losses)
        if not math.isfinite(loss):
            where = f"iteration {done}" if self.config.iterations else f"epoch {math.ceil(self._reached(done))}"
            raise InputError(f"{where}: loss {loss}; lower learning_rate (now {self.config.learning_rate})")
        return loss

    def _finish(self) -> None:
        result = self.average if self.competition is None else self.competition.winner
        with torch.no_grad():
            for tensor, value in zip(self.averaged, result, strict=True):
                tensor.copy_(value)
        self.network.eval().to("cpu")

    def _state(self, done: int) -> dict[str, Any]:
        chance = [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if self.device.type == "cuda" else [])]
        return {
            "fingerprint": self.fingerprint,
            "steps": done,
            "network": self.network.state_dict(),
            "average": self.average,
            **(self.competition.state() if self.competition else {}),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "chance": chance,
        }

    def _restore(self, checkpoint: Path) -> int:
        """Take up a checkpoint; returns the steps it has behind it, 0 where there is none."""
        state = checkpoints.read(checkpoint, self.fingerprint)
        self.together.check_same("checkpoint", str(state and state["steps"]), f"{checkpoint}")
        if state is None:
            return 0
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        if state["scaler"]:  # it scaled: not so on a processor, which float16 is not for
            self.scaler.load_state_dict(state["scaler"])
        for average, saved in zip(self.average, state["average"], strict=True):
            average.copy_(saved)
        if self.competition is not None:
            self.competition.restore(state, self.device)
        torch.set_rng_state(state["chance"][0])
        if self.device.type == "cuda" and len(state["chance"]) > 1:
            torch.cuda.set_rng_state(state["chance"][1])
        return int(state["steps"])

    def _fingerprint(self, teacher: Teacher | None, measured: Measured | None) -> str:
        start = hashlib.sha256()
        for name, tensor in self.network.state_dict().items():
            start.update(f"{name} {list(tensor.shape)} ".encode() + tensor.contiguous().numpy().tobytes())
        taught = teacher and [asdict(teacher.how), *([m.sha256, m.frontend.to_json()] for m in teacher.members)]
        # None of these changes what is learnt, but for rounding.
        config = replace(self.config, device="auto", checkpoint_minutes=1.0, logmel="auto")
        what = [asdict(config), self.spec.to_json(), self.seed, start.hexdigest(), self.source.fingerprint]
        chosen = [] if measured is None else [measured.fingerprint, measured.every]
        return hashlib.sha256(json.dumps([*what, self.output, taught, *chosen]).encode()).hexdigest()


@contextlib.contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    if device.type != "cpu":  # pools and others of the networks have no deterministic gradient there
        with torch.random.fork_rng(devices=[torch.cuda.current_device()]):
            yield
        return
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
