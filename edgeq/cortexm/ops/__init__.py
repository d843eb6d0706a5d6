"""The operators that become C, each in a module of its own."""

from __future__ import annotations

from edgeq.cortexm.ops.code import Emitter
from edgeq.cortexm.ops.reshape import reshape
from edgeq.graph import ir

EMITTERS: dict[str, Emitter] = {
    ir.Reshape.kind: reshape,
}
"""By the operator's kind: what makes its C."""
