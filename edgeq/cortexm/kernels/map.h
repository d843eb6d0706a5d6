/* SPDX-License-Identifier: Apache-2.0
   What convolutions share: the shapes of a layer, sums to codes, the patch of an output. Codes lie NHWC. */
#ifndef EDGEQ_MAP_H
#define EDGEQ_MAP_H

#include "dsp.h"
#include "requantize.h"

/* dilation: how many rows (down) and columns (right) the taps of a kernel are apart. above, left: rows and columns of padding before the map, which hold zero_point_in, the code of 0.
   quick: 1 where every sum is below 2^30 in size and every factor from 2^-21 to below 1/2. */
typedef struct {
  int32_t height, width, channels;
  int32_t kernel_height, kernel_width, stride_down, stride_right, dilation_down, dilation_right, above, left;
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

#if defined(EDGEQ_DSP)

/* Four sums of a filter to codes at y and at three places behind it. */
EDGEQ_INLINE void edgeq_four_codes(edgeq_map map, const int32_t *sums, const int32_t *parameters, const int32_t *places,
                                   int8_t *y)
{
  if (!map.quick) {
    for (int32_t i = 0; i < 4; i++) {
      y[places[i]] = edgeq_code(map, (uint32_t)sums[i], parameters);
    }
    return;
  }
  const uint32_t bias = (uint32_t)parameters[EDGEQ_BIAS];
  const int32_t right = -parameters[EDGEQ_SHIFT], multiplier = parameters[EDGEQ_MULTIPLIER];
  const int32_t rounding = (1 << (right - 1)) + (int32_t)((uint32_t)map.zero_point << right);
#define EDGEQ_QUICK_CODE(i)                                                                       \
  do {                                                                                            \
    int32_t value = edgeq_smmulr((int32_t)(2 * ((uint32_t)sums[i] + bias)), multiplier);          \
    value = (value + (value >> 31) + rounding) >> right;                                          \
    y[places[i]] = (int8_t)edgeq_limit(value, map.low, map.high);                                 \
  } while (0)
  EDGEQ_QUICK_CODE(0);
  EDGEQ_QUICK_CODE(1);
  EDGEQ_QUICK_CODE(2);
  EDGEQ_QUICK_CODE(3);
}

#endif

#endif
