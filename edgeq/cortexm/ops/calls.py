"""How a kernel is called in the C that is emitted."""

from __future__ import annotations

from collections.abc import Mapping

_PER_LINE = 4


def call(function: str, *arguments: object) -> str:
    """A statement that calls a kernel with these arguments."""
    return f"{function}({', '.join(map(str, arguments))});"


def struct(name: str, fields: Mapping[str, int]) -> str:
    """A struct of integers by name, a few a line, as an argument."""
    words = [f".{field} = {value}" for field, value in fields.items()]
    lines = [", ".join(words[start : start + _PER_LINE]) for start in range(0, len(words), _PER_LINE)]
    return f"({name}){{\n    " + ",\n    ".join(lines) + "}"
