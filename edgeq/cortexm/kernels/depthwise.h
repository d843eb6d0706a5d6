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
      const int32_t top = row * map.stride_down - map.above, begin = column * map.stride_right - map.left;
      for (int32_t filter = 0; filter < map.filters; filter++) {
        uint32_t sum = 0;
        for (int32_t down = 0; down < map.kernel_height; down++) {
          for (int32_t right = 0; right < map.kernel_width; right++) {
            const int32_t v = top + down, h = begin + right;
            const int inside = v >= 0 && v < map.height && h >= 0 && h < map.width;
            const int32_t code =
                inside ? x[(v * map.width + h) * map.channels + filter / multiplier] : map.zero_point_in;
            sum += (uint32_t)(code * weights[(down * map.kernel_width + right) * map.filters + filter]);
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
