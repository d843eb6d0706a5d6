"""Where a network is trained: on the processor or on a GPU, and in which precision there."""

from __future__ import annotations

import torch

from edgeq.errors import InputError
from edgeq.training.config import FitConfig


def chosen(config: FitConfig) -> torch.device:
    """The device that a config asks for; "auto" is a GPU where there is one.

    Of several GPUs it is this thread's current one, by its number: so it is the same in any thread. Raises InputError
    where there is no GPU and it has to be.
    """
    there = torch.cuda.is_available()
    if config.device == "cuda" and not there:
        raise InputError('fit: device = "cuda": torch finds no GPU here; expected one, or device = "auto"')
    return (
        torch.device("cuda", torch.cuda.current_device()) if there and config.device != "cpu" else torch.device("cpu")
    )


def autocast(config: FitConfig, device: torch.device) -> torch.autocast:
    """Inside this, convolutions and dense layers work in the config's usable precision."""
    precision = config.usable_precision
    dtype = torch.float16 if precision == "float16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=precision != "float32")
