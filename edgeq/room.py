"""Parts of the package that are commands too: `edgeq.bench(model, "cpu")` beside `from edgeq.bench import run`."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any


class Room(ModuleType):
    """A module that can be called: its `command`, "module:function", is what then runs."""

    command: str

    def __call__(self, model: Any, *given: Any, **named: Any) -> Any:
        """model: as that function takes it, or what `edgeq.load` gave. Everything else, and what it raises, is its."""
        module, _, function = self.command.partition(":")
        source = model.bundle.folder if hasattr(model, "bundle") else model
        return getattr(importlib.import_module(module), function)(source, *given, **named)
