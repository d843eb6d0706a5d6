/* SPDX-License-Identifier: Apache-2.0
   ADD, SUB and MUL of two tensors that broadcast. y may lie on an input of its own shape. */
#ifndef EDGEQ_ARITHMETIC_H
#define EDGEQ_ARITHMETIC_H

#include "edgeq.h"
#include "requantize.h"

/* Four axes of the output, and the stride of each in either input: 0 where that input repeats. */
typedef struct {
  int32_t size_0, size_1, size_2, size_3;
  int32_t left_0, left_1, left_2, left_3;
  int32_t right_0, right_1, right_2, right_3;
} edgeq_broadcast;

/* How either input is brought to the sum's scale and the sum to the output's: factors multiplier * 2^(shift - 31).
   right_sign: -1 where the right is subtracted. */
typedef struct {
  int32_t left_zero_point, left_multiplier, left_shift;
  int32_t right_zero_point, right_multiplier, right_shift, right_sign;
  int32_t multiplier, shift, zero_point, low, high;
} edgeq_sum_factors;

EDGEQ_INLINE int8_t edgeq_sum(int32_t left, int32_t right, const edgeq_sum_factors f)
{
  const int32_t a = edgeq_rescale((left - f.left_zero_point) * (1 << 20), f.left_multiplier, f.left_shift);
  const int32_t b = edgeq_rescale((right - f.right_zero_point) * (1 << 20), f.right_multiplier, f.right_shift);
  const int32_t scaled = edgeq_rescale(a + f.right_sign * b, f.multiplier, f.shift);
  return (int8_t)(edgeq_clamp(scaled, f.low - f.zero_point, f.high - f.zero_point) + f.zero_point);
}

EDGEQ_INLINE void edgeq_add(const int8_t *left, const int8_t *right, int8_t *y, const edgeq_broadcast s,
                            const edgeq_sum_factors f)
{
  for (int32_t a = 0; a < s.size_0; a++) {
    for (int32_t b = 0; b < s.size_1; b++) {
      for (int32_t c = 0; c < s.size_2; c++) {
        const int8_t *l = left + a * s.left_0 + b * s.left_1 + c * s.left_2;
        const int8_t *r = right + a * s.right_0 + b * s.right_1 + c * s.right_2;
        for (int32_t d = 0; d < s.size_3; d++) {
          *y++ = edgeq_sum(l[d * s.left_3], r[d * s.right_3], f);
        }
      }
    }
  }
}

typedef struct {
  int32_t left_zero_point, right_zero_point, multiplier, shift, zero_point, low, high;
} edgeq_product_factors;

EDGEQ_INLINE int8_t edgeq_product(int32_t left, int32_t right, const edgeq_product_factors f)
{
  const int32_t product = (left - f.left_zero_point) * (right - f.right_zero_point);
  const int32_t scaled = edgeq_rescale(product, f.multiplier, f.shift);
  return (int8_t)(edgeq_clamp(scaled, f.low - f.zero_point, f.high - f.zero_point) + f.zero_point);
}

EDGEQ_INLINE void edgeq_multiply(const int8_t *left, const int8_t *right, int8_t *y, const edgeq_broadcast s,
                                 const edgeq_product_factors f)
{
  for (int32_t a = 0; a < s.size_0; a++) {
    for (int32_t b = 0; b < s.size_1; b++) {
      for (int32_t c = 0; c < s.size_2; c++) {
        const int8_t *l = left + a * s.left_0 + b * s.left_1 + c * s.left_2;
        const int8_t *r = right + a * s.right_0 + b * s.right_1 + c * s.right_2;
        for (int32_t d = 0; d < s.size_3; d++) {
          *y++ = edgeq_product(l[d * s.left_3], r[d * s.right_3], f);
        }
      }
    }
  }
}

#endif
