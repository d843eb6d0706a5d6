"""Parts of the package that are commands too: `edgeq.bench(model, "cpu")` beside `from edgeq.bench import run`."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any


class Room(ModuleType):
    """A module that can be called: its `command`, "module:function", is what then runs."""

    command: str

    def __call__(self, model: Any, *given: Any, **named: Any) -> Any:
        """model: as that function takes it, or what `edgeq.load` gave, as any other model may be, alone or in a list.
        Everything else, and what it raises, is its."""
        module, _, function = self.command.partition(":")
        named = {name: _source(value) for name, value in named.items()}
        return getattr(importlib.import_module(module), function)(*map(_source, (model, *given)), **named)


def _source(given: Any) -> Any:
    if isinstance(given, list | tuple):
        return [_source(one) for one in given]
    return given.bundle.folder if hasattr(given, "bundle") else given
