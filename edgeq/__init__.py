"""edgeq takes an audio classifier from training to a device and proves that it still works there.

import edgeq

model = edgeq.load("esc10-qtiny")
model.classify("recording.wav").top
model.export("build/qtiny", int8=True)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeq.errors import CheckFailed, InputError
    from edgeq.model import Model, load

__all__ = ["CheckFailed", "InputError", "Model", "load"]


def __getattr__(name: str) -> object:
    # What a name needs is imported when it is first used: `import edgeq` itself costs nothing.
    if name in ("load", "Model"):
        from edgeq import model

        return getattr(model, name)
    if name in ("InputError", "CheckFailed"):
        from edgeq import errors

        return getattr(errors, name)
    raise AttributeError(f"module 'edgeq' has no attribute {name!r}")
