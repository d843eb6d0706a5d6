from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeq.graph import fixed_point

int32s = st.integers(-(2**31), 2**31 - 1)


def half_away(value: Fraction) -> int:
    return math.copysign(1, value) * math.floor(abs(value) + Fraction(1, 2))


@given(int32s, int32s)
def test_high_multiplication_rounds_half_up_and_saturates(a, b):
    expected = min(math.floor(Fraction(a * b, 2**31) + Fraction(1, 2)), 2**31 - 1)
    assert fixed_point.doubling_high_multiply(np.array([a]), b)[0] == expected


@given(int32s, st.integers(0, 31))
def test_division_by_a_power_of_two_rounds_half_away(x, exponent):
    assert fixed_point.rounding_divide_by_power_of_two(np.array([x]), exponent)[0] == half_away(
        Fraction(x, 2**exponent)
    )


@given(st.floats(2.0**-31, 2.0**20))
def test_a_multiplier_has_31_bits(real):
    multiplier, shift = fixed_point.quantize_multiplier(real)
    assert 1 << 30 <= multiplier < 1 << 31
    assert abs(int(multiplier) * 2.0 ** (int(shift) - 31) / real - 1) <= 2.0**-31


def test_multipliers_at_the_edges():
    multiplier, shift = fixed_point.quantize_multiplier(np.array([0.0, 2.0**-40, np.nextafter(1, 0), 1.0]))
    assert multiplier.tolist() == [0, 0, 1 << 30, 1 << 30]
    assert shift.tolist() == [0, 0, 1, 1]


@given(st.integers(-(2**20), 2**20), st.floats(2.0**-20, 0.99))
def test_rescaling_is_within_a_rounding_of_the_product(x, real):
    scaled = fixed_point.multiply_by_quantized_multiplier(np.array([x]), *fixed_point.quantize_multiplier(real))
    assert abs(scaled[0] - x * real) <= 1


def test_exponential_of_negative_values():
    x = -np.geomspace(1, 2**31 - 1, 5000).astype(np.int64)
    expected = np.exp(x / 2**26)
    np.testing.assert_allclose(fixed_point.exp_on_negative_values(x) / 2**31, expected, atol=3e-7)
    assert fixed_point.exp_on_negative_values(np.array([0]))[0] == 2**31 - 1


def test_reciprocal():
    x = np.geomspace(2**19, 2**30, 5000).astype(np.int64)
    fraction, exponent = fixed_point.reciprocal(x, 12)
    np.testing.assert_allclose(fraction / 2.0**31 / 2.0**exponent, 2**19 / x, rtol=1e-7)


@given(st.integers(-(2**40), 2**40))
def test_wrapping_is_what_int32_does(x):
    assert fixed_point.wrap(np.array([x]))[0] == np.array([x]).astype(np.int32)[0]
