"""Files that are compiled once and kept by what they were made of."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def keep(name: str, made_of: object, make: Callable[[Path], None]) -> Path:
    """The file that `make` writes to the path it is given, made anew only where it is not kept yet.

    name: what the file is called. made_of: all that it depends on, with a repr that says it whole. Files are kept in
    the folder edgeq under XDG_CACHE_HOME (~/.cache), where several processes may ask for the same: each sees it whole.
    """
    digest = hashlib.sha256(repr(made_of).encode()).hexdigest()[:32]
    path = folder("built") / f"{digest}-{name}"
    if not path.exists():
        with tempfile.TemporaryDirectory(prefix=f".{digest}-", dir=path.parent) as beside:
            made = Path(beside) / name
            make(made)
            made.replace(path)
    return path


def folder(name: str) -> Path:
    """A folder of that name for what can be made again."""
    place = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgeq" / name
    place.mkdir(parents=True, exist_ok=True)
    return place
