"""The scripts of tools/ and benchmarks/, which lie in no package, as modules."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent


def script(path: str) -> ModuleType:
    """A script run as a module, not as the main program. path: from the root, such as tools/qemu.py."""
    place = importlib.util.spec_from_file_location(f"script_{Path(path).stem}", ROOT / path)
    assert place is not None and place.loader is not None
    module = importlib.util.module_from_spec(place)
    sys.modules[place.name] = module  # where its dataclasses look for what they name
    place.loader.exec_module(module)
    return module
