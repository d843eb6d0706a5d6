/* SPDX-License-Identifier: Apache-2.0
   What convolutions share: the shapes of a layer, sums to codes, the patch of an output. Codes lie NHWC. */
#ifndef EDGEQ_MAP_H
#define EDGEQ_MAP_H

#include "requantize.h"

/* above, left: rows and columns of padding before the map, which hold zero_point_in, the code of 0.
   quick: 1 where every sum is below 2^30 in size and every factor from 2^-21 to below 1/2. */
typedef struct {
  int32_t height, width, channels;
  int32_t kernel_height, kernel_width, stride_down, stride_right, above, left;
  int32_t out_height, out_width, filters;
  int32_t zero_point_in, zero_point, low, high;
  int32_t quick;
} edgeq_map;

/* The parameters of a filter: bias, less what the input's zero point adds to every sum; multiplier and shift. */
enum { EDGEQ_BIAS, EDGEQ_MULTIPLIER, EDGEQ_SHIFT, EDGEQ_PARAMETERS };

EDGEQ_INLINE int8_t edgeq_code(edgeq_map map, uint32_t products, const int32_t *parameters)
{
  const int32_t sum = (int32_t)(products + (uint32_t)parameters[EDGEQ_BIAS]);
  const int32_t value = edgeq_rescale(sum, parameters[EDGEQ_MULTIPLIER], parameters[EDGEQ_SHIFT]);
  /* Limited before the zero point is added, so that nothing overflows. */
  return (int8_t)(edgeq_clamp(value, map.low - map.zero_point, map.high - map.zero_point) + map.zero_point);
}

/* What the kernel lies on at an output: kernel_height * kernel_width * channels codes, row by row. */
EDGEQ_INLINE void edgeq_patch(edgeq_map map, const int8_t *x, int32_t row, int32_t column, int8_t *patch)
{
  const int32_t top = row * map.stride_down - map.above, begin = column * map.stride_right - map.left;
  for (int32_t down = 0; down < map.kernel_height; down++) {
    const int32_t y = top + down;
    const int8_t *source = x + (y * map.width + begin) * map.channels;
    if (y >= 0 && y < map.height && begin >= 0 && begin + map.kernel_width <= map.width) {
      edgeq_copy(patch, source, map.kernel_width * map.channels);
    } else {
      for (int32_t right = 0; right < map.kernel_width; right++) {
        const int inside = y >= 0 && y < map.height && begin + right >= 0 && begin + right < map.width;
        for (int32_t channel = 0; channel < map.channels; channel++) {
          patch[right * map.channels + channel] =
              inside ? source[right * map.channels + channel] : (int8_t)map.zero_point_in;
        }
      }
    }
    patch += map.kernel_width * map.channels;
  }
}

#endif
