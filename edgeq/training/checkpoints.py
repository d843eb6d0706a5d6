"""The state of a training on disk: whole or absent, and of this training or refused."""

from __future__ import annotations

import io
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from edgeq import atomic
from edgeq.errors import InputError


def write(path: Path, state: Mapping[str, Any]) -> None:
    """Keep a state: tensors, numbers, texts, lists and mappings of them; it has to have a "fingerprint".

    The version of edgeq is kept with it. Raises OSError as `atomic.write_bytes`; what was kept before is then
    untouched.
    """
    buffer = io.BytesIO()
    torch.save({**state, "edgeq": version("edgeq")}, buffer)
    atomic.write_bytes(path, buffer.getvalue())


def read(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """The state that was kept, its tensors on the processor; None where there is none.

    Raises InputError where the file cannot be read, is something else, or of a training with another fingerprint.
    """
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        other = state["fingerprint"] != fingerprint
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a checkpoint that can") from error
    except Exception as error:  # torch's reader fails in any way on a file that is something else
        raise InputError(f"{path}: not a checkpoint of training ({type(error).__name__}); remove it") from error
    if other:
        by, here = state.get("edgeq", "an earlier one"), version("edgeq")
        upgraded = "" if by == here else f" (or edgeq itself: {by} wrote it, this is {here})"
        raise InputError(
            f"{path}: found a checkpoint of another recipe, seed, teacher or data, or other validation clips{upgraded}"
            "; remove it to start afresh"
        )
    return state
