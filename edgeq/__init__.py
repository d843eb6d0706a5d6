"""edgeq takes an audio classifier from training to a device and proves that it still works there.

import edgeq

model = edgeq.load("esc10-qtiny")
model.classify("recording.wav").top
edgeq.export(model, "build/qtiny", int8=True)
edgeq.verify("build/qtiny").passed
edgeq.bench(model, "cpu,stm32l496").results
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeq import bench, export, verify
    from edgeq.errors import CheckFailed, InputError
    from edgeq.model import Model, load

__all__ = ["CheckFailed", "InputError", "Model", "bench", "export", "load", "verify"]


def __getattr__(name: str) -> object:
    # What a name needs is imported when it is first used: `import edgeq` itself costs nothing.
    if name in ("load", "Model"):
        from edgeq import model

        return getattr(model, name)
    if name in ("InputError", "CheckFailed"):
        from edgeq import errors

        return getattr(errors, name)
    if name in ("bench", "export", "verify"):  # rooms that can be called
        return importlib.import_module(f"edgeq.{name}")
    raise AttributeError(f"module 'edgeq' has no attribute {name!r}")
