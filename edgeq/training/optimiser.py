"""The optimisers and learning rates of FitConfig."""

from __future__ import annotations

import math

import torch
from torch import nn

from edgeq.training.config import FitConfig


def built(network: nn.Module, config: FitConfig) -> torch.optim.Optimizer:
    """The optimiser that a config names, of a network's parameters; only weights of two or more axes decay."""
    decayed = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    if config.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
    return torch.optim.Adam(groups, lr=config.learning_rate, amsgrad=config.optimiser == "amsgrad", fused=True)


def set_learning_rate(optimiser: torch.optim.Optimizer, config: FitConfig, step: int, steps: int) -> None:
    """Make it that of a step, of so many: a linear warm-up, then the config's schedule."""
    warmup = max(1, round(config.warmup * steps))
    if step < warmup:
        factor = (step + 1) / warmup
    elif config.schedule == "constant":
        factor = 1.0
    else:
        factor = (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2
    for group in optimiser.param_groups:
        group["lr"] = config.learning_rate * factor
