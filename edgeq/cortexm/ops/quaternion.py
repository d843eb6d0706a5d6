"""Convolutions and dense layers of quaternion weights in C: r, i, j, k are stored once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgeq.cortexm.ops.arrays import array
from edgeq.cortexm.ops.code import Code
from edgeq.cortexm.ops.shapes import in_place, layer_literal, map_literal
from edgeq.cortexm.ops.sums import factors_once, folded_bias, rescaling
from edgeq.graph import ir
from edgeq.graph.fixed_point import wrap
from edgeq.nets.hamilton import COMPONENT, SIGN

_STORED = 0, 2, 1, 3
"""r, j, i, k: so SXTB16 widens them to the pairs (r, i) and (j, k)."""


@dataclass(frozen=True)
class Quaternions:
    """Weights that are a block kernel but for the signs of its rows.

    components: int8 codes (4, out / 4, in / 4, places), r, i, j, k. signs: 1 or -1 (out,).
    """

    components: np.ndarray
    signs: np.ndarray


def recognise(weight: np.ndarray) -> Quaternions | None:
    """The quaternions that int8 codes (out, places, in) are made of, channels component-major; None where of none.

    Batch norm may turn a row's sign: its codes are then those of the block kernel, negated.
    """
    out, places, channels = weight.shape
    if out % 4 or channels % 4:
        return None
    # (row, filter, column, in / 4, places): rows and columns of the Hamilton product's matrix.
    blocks = weight.astype(np.int16).transpose(0, 2, 1).reshape(4, out // 4, 4, channels // 4, places)
    components = np.empty((4, out // 4, channels // 4, places), np.int16)
    for column, (part, sign) in enumerate(zip(COMPONENT[0], SIGN[0], strict=True)):
        components[part] = sign * blocks[0, :, column]
    signs = np.ones((4, out // 4), np.int64)
    for row in range(1, 4):
        parts = components[np.array(COMPONENT[row])] * np.array(SIGN[row], np.int16)[:, None, None, None]
        expected = parts.swapaxes(0, 1)
        same, turned = ((blocks[row] == way * expected).all(axis=(1, 2, 3)) for way in (1, -1))
        if not (same | turned).all():
            return None
        signs[row] = np.where(same, 1, -1)
    if components.max() > 127:
        return None
    return Quaternions(components.astype(np.int8), signs.reshape(out))


def quaternion_convolution(op: ir.Conv2D, graph: ir.Graph, name: str, found: Quaternions) -> Code:
    """CONV_2D of weights that `recognise` found to be quaternions."""
    scaling = rescaling(op, graph)
    rows = np.concatenate([scaling.parameters, found.signs[:, None]], axis=1)
    by_filter = rows.reshape(4, -1, rows.shape[1]).swapaxes(0, 1)
    constants = (
        array("int8_t", f"{name}_weights", _stored(found), align=4),
        array("int32_t", f"{name}_parameters", by_filter),
    )
    outputs = math.prod(graph.tensors[op.output].shape[1:3])
    steps = math.prod(found.components.shape[2:])
    return Code(
        f"edgeq_quaternion_convolution({map_literal(op, graph, scaling.quick)},\n"
        f"                             x0, {name}_weights, {name}_parameters, scratch, y);",
        constants,
        ("edgeq_quaternion.h",),
        scratch=16 * steps + 2 * len(found.signs) * (outputs % 2),
        in_place=(0,) if in_place(op, graph) else (),
    )


def quaternion_dense(op: ir.FullyConnected, graph: ir.Graph, name: str, found: Quaternions) -> Code:
    """FULLY_CONNECTED of weights that `recognise` found to be quaternions."""
    factors = factors_once(op, graph)
    constants = (
        array("int8_t", f"{name}_weights", _stored(found), align=4),
        array("int32_t", f"{name}_bias", wrap(folded_bias(op, graph))),
        array("int8_t", f"{name}_signs", found.signs),
        array("int32_t", f"{name}_factors", factors),
    )
    return Code(
        f"edgeq_quaternion_dense({layer_literal(op, graph, len(factors) > 1)},\n"
        f"                       {found.components.shape[3]}, x0, {name}_weights, {name}_bias, {name}_signs,\n"
        f"                       {name}_factors, y);",
        constants,
        ("edgeq_quaternion.h",),
    )


def _stored(found: Quaternions) -> np.ndarray:
    """Weights as edgeq_quaternion.h reads them: (filters / 4, places, channels / 4, 4)."""
    return found.components[np.array(_STORED)].transpose(1, 3, 2, 0)
