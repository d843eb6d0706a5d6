"""The kernel headers that an exported model brings along."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

KERNELS = Path(__file__).parent / "kernels"
_INCLUDED = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def with_includes(names: Iterable[str]) -> dict[str, str]:
    """Text by name of these headers and of all that they include, sorted by name."""
    texts: dict[str, str] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in texts:
            texts[name] = (KERNELS / name).read_text(encoding="utf-8")
            waiting.extend(_INCLUDED.findall(texts[name]))
    return dict(sorted(texts.items()))
