"""How a network is fitted and what it learns from a teacher, as plain data."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from edgeq.errors import InputError

PRECISIONS = ("float32", "bf16", "float16")
OPTIMISERS = ("adamw", "adam", "amsgrad")
SCHEDULES = ("cosine", "constant")
SAMPLINGS = ("shuffled", "balanced")
DEVICES = ("auto", "cpu", "cuda")
LOGMELS = ("auto", "numpy", "torch")


@dataclass(frozen=True)
class FitConfig:
    """How a network is fitted; every field is a key of a recipe's [fit] table.

    epochs (one crop of each clip an epoch), or in its place iterations (batches); batch_size; parts: of how many equal
    parts a batch is made, each with batch statistics and chance of its own: so many processes can share it, and the
    result is theirs all alike. optimiser: "adamw", "adam", or "amsgrad" (Adam that way); learning_rate after a linear
    warm-up over that fraction of all steps, then by schedule "cosine" to 0, or "constant"; weight_decay (of AdamW, on
    weights of convolutions and dense layers only);
    label_smoothing; average_decay: of the exponential average of weights and batch-norm statistics that is the result.
    sampling: "shuffled", or "balanced": classes in turn, so that rare ones are heard as often as common ones.
    crop_seconds: lengths of crops, of which each batch draws one (a network with a dense layer over time takes only
    the window's); crop_depth_db: crops are drawn where something within this of the clip's peak sounds; speeds with
    speed_probability; gain_db; filter_db; mix_probability; mixup_alpha (0: none); stripe_mels and stripe_frames,
    stripe_count of each: see training.augment.
    precision: "float32" (of which GPUs since NVIDIA's Ampere multiply 10 bits in convolutions, as torch has it), or by
    autocast "bf16" (twice as fast on processors that have AVX512-BF16 or AMX, float32 on others) or "float16" (GPUs
    only). device: "cpu", "cuda", or "auto": a GPU where there is one. logmel: what computes the log-mel of packed
    recordings: "numpy" in the threads that read them, "torch" on the device that trains, or "auto": torch on a GPU.
    compile: by torch.compile, for long trainings. checkpoint_minutes: how often the state is kept between the ends of
    epochs.
    Raises InputError where a field is out of range, naming it.
    """

    epochs: int = 0
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
    iterations: int = 0
    parts: int = 1
    optimiser: str = "adamw"
    schedule: str = "cosine"
    sampling: str = "shuffled"
    mixup_alpha: float = 0.0
    stripe_count: int = 1
    device: str = "auto"
    logmel: str = "auto"
    compile: bool = False
    checkpoint_minutes: float = 10.0

    def __post_init__(self) -> None:
        if not self.iterations:
            self._require("epochs", _whole(self.epochs, 1), "a positive integer, or iterations in its place")
        elif self.epochs:
            self._require("epochs", False, "none beside iterations")
        for name, least in (("batch_size", 1), ("parts", 1), ("iterations", 0), ("stripe_count", 0)):
            self._require(name, _whole(getattr(self, name), least), f"a whole number, {least} or more")
        for name in ("stripe_mels", "stripe_frames"):
            self._require(name, _whole(getattr(self, name), 0), "0 or more, whole")
        for name in ("learning_rate", "crop_depth_db", "checkpoint_minutes"):
            self._require(name, 0 < getattr(self, name) < math.inf, "a positive number")
        for name in ("weight_decay", "gain_db", "filter_db", "mixup_alpha"):
            self._require(name, 0 <= getattr(self, name) < math.inf, "0 or more")
        for name in ("warmup", "label_smoothing", "average_decay"):
            self._require(name, 0 <= getattr(self, name) < 1, "from 0 to below 1")
        for name in ("speed_probability", "mix_probability"):
            self._require(name, 0 <= getattr(self, name) <= 1, "from 0 to 1")
        lengths = self.crop_seconds
        self._require("crop_seconds", bool(lengths) and all(0 < length < math.inf for length in lengths), "lengths")
        self._require("speeds", all(0.25 <= speed <= 4 for speed in self.speeds), "factors from 0.25 to 4")
        self._require("batch_size", self.batch_size % self.parts == 0, f"a multiple of parts, {self.parts}")
        for name, known in (
            ("precision", PRECISIONS),
            ("optimiser", OPTIMISERS),
            ("schedule", SCHEDULES),
            ("sampling", SAMPLINGS),
            ("device", DEVICES),
            ("logmel", LOGMELS),
        ):
            self._require(name, getattr(self, name) in known, f"one of {', '.join(known)}")
        if self.optimiser != "adamw":
            self._require("weight_decay", self.weight_decay == 0, f"0 with {self.optimiser}: only adamw decays weights")

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise InputError(f"fit: {name} = {getattr(self, name)!r}: expected {expected}")

    @property
    def length(self) -> int:
        """How long it is: epochs, or iterations where it counts these."""
        return self.iterations or self.epochs

    @property
    def unit(self) -> str:
        """What it counts: "epochs" or "iterations"."""
        return "iterations" if self.iterations else "epochs"

    def of_length(self, length: int) -> FitConfig:
        """The same, so long."""
        return replace(self, iterations=length) if self.iterations else replace(self, epochs=length)

    @property
    def usable_precision(self) -> str:
        """The precision that this machine trains in.

        Of a processor "bf16" only where it multiplies bfloat16 natively, else "float32"; of a GPU as asked for.
        """
        if self.precision == "float32":
            return "float32"
        from edgeq.training import device  # that needs torch, reading a recipe does not

        if device.chosen(self).type == "cuda":
            return self.precision
        return "bf16" if self.precision == "bf16" and bf16_is_fast() else "float32"


@dataclass(frozen=True)
class Distillation:
    """How much a student learns from the labels and how much from its teacher: see `loss.distillation`.

    alpha: share of the labels' term, the teacher's is 1 - alpha. temperature: what logits are divided by before the
    teacher's term compares them. Raises InputError where one is out of range.
    Source: quaternion paper, Eq. 3 and Section V-E (alpha .5, temperature 2).
    """

    alpha: float = 0.5
    temperature: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise InputError(f"distillation: alpha {self.alpha!r}: expected a number from 0 to 1")
        if not 0 < self.temperature < math.inf:
            raise InputError(f"distillation: temperature {self.temperature!r}: expected a positive number")


PAPER = Distillation()
"""As the paper distils."""


def bf16_is_fast() -> bool:
    """Whether this processor multiplies bfloat16 natively, which is when precision "bf16" is honoured."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:  # only Linux lists its processor there
        return False
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
