"""Keys and values of a TOML table, read strictly: what is wrong is told by the key, `within` the table it is in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from edgeq.errors import InputError


def check_keys(within: str, table: Mapping[str, Any], known: Sequence[str], required: Sequence[str] = ()) -> None:
    """Raises InputError where a key is not known, with the nearest that is, or one is missing."""
    for key in table:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"did you mean {within}{near[0]}?" if near else f"known: {', '.join(known)}"
            raise InputError(f"unknown key {within}{key}: {hint}")
    for key in required:
        if key not in table:
            raise InputError(f"missing key {within}{key}; add it")


def value_of(within: str, table: Mapping[str, Any], key: str, kind: Any, default: Any = None) -> Any:
    """The value of a key, or the default. kind: as isinstance takes it; a boolean is no number.

    Raises InputError where it is of another kind.
    """
    value = table.get(key, default)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise InputError(f"{within}{key} = {value!r}: expected {_KIND_NAMES[kind]}")
    return value


def list_of(within: str, table: Mapping[str, Any], key: str, kind: Any) -> tuple[Any, ...]:
    """The values of a list, none where the key is not there. Raises InputError where one is of another kind."""
    values = value_of(within, table, key, list, [])
    if not all(isinstance(value, kind) and not isinstance(value, bool) for value in values):
        raise InputError(f"{within}{key} = {values!r}: expected a list of {_PLURALS[kind]}")
    return tuple(values)


_KIND_NAMES = {
    str: "a string",
    int: "a whole number",
    bool: "true or false",
    dict: "a table",
    list: "a list",
    (int, float): "a number",
}
_PLURALS = {str: "strings", int: "whole numbers", (int, float): "numbers", dict: "tables"}
