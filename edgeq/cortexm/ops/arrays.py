"""Constants of a model as arrays in C, which the compiler leaves in flash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

_PER_LINE = 20
_DTYPES = {
    "int8_t": np.int8, "uint8_t": np.uint8, "int16_t": np.int16, "uint16_t": np.uint16, "int32_t": np.int32,
    "uint32_t": np.uint32, "float": np.float32,
}  # fmt: skip


@dataclass(frozen=True)
class Array:
    """A constant: its name, its declaration with all its values, and its size in bytes."""

    name: str
    declaration: str
    bytes: int


def array(ctype: str, name: str, values: np.ndarray, align: int = 0) -> Array:
    """The values, in C order, as a one-dimensional array of a C type.

    ctype: int8_t to uint32_t, or float. align: bytes at a multiple of which it shall begin, where the type's own
    alignment is not enough. The values must fit the type.
    """
    dtype = np.dtype(_DTYPES[ctype])
    flat = np.ascontiguousarray(values).ravel()
    cast = flat.astype(dtype)
    assert flat.size and np.array_equal(cast, flat), f"{name}: values that are no {ctype}"
    written = [_number(value) for value in cast.tolist()] if dtype.kind == "f" else [_integer(n) for n in cast.tolist()]
    rows = (", ".join(written[start : start + _PER_LINE]) for start in range(0, len(written), _PER_LINE))
    lines = ",\n  ".join(rows)
    place = f"EDGEQ_ALIGNED({align}) " if align else ""
    return Array(name, f"static const {place}{ctype} {name}[{flat.size}] = {{\n  {lines}\n}};", cast.nbytes)


def shared(ctype: str, stem: str, values: np.ndarray, align: int = 0) -> Array:
    """`array` named after its content, so that layers with the same values have one array between them."""
    content = np.ascontiguousarray(values).astype(_DTYPES[ctype]).tobytes()
    return array(ctype, f"{stem}_{hashlib.sha256(content).hexdigest()[:8]}", values, align)


def _integer(value: int) -> str:
    return "(-2147483647 - 1)" if value == -(1 << 31) else str(value)


def _number(value: float) -> str:
    """A float32's shortest text that reads back as the same float32."""
    text = str(np.float32(value))
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"
