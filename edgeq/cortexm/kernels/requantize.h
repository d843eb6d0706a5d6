/* SPDX-License-Identifier: Apache-2.0
   Sums to codes, rounded as LiteRT's reference kernels round. */
#ifndef EDGEQ_REQUANTIZE_H
#define EDGEQ_REQUANTIZE_H

#include "edgeq.h"

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

/* sum * factor * 2^(-22 - shift), rounded once, half away from zero. factor = high * 2^22 + low, high below 2^31 and low
   below 2^22, as many bits as a double has; shift is 1 to 63. */
EDGEQ_INLINE int32_t edgeq_rescale_once(int32_t sum, int32_t high, int32_t low, int32_t shift, int32_t least, int32_t most)
{
  const int64_t rest = (int64_t)sum * low - (sum < 0);
  const int64_t product = (int64_t)sum * high + (rest >> 22) + ((int64_t)1 << (shift - 1));
  const int64_t scaled = product >> shift;
  return (int32_t)(scaled < least ? least : scaled > most ? most : scaled);
}

#endif
