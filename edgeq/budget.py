"""Budgets: how many parameters and MACs a device or a challenge allows, and whether a network stays below."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from edgeq.errors import InputError


@dataclass(frozen=True)
class Budget:
    """Limits on one inference: `parameters` judges the lowered count, `macs` the network's; None does not limit."""

    name: str
    parameters: int | None = None
    macs: int | None = None

    def judge(self, lowered: int, macs: int) -> list[str]:
        """One reason for each limit exceeded, saying by how much; empty when the budget is kept."""
        spent = (("parameters after lowering", lowered, self.parameters), ("MACs an inference", macs, self.macs))
        return [
            f"{found:,} {what}, {found - limit:,} over the limit of {limit:,}"
            for what, found, limit in spent
            if limit is not None and found > limit
        ]


BUDGETS = {
    # DCASE 2022 Challenge, Task 1: low-complexity acoustic scene classification, one inference on one second.
    "dcase2022": Budget("dcase2022", parameters=128_000, macs=30_000_000),
}


def find(name: str) -> Budget:
    """A budget by name, or from a TOML file with the keys `parameters` and `macs`.

    Raises InputError where there is neither, or the file has other keys or values.
    """
    if name in BUDGETS:
        return BUDGETS[name]
    path = Path(name)
    if not path.is_file():
        raise InputError(f"budget {name}: neither a file nor one of {', '.join(BUDGETS)}")
    try:
        values: Mapping[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError, as that of too long a number is
        raise InputError(f"{path}: not TOML: {error}") from error
    limits = [field.name for field in fields(Budget) if field.name != "name"]
    if not values or set(values) - set(limits):
        raise InputError(f"{path}: found the keys {sorted(values)}, expected some of {limits}")
    for key, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise InputError(f"{path}: {key} is {value!r}: expected a whole number")
    return Budget(path.stem, **values)
