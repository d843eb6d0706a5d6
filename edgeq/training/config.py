"""How a network is fitted and what it learns from a teacher, as plain data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from edgeq.errors import InputError

PRECISIONS = ("float32", "bf16")


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


def _require(holds: bool, config: FitConfig, name: str, expected: str) -> None:
    if not holds:
        raise InputError(f"fit: {name} = {getattr(config, name)!r}: expected {expected}")
