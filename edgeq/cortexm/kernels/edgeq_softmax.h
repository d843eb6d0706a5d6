/* SPDX-License-Identifier: Apache-2.0
   SOFTMAX over rows, in the fixed-point arithmetic of TensorFlow Lite's reference kernel (gemmlowp's fixedpoint.h). Qa.b
   is a number of a integer and b fractional bits. y may lie on x. */
#ifndef EDGEQ_SOFTMAX_H
#define EDGEQ_SOFTMAX_H

#include "edgeq.h"

/* The high half of 2ab, rounded half up; not for two INT32_MIN. */
EDGEQ_INLINE int32_t edgeq_multiply_high(int32_t a, int32_t b)
{
  return (int32_t)(((int64_t)a * b + (1 << 30)) >> 31);
}

/* value / 2^exponent of a value that is not negative, rounded half up. */
EDGEQ_INLINE int32_t edgeq_shift_right(int32_t value, int32_t exponent)
{
  return (int32_t)(((uint32_t)value + (1u << exponent >> 1)) >> exponent);
}

/* 1 / (1 + x) for x in [0, 1), Q0.31: three Newton-Raphson steps in Q2.29 from 48/17 - 32/17 * (1 + x) / 2. */
EDGEQ_INLINE int32_t edgeq_one_over_one_plus(int32_t x)
{
  const int32_t half_denominator = (int32_t)(((int64_t)x + INT32_MAX + 1) >> 1);
  int32_t estimate = 1515870810 + edgeq_multiply_high(half_denominator, -1010580540);
  for (int32_t step = 0; step < 3; step++) {
    const int32_t error = (1 << 29) - edgeq_multiply_high(half_denominator, estimate);
    const int32_t change = edgeq_multiply_high(estimate, error);
    estimate += change > INT32_MAX / 4 ? INT32_MAX : change < INT32_MIN / 4 ? INT32_MIN : change * 4;
  }
  return estimate > INT32_MAX / 2 ? INT32_MAX : estimate * 2;
}

/* exponentials: exp(-d * scale) in Q0.31 for differences of d codes to the row's largest; 0 from `known` on.
   A sum of 512 or more, which takes as many classes, leaves every share below half a code. */
EDGEQ_INLINE void edgeq_softmax(const int8_t *x, int8_t *y, const int32_t *exponentials, int32_t known, int32_t rows,
                                int32_t classes)
{
  for (int32_t row = 0; row < rows; row++) {
    int32_t largest = INT8_MIN;
    for (int32_t i = 0; i < classes; i++) {
      largest = x[i] > largest ? x[i] : largest;
    }
    uint32_t sum = 0; /* Q12.19 */
    for (int32_t i = 0; i < classes && (classes < 512 || sum < 512u << 19); i++) {
      const int32_t difference = largest - x[i];
      if (difference < known) {
        sum += (uint32_t)edgeq_shift_right(exponentials[difference], 12);
      }
    }
    int32_t zeros = 0;
    while ((sum << zeros) < 0x80000000u) {
      zeros++;
    }
    const int32_t fraction = edgeq_one_over_one_plus((int32_t)((sum << zeros) - 0x80000000u));
    const int32_t exponent = 12 - zeros + 31 - 8;
    for (int32_t i = 0; i < classes; i++) {
      const int32_t difference = largest - x[i];
      int32_t share = 0;
      if (difference < known && (classes < 512 || sum < 512u << 19)) {
        share = edgeq_shift_right(edgeq_multiply_high(exponentials[difference], fraction), exponent);
      }
      y[i] = (int8_t)edgeq_clamp(share + INT8_MIN, INT8_MIN, INT8_MAX);
    }
    x += classes;
    y += classes;
  }
}

#endif
