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

Content = bytes


@dataclass(frozen=True)
class Array:
    """A constant: its name, its C type, its values as that type's bytes, and the alignment it asks for beyond it."""

    name: str
    ctype: str
    content: Content
    align: int = 0

    @property
    def bytes(self) -> int:
        """How large it is."""
        return len(self.content)

    @property
    def declaration(self) -> str:
        """Its declaration with all its values: some four characters a byte, so made only when it is asked for."""
        values = np.frombuffer(self.content, _DTYPES[self.ctype])
        write = number if values.dtype.kind == "f" else _integer
        rows = (values[start : start + _PER_LINE].tolist() for start in range(0, len(values), _PER_LINE))
        lines = ",\n  ".join(", ".join(map(write, row)) for row in rows)
        place = f"EDGEQ_ALIGNED({self.align}) " if self.align else ""
        return f"static const {place}{self.ctype} {self.name}[{len(values)}] = {{\n  {lines}\n}};"


def array(ctype: str, name: str, values: np.ndarray, align: int = 0) -> Array:
    """The values, in C order, as a one-dimensional array of a C type.

    ctype: int8_t to uint32_t, or float. align: bytes at a multiple of which it shall begin, where the type's own
    alignment is not enough. The values must fit the type.
    """
    flat = np.ascontiguousarray(values).ravel()
    cast = flat.astype(_DTYPES[ctype])
    assert flat.size and np.array_equal(cast, flat), f"{name}: values that are no {ctype}"
    return Array(name, ctype, cast.tobytes(), align)


def shared(ctype: str, stem: str, values: np.ndarray, align: int = 0) -> Array:
    """`array` named after its content, so that layers with the same values have one array between them."""
    content = np.ascontiguousarray(values).astype(_DTYPES[ctype]).tobytes()
    return array(ctype, f"{stem}_{hashlib.sha256(content).hexdigest()[:8]}", values, align)


def number(value: float) -> str:
    """A float32 in C: the shortest text that reads back as the same float32. It must be finite."""
    return f"{np.float32(value)!s}f"


def _integer(value: int) -> str:
    return "(-2147483647 - 1)" if value == -(1 << 31) else str(value)
