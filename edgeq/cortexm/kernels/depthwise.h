/* SPDX-License-Identifier: Apache-2.0
   DEPTHWISE_CONV_2D on int8 codes. */
#ifndef EDGEQ_DEPTHWISE_H
#define EDGEQ_DEPTHWISE_H

#include "dsp.h"
#include "map.h"

/* weights: (kernel_height, kernel_width, filters). Filter n reads channel n / (filters / channels). */
EDGEQ_INLINE void edgeq_depthwise_portable(edgeq_map map, const int8_t *x, const int8_t *weights,
                                           const int32_t *parameters, int8_t *y)
{
  const int32_t multiplier = map.filters / map.channels;
  for (int32_t row = 0; row < map.out_height; row++) {
    for (int32_t column = 0; column < map.out_width; column++) {
      for (int32_t filter = 0; filter < map.filters; filter++) {
        const int8_t *weight = weights + filter;
        uint32_t sum = 0;
        for (int32_t down = 0; down < map.kernel_height; down++) {
          const int32_t from_top = row * map.stride_down - map.above + down * map.dilation_down;
          for (int32_t right = 0; right < map.kernel_width; right++, weight += map.filters) {
            const int32_t across = column * map.stride_right - map.left + right * map.dilation_right;
            const int32_t place = (from_top * map.width + across) * map.channels + filter / multiplier;
            sum += (uint32_t)(*weight * (edgeq_inside(map, from_top, across) ? x[place] : map.zero_point_in));
          }
        }
        *y++ = edgeq_code(map, sum, parameters + filter * EDGEQ_PARAMETERS);
      }
    }
  }
}

EDGEQ_INLINE void edgeq_depthwise(edgeq_map map, const int8_t *x, const int8_t *weights, const int32_t *parameters,
                                  int8_t *y)
{
  edgeq_depthwise_portable(map, x, weights, parameters, y);
}

#endif
