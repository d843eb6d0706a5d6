"""How a kernel is called in the C that is emitted."""

from __future__ import annotations

from collections.abc import Mapping


def call(function: str, *arguments: object) -> str:
    """A statement that calls a kernel with these arguments."""
    return f"{function}({', '.join(map(str, arguments))});"


def struct(name: str, fields: Mapping[str, int]) -> str:
    """A struct of integers by name, as an argument."""
    return f"({name}){{{', '.join(f'.{field} = {value}' for field, value in fields.items())}}}"
