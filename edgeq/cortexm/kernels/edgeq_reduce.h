/* SPDX-License-Identifier: Apache-2.0
   MEAN and REDUCE_MAX over some axes of a tensor. */
#ifndef EDGEQ_REDUCE_H
#define EDGEQ_REDUCE_H

#include "edgeq.h"
#include "edgeq_requantize.h"

/* Two axes that stay and two over which is reduced, outer and inner, each with its size and its stride in x. */
typedef struct {
  int32_t outer, outer_stride, inner, inner_stride;
  int32_t over_outer, over_outer_stride, over_inner, over_inner_stride;
} edgeq_reduction;

EDGEQ_INLINE void edgeq_reduce_max(const int8_t *x, int8_t *y, const edgeq_reduction s)
{
  for (int32_t o = 0; o < s.outer; o++) {
    for (int32_t i = 0; i < s.inner; i++) {
      const int8_t *from = x + o * s.outer_stride + i * s.inner_stride;
      int32_t largest = INT8_MIN;
      for (int32_t r = 0; r < s.over_outer; r++) {
        for (int32_t c = 0; c < s.over_inner; c++) {
          const int32_t code = from[r * s.over_outer_stride + c * s.over_inner_stride];
          largest = code > largest ? code : largest;
        }
      }
      *y++ = (int8_t)largest;
    }
  }
}

/* offset: what is added to the sum of a mean's codes so that it counts from their zero point. The factor
   multiplier * 2^(shift - 31) divides by their number and brings to the output's scale. */
EDGEQ_INLINE void edgeq_mean(const int8_t *x, int8_t *y, const edgeq_reduction s, int32_t offset, int32_t multiplier,
                             int32_t shift, int32_t zero_point)
{
  for (int32_t o = 0; o < s.outer; o++) {
    for (int32_t i = 0; i < s.inner; i++) {
      const int8_t *from = x + o * s.outer_stride + i * s.inner_stride;
      int32_t sum = offset;
      for (int32_t r = 0; r < s.over_outer; r++) {
        for (int32_t c = 0; c < s.over_inner; c++) {
          sum += from[r * s.over_outer_stride + c * s.over_inner_stride];
        }
      }
      sum = edgeq_rescale(sum, multiplier, shift);
      *y++ = (int8_t)(edgeq_clamp(sum, INT8_MIN - zero_point, INT8_MAX - zero_point) + zero_point);
    }
  }
}

#endif
