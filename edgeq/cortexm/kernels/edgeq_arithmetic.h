/* SPDX-License-Identifier: Apache-2.0
   ADD, SUB and MUL of two tensors that broadcast. y may lie on an input of its own shape. */
#ifndef EDGEQ_ARITHMETIC_H
#define EDGEQ_ARITHMETIC_H

#include "edgeq.h"
#include "edgeq_requantize.h"

/* Four axes of the output, and the stride of each in either input: 0 where that input repeats. */
typedef struct {
  int32_t size_0, size_1, size_2, size_3;
  int32_t left_0, left_1, left_2, left_3;
  int32_t right_0, right_1, right_2, right_3;
} edgeq_broadcast;

/* `edgeq_rescale` in 32 bits, of a value below 2^29 in size, given as twice the value, and a shift of -31 to 0. */
EDGEQ_INLINE int32_t edgeq_rescale_small(int32_t twice, int32_t multiplier, int32_t shift)
{
#if defined(EDGEQ_DSP)
  const int32_t value = edgeq_smmulr(twice, multiplier);
#else
  const int32_t value = (int32_t)(((int64_t)twice * multiplier + ((int64_t)1 << 31)) >> 32);
#endif
  return shift == 0 ? value : (value + (value >> 31) + (1 << (-shift - 1))) >> -shift;
}

/* A code of a value in steps of the output's scale. */
EDGEQ_INLINE int8_t edgeq_limited(int32_t value, int32_t zero_point, int32_t low, int32_t high)
{
#if defined(EDGEQ_DSP)
  if (low == INT8_MIN && high == INT8_MAX) {
    return (int8_t)edgeq_ssat8(value + zero_point);
  }
#endif
  return (int8_t)edgeq_clamp(value + zero_point, low, high);
}

/* How either input is brought to the sum's scale and the sum to the output's: factors multiplier * 2^(shift - 31), none
   of which is above 1. right_sign: -1 where the right is subtracted. */
typedef struct {
  int32_t left_zero_point, left_multiplier, left_shift;
  int32_t right_zero_point, right_multiplier, right_shift, right_sign;
  int32_t multiplier, shift, zero_point, low, high;
} edgeq_sum_factors;

/* Inputs get 20 more bits; the larger scale's factor is 1/2, and exact. */
EDGEQ_INLINE int32_t edgeq_summand(int32_t code, int32_t zero_point, int32_t multiplier, int32_t shift)
{
  if (multiplier == 1 << 30 && shift == 0) {
    return (code - zero_point) * (1 << 19);
  }
  return edgeq_rescale_small((code - zero_point) * (1 << 21), multiplier, shift);
}

EDGEQ_INLINE int8_t edgeq_sum_code(int32_t left, int32_t right, const edgeq_sum_factors f)
{
  const int32_t a = edgeq_summand(left, f.left_zero_point, f.left_multiplier, f.left_shift);
  const int32_t b = edgeq_summand(right, f.right_zero_point, f.right_multiplier, f.right_shift);
  const int32_t value = edgeq_rescale_small((a + f.right_sign * b) * 2, f.multiplier, f.shift);
  return edgeq_limited(value, f.zero_point, f.low, f.high);
}

EDGEQ_INLINE void edgeq_add(const int8_t *left, const int8_t *right, int8_t *y, const edgeq_broadcast s,
                            const edgeq_sum_factors f)
{
  for (int32_t a = 0; a < s.size_0; a++) {
    for (int32_t b = 0; b < s.size_1; b++) {
      for (int32_t c = 0; c < s.size_2; c++) {
        const int8_t *l = left + a * s.left_0 + b * s.left_1 + c * s.left_2;
        const int8_t *r = right + a * s.right_0 + b * s.right_1 + c * s.right_2;
        EDGEQ_SEVERAL
        for (int32_t d = 0; d < s.size_3; d++) {
          *y++ = edgeq_sum_code(l[d * s.left_3], r[d * s.right_3], f);
        }
      }
    }
  }
}

typedef struct {
  int32_t left_zero_point, right_zero_point, multiplier, shift, zero_point, low, high;
} edgeq_product_factors;

EDGEQ_INLINE int8_t edgeq_product_code(int32_t left, int32_t right, const edgeq_product_factors f)
{
  const int32_t product = (left - f.left_zero_point) * (right - f.right_zero_point);
  if (f.shift <= 0) {
    return edgeq_limited(edgeq_rescale_small(product * 2, f.multiplier, f.shift), f.zero_point, f.low, f.high);
  }
  const int32_t value = edgeq_rescale(product, f.multiplier, f.shift);
  /* Limited before the zero point is added, so that nothing overflows. */
  return (int8_t)(edgeq_clamp(value, f.low - f.zero_point, f.high - f.zero_point) + f.zero_point);
}

EDGEQ_INLINE void edgeq_multiply(const int8_t *left, const int8_t *right, int8_t *y, const edgeq_broadcast s,
                                 const edgeq_product_factors f)
{
  for (int32_t a = 0; a < s.size_0; a++) {
    for (int32_t b = 0; b < s.size_1; b++) {
      for (int32_t c = 0; c < s.size_2; c++) {
        const int8_t *l = left + a * s.left_0 + b * s.left_1 + c * s.left_2;
        const int8_t *r = right + a * s.right_0 + b * s.right_1 + c * s.right_2;
        EDGEQ_SEVERAL
        for (int32_t d = 0; d < s.size_3; d++) {
          *y++ = edgeq_product_code(l[d * s.left_3], r[d * s.right_3], f);
        }
      }
    }
  }
}

#endif
