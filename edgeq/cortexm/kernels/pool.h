/* SPDX-License-Identifier: Apache-2.0
   AVERAGE_POOL_2D and MAX_POOL_2D of one map, NHWC. Without padding y may lie on x: an output is written after the last
   input that shares its place has been read. */
#ifndef EDGEQ_POOL_H
#define EDGEQ_POOL_H

#include "edgeq.h"

/* A map, the windows that go over it, and the map of what they give; above, left: padding, which belongs to no window. */
typedef struct {
  int32_t height, width, channels;
  int32_t window_height, window_width, stride_height, stride_width, above, left;
  int32_t rows, columns;
} edgeq_pool_shape;

/* The part of a window that lies inside the map: rows top to bottom - 1, columns begin to end - 1, of the map. */
typedef struct {
  int32_t top, bottom, begin, end;
} edgeq_pool_window;

EDGEQ_INLINE edgeq_pool_window edgeq_pool_at(const edgeq_pool_shape s, int32_t row, int32_t column)
{
  const int32_t top = row * s.stride_height - s.above;
  const int32_t begin = column * s.stride_width - s.left;
  const int32_t bottom = top + s.window_height;
  const int32_t end = begin + s.window_width;
  const edgeq_pool_window inside = {
    top > 0 ? top : 0, bottom < s.height ? bottom : s.height,
    begin > 0 ? begin : 0, end < s.width ? end : s.width
  };
  return inside;
}

/* The largest code of each window and channel, limited to low..high. */
EDGEQ_INLINE void edgeq_max_pool(const int8_t *x, int8_t *y, const edgeq_pool_shape s, int32_t low, int32_t high)
{
  for (int32_t row = 0; row < s.rows; row++) {
    for (int32_t column = 0; column < s.columns; column++) {
      const edgeq_pool_window w = edgeq_pool_at(s, row, column);
      for (int32_t channel = 0; channel < s.channels; channel++) {
        int32_t largest = INT8_MIN;
        for (int32_t r = w.top; r < w.bottom; r++) {
          for (int32_t c = w.begin; c < w.end; c++) {
            const int32_t code = x[(r * s.width + c) * s.channels + channel];
            largest = code > largest ? code : largest;
          }
        }
        *y++ = (int8_t)edgeq_clamp(largest, low, high);
      }
    }
  }
}

/* The mean code of each window and channel, rounded half away from 0, limited to low..high. */
EDGEQ_INLINE void edgeq_average_pool(const int8_t *x, int8_t *y, const edgeq_pool_shape s, int32_t low, int32_t high)
{
  for (int32_t row = 0; row < s.rows; row++) {
    for (int32_t column = 0; column < s.columns; column++) {
      const edgeq_pool_window w = edgeq_pool_at(s, row, column);
      const int32_t count = (w.bottom - w.top) * (w.end - w.begin);
      for (int32_t channel = 0; channel < s.channels; channel++) {
        int32_t sum = 0;
        for (int32_t r = w.top; r < w.bottom; r++) {
          for (int32_t c = w.begin; c < w.end; c++) {
            sum += x[(r * s.width + c) * s.channels + channel];
          }
        }
        sum = sum < 0 ? (sum - count / 2) / count : (sum + count / 2) / count;
        *y++ = (int8_t)edgeq_clamp(sum, low, high);
      }
    }
  }
}

#endif
