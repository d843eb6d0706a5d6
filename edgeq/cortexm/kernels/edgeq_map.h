/* SPDX-License-Identifier: Apache-2.0
   What convolutions share: the shapes of a layer, sums to codes, the patch of an output. Codes lie NHWC. */
#ifndef EDGEQ_MAP_H
#define EDGEQ_MAP_H

#include "edgeq_requantize.h"

/* dilation: how many rows (down) and columns (right) the taps of a kernel are apart. above, left: rows and columns of
   padding before the map, which hold zero_point_in, the code of 0.
   quick: 1 where edgeq_quick_code is right for every filter. */
typedef struct {
  int32_t height, width, channels;
  int32_t kernel_height, kernel_width, stride_down, stride_right, dilation_down, dilation_right, above, left;
  int32_t out_height, out_width, filters;
  int32_t zero_point_in, zero_point, low, high;
  int32_t quick;
} edgeq_map;

EDGEQ_INLINE int8_t edgeq_code(edgeq_map map, uint32_t products, const int32_t *parameters)
{
  const int32_t sum = (int32_t)(products + (uint32_t)parameters[EDGEQ_BIAS]);
  const int32_t value = edgeq_rescale(sum, parameters[EDGEQ_MULTIPLIER], parameters[EDGEQ_SHIFT]);
  /* Limited before the zero point is added, so that nothing overflows. */
  return (int8_t)(edgeq_clamp(value, map.low - map.zero_point, map.high - map.zero_point) + map.zero_point);
}

/* Whether every tap of a kernel's row lies in the map, one beside the other. */
EDGEQ_INLINE int edgeq_row_inside(edgeq_map map, int32_t y, int32_t begin)
{
  return map.dilation_right == 1 && y >= 0 && y < map.height && begin >= 0 && begin + map.kernel_width <= map.width;
}

EDGEQ_INLINE int edgeq_inside(edgeq_map map, int32_t y, int32_t x)
{
  return y >= 0 && y < map.height && x >= 0 && x < map.width;
}

/* What the kernel lies on at an output: kernel_height * kernel_width * channels codes, row by row. */
EDGEQ_INLINE void edgeq_patch(edgeq_map map, const int8_t *x, int32_t row, int32_t column, int8_t *patch)
{
  const int32_t begin = column * map.stride_right - map.left;
  for (int32_t down = 0; down < map.kernel_height; down++) {
    const int32_t y = row * map.stride_down - map.above + down * map.dilation_down;
    if (edgeq_row_inside(map, y, begin)) {
      edgeq_copy(patch, x + (y * map.width + begin) * map.channels, map.kernel_width * map.channels);
      patch += map.kernel_width * map.channels;
      continue;
    }
    for (int32_t right = 0; right < map.kernel_width; right++, patch += map.channels) {
      const int32_t across = begin + right * map.dilation_right;
      if (edgeq_inside(map, y, across)) {
        edgeq_copy(patch, x + (y * map.width + across) * map.channels, map.channels);
      } else {
        edgeq_fill(patch, map.zero_point_in, map.channels);
      }
    }
  }
}

/* Codes that kernels limited to int8 alone, limited to what an activation lets through. */
EDGEQ_INLINE void edgeq_limit(edgeq_map map, int8_t *y)
{
  if (map.low > -128 || map.high < 127) {
    for (int32_t n = map.out_height * map.out_width * map.filters; n > 0; n--, y++) {
      *y = (int8_t)edgeq_clamp(*y, map.low, map.high);
    }
  }
}

#endif
