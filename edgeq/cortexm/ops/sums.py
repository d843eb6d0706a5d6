"""What convolutions and dense layers share: weights as kernels read them, and how sums become codes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeq.cortexm.ops.code import activation_limits, scale, zero_point
from edgeq.errors import InputError
from edgeq.graph import ir
from edgeq.graph.fixed_point import multiply_by_quantized_multiplier, quantize_multiplier, wrap

_QUICK_SUM = 1 << 30
_QUICK_SHIFTS = -23, -1
_SUM_LIMIT = 1 << 31
_CONSTANT_REACH = 1 << 19
_FACTOR_BITS, _LOW_BITS = 53, 22
_SMALLEST_FACTOR = 2.0**-32


@dataclass(frozen=True)
class Rescaling:
    """parameters: int32 (filters, 3): bias, multiplier and shift. quick: as `edgeq_map` in edgeq_map.h has it."""

    parameters: np.ndarray
    quick: bool


def rescaling(op: ir.Conv2D | ir.DepthwiseConv2D, graph: ir.Graph) -> Rescaling:
    """How a convolution's sums over the codes themselves become codes: the zero point is in the bias.

    Filters that give one code whatever the input, as training leaves many with nothing but a bias, are given parameters
    that give it too but are in the common range.
    """
    multiplier, shift = quantize_multiplier(_factors(op, graph))
    bias = folded_bias(op, graph)
    parameters = np.stack(np.broadcast_arrays(wrap(bias), multiplier, shift), axis=1)
    weight = _constant(graph, op.inputs[1]).reshape(len(bias), -1)
    reach = (128 * np.abs(weight)).sum(axis=1)
    quick = np.abs(bias) + reach < _QUICK_SUM
    quick &= (parameters[:, 2] >= _QUICK_SHIFTS[0]) & (parameters[:, 2] <= _QUICK_SHIFTS[1])
    low, high = (limit - zero_point(graph, op.output) for limit in activation_limits(graph, op))
    ends = [
        np.clip(multiply_by_quantized_multiplier(bias + way * reach, parameters[:, 1], parameters[:, 2]), low, high)
        for way in (-1, 1)
    ]
    constant = ~quick & (ends[0] == ends[1]) & (reach < _CONSTANT_REACH) & (np.abs(bias) + reach < _SUM_LIMIT)
    constant &= parameters[:, 2] <= 0
    codes = ends[0][constant]
    parameters[constant] = np.stack(
        [codes << 21, np.full_like(codes, 1 << 30), np.full_like(codes, -20)], axis=1
    )  # a factor of 2^-21, which the weights are too small to be seen through
    return Rescaling(parameters, bool((quick | constant).all()))


def factors_once(op: ir.FullyConnected, graph: ir.Graph) -> np.ndarray:
    """A dense layer's factors as `edgeq_rescale_once` takes them: int32 values (1 or outputs, 3).

    The reference multiplies in double precision, which rounds the product before it is rounded to an integer. The
    kernel does not: so a factor may be off by a few units of its 53 bits, such that both agree for every sum.
    Raises InputError where no such factor is found.
    """
    zero = zero_point(graph, op.output)
    low, high = (limit - zero for limit in activation_limits(graph, op))
    return np.array([_factor_once(op, graph, float(factor), low, high) for factor in _factors(op, graph)])


def folded_bias(op: ir.Op, graph: ir.Graph) -> np.ndarray:
    """Bias less zero point times the sum of a filter's weights, int64 (filters,): padding holds the zero point."""
    weight, bias = (_constant(graph, name) for name in op.inputs[1:])
    return bias - zero_point(graph, op.inputs[0]) * weight.reshape(len(weight), -1).sum(axis=1)


def in_pairs(weight: np.ndarray) -> np.ndarray:
    """Weights (filters, codes) in the order of edgeq_pairs.h: int8 (filters / 2, steps, 2, 2), filled up with zeros."""
    filters, codes = weight.shape
    padded = np.zeros(((filters + 1) // 2 * 2, (codes + 3) // 4 * 4), np.int8)
    padded[:filters, :codes] = weight
    # Four codes are two steps: 0 and 2, 1 and 3.
    ordered = padded.reshape(len(padded) // 2, 2, -1, 2, 2).transpose(0, 2, 4, 3, 1)
    steps = ordered.reshape(len(ordered), -1, 2, 2)
    return steps[:, :-1] if codes % 4 == 1 else steps


def _factors(op: ir.Op, graph: ir.Graph) -> np.ndarray:
    """Real value of a step of the sums in steps of the output: float64 (1,) or (filters,)."""
    weight = graph.tensors[op.inputs[1]].quantization
    assert weight is not None
    return scale(graph, op.inputs[0]) * weight.scale.astype(np.float64) / scale(graph, op.output)


def _factor_once(op: ir.Op, graph: ir.Graph, factor: float, low: int, high: int) -> tuple[int, int, int]:
    if factor < _SMALLEST_FACTOR:
        return 0, 0, 1
    fraction, exponent = np.frexp(factor)
    exact, shift = int(fraction * (1 << _FACTOR_BITS)), _FACTOR_BITS - int(exponent)
    edges = _edges(factor, low, high)
    short = (exact + (1 << _LOW_BITS - 1)) >> _LOW_BITS << _LOW_BITS  # with nothing in its low part: one product less
    for candidate in (short, *(exact + step for step in (0, 1, -1, 2, -2))):
        if candidate < 1 << _FACTOR_BITS and all(_rounded(n, candidate, shift) == _reference(n, factor) for n in edges):
            return *divmod(candidate, 1 << _LOW_BITS), shift - _LOW_BITS
    raise InputError(f"{graph.name}: {op.kind} {op.output!r}: factor {factor} of its scales can't be had in integers")


def _edges(factor: float, low: int, high: int) -> list[int]:
    """The sums on both sides of every place where the output's code changes."""
    found = []
    for code in range(low, high + 2):
        middle = int(np.clip((code - 0.5) / factor, -(1 << 31), (1 << 31) - 1))
        found += [total for total in range(middle - 2, middle + 3) if -(1 << 31) <= total < 1 << 31]
    return found


def _reference(total: int, factor: float) -> int:
    return int(np.trunc(total * factor + np.copysign(0.5, total)))


def _rounded(total: int, factor: int, shift: int) -> int:
    return (total * factor - (total < 0) + (1 << (shift - 1))) >> shift


def _constant(graph: ir.Graph, name: str) -> np.ndarray:
    data = graph.tensors[name].data
    assert data is not None
    return data.astype(np.int64)
