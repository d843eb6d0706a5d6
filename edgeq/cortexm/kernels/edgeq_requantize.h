/* SPDX-License-Identifier: Apache-2.0
   Sums to codes, rounded as LiteRT's reference kernels round. */
#ifndef EDGEQ_REQUANTIZE_H
#define EDGEQ_REQUANTIZE_H

#include "edgeq_dsp.h"

/* sum * multiplier * 2^(shift - 31), multiplier of 0 or 2^30 to 2^31 - 1: rounded to integers twice, half up after the
   multiplication, then half away from zero after the right shift. A left shift loses what it shifts out, as there. */
EDGEQ_INLINE int32_t edgeq_rescale(int32_t sum, int32_t multiplier, int32_t shift)
{
  const int32_t left = shift > 0 ? shift : 0, right = shift > 0 ? 0 : -shift;
  const int64_t shifted = (int32_t)((uint32_t)sum << left);
  const int64_t product = (shifted * multiplier + (1 << 30)) >> 31;
  if (right == 0) {
    return (int32_t)product;
  }
  return (int32_t)((product + (product >> 63) + ((int64_t)1 << (right - 1))) >> right);
}

/* The parameters of a filter: bias, less what the input's zero point adds to every sum; multiplier and shift. */
enum { EDGEQ_BIAS, EDGEQ_MULTIPLIER, EDGEQ_SHIFT, EDGEQ_PARAMETERS };

#if defined(EDGEQ_DSP)

/* The same in 32 bits, and the zero point added: for sums that are below 2^30 in size with their bias, and shifts from
   -23 to -1. Limited to int8. */
EDGEQ_INLINE int32_t edgeq_quick_code(int32_t products, const int32_t *parameters, int32_t twice_zero_point_and_one)
{
  const int32_t right = -parameters[EDGEQ_SHIFT];
  const int32_t rounding = (int32_t)((uint32_t)twice_zero_point_and_one << right) >> 1;
  const uint32_t sum = (uint32_t)products + (uint32_t)parameters[EDGEQ_BIAS];
  const int32_t value = edgeq_smmulr((int32_t)(2 * sum), parameters[EDGEQ_MULTIPLIER]);
  return edgeq_ssat8((value + (value >> 31) + rounding) >> right);
}

#endif

/* sum * factor * 2^(-22 - shift), rounded once, half away from zero, limited to least and most. factor = high * 2^22 +
   low, high below 2^31 and low below 2^22: as many bits as a double has. shift is 1 to 62. */
EDGEQ_INLINE int32_t edgeq_rescale_once(int32_t sum, int32_t high, int32_t low, int32_t shift, int32_t least,
                                        int32_t most)
{
  const int64_t rest = (int64_t)sum * low - (sum < 0);
  const int64_t product = (int64_t)sum * high + (rest >> 22) + ((int64_t)1 << (shift - 1));
  const int64_t scaled = product >> shift;
  return (int32_t)(scaled < least ? least : scaled > most ? most : scaled);
}

#endif
