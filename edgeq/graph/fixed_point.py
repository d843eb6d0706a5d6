"""The integer arithmetic of TensorFlow Lite's reference kernels, vectorised in int64.

Qa.b is a fixed-point number of a integer and b fractional bits. Inputs and results are int64 arrays of int32 values.
Source: gemmlowp's fixedpoint.h; TensorFlow Lite's kernels/internal/common.h and quantization_util.cc.
"""

from __future__ import annotations

import math

import numpy as np

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1


def quantize_multiplier(real: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """A non-negative real factor as multiplier * 2^(shift - 31), the multiplier in [2^30, 2^31).

    Factors below 2^-32 become 0, as in TensorFlow Lite's QuantizeMultiplier.
    """
    fraction, shift = np.frexp(np.asarray(real, np.float64))
    multiplier = np.floor(fraction * (1 << 31) + 0.5).astype(np.int64)
    carried = multiplier == 1 << 31
    multiplier, shift = np.where(carried, multiplier >> 1, multiplier), shift.astype(np.int64) + carried
    flushed = shift < -31
    return np.where(flushed, 0, multiplier), np.where(flushed, 0, shift)


def multiply_by_quantized_multiplier(x: np.ndarray, multiplier: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """x times a factor of quantize_multiplier, rounded twice: after the multiplication and after the right shift."""
    if np.any(shift > 0):
        x = wrap(x << np.maximum(shift, 0))
    return rounding_divide_by_power_of_two(doubling_high_multiply(x, multiplier), np.maximum(-shift, 0))


def doubling_high_multiply(a: np.ndarray, b: np.ndarray | int) -> np.ndarray:
    """The high half of 2ab, rounded half up: the product of two numbers of 31 fractional bits between them."""
    product = a * b
    product += 1 << 30
    product >>= 31
    return np.minimum(product, INT32_MAX)  # only INT32_MIN squared reaches 2^31


def rounding_divide_by_power_of_two(x: np.ndarray, exponent: np.ndarray | int) -> np.ndarray:
    """x / 2^exponent, rounded half away from zero."""
    exponent = np.asarray(exponent, np.int64)
    half = (1 << exponent) >> 1
    result = x + half
    result += (x >> 63) & -(exponent > 0).astype(np.int64)
    result >>= exponent
    return result


def exp_on_negative_values(x: np.ndarray) -> np.ndarray:
    """exp(x) in Q0.31 of x <= 0 in Q5.26."""
    quarter = 1 << 24
    remainder = (x & (quarter - 1)) - quarter
    result = _exp_within_a_quarter(remainder << 5)
    whole_quarters = remainder - x
    for exponent in range(-2, 5):
        factor = _fraction(math.exp(-(2.0**exponent)), 31)
        taken = whole_quarters & (1 << (26 + exponent)) != 0
        result = np.where(taken, doubling_high_multiply(result, factor), result)
    return np.where(x == 0, INT32_MAX, result)


def reciprocal(x: np.ndarray, integer_bits: int) -> tuple[np.ndarray, np.ndarray]:
    """1 / x of positive x with that many integer bits: a Q0.31 fraction and the exponent it still has to be divided by.

    1 / x = fraction / 2^exponent.
    """
    leading_zeros = 32 - np.frexp(x.astype(np.float64))[1].astype(np.int64)
    beyond_one = (x << leading_zeros) - (1 << 31)
    return _one_over_one_plus(beyond_one), integer_bits - leading_zeros


def wrap(x: np.ndarray) -> np.ndarray:
    """x modulo 2^32 as a signed int32: what overflow does to the kernels' accumulators."""
    return ((x + (1 << 31)) & ((1 << 32) - 1)) - (1 << 31)


def _exp_within_a_quarter(x: np.ndarray) -> np.ndarray:
    """exp(x) for x in [-1/4, 0), Q0.31: a Taylor series of four terms about -1/8."""
    middle = _fraction(math.exp(-1 / 8), 31)
    x = x + (1 << 28)
    x2 = doubling_high_multiply(x, x)
    x3 = doubling_high_multiply(x2, x)
    x4 = doubling_high_multiply(x2, x2)
    cubic = doubling_high_multiply(rounding_divide_by_power_of_two(x4, 2) + x3, _fraction(1 / 3, 31))
    series = x + rounding_divide_by_power_of_two(cubic + x2, 1)
    return middle + doubling_high_multiply(series, middle)


def _one_over_one_plus(x: np.ndarray) -> np.ndarray:
    """1 / (1 + x) for x in [0, 1), Q0.31: three Newton-Raphson steps in Q2.29."""
    half_denominator = (x + INT32_MAX + 1) >> 1
    estimate = _fraction(48 / 17, 29) + doubling_high_multiply(half_denominator, _fraction(-32 / 17, 29))
    for _ in range(3):
        error = (1 << 29) - doubling_high_multiply(half_denominator, estimate)
        estimate = estimate + _saturate(doubling_high_multiply(estimate, error) << 2)
    return _saturate(estimate << 1)


def _fraction(value: float, bits: int) -> int:
    return round(value * 2.0**bits)


def _saturate(x: np.ndarray) -> np.ndarray:
    return np.clip(x, INT32_MIN, INT32_MAX)
