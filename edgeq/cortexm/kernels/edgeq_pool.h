/* SPDX-License-Identifier: Apache-2.0
   AVERAGE_POOL_2D and MAX_POOL_2D of one map, NHWC. Without padding y may lie on x: an output is written after the last
   input that shares its place has been read. */
#ifndef EDGEQ_POOL_H
#define EDGEQ_POOL_H

#include "edgeq_dsp.h"

/* A map, the windows that go over it, and the map of what they give; above, left: padding, of which a mean takes nothing
   and a maximum the code `outside`. */
typedef struct {
  int32_t height, width, channels;
  int32_t window_height, window_width, stride_height, stride_width, above, left, outside;
  int32_t rows, columns;
} edgeq_pool_shape;

/* The part of a window that lies inside the map: rows top to bottom - 1, columns begin to end - 1, of the map. */
typedef struct {
  int32_t top, bottom, begin, end;
} edgeq_pool_window;

/* Whether every window lies inside: known when the layer is compiled, as the sizes of the windows then are. */
EDGEQ_INLINE int edgeq_pool_inside(const edgeq_pool_shape s)
{
  return s.above == 0 && s.left == 0 && (s.rows - 1) * s.stride_height + s.window_height <= s.height &&
         (s.columns - 1) * s.stride_width + s.window_width <= s.width;
}

EDGEQ_INLINE edgeq_pool_window edgeq_pool_at(const edgeq_pool_shape s, int32_t row, int32_t column)
{
  const int32_t top = row * s.stride_height - s.above, begin = column * s.stride_width - s.left;
  edgeq_pool_window w = {top, top + s.window_height, begin, begin + s.window_width};
  if (!edgeq_pool_inside(s)) {
    w.top = w.top > 0 ? w.top : 0;
    w.bottom = w.bottom < s.height ? w.bottom : s.height;
    w.begin = w.begin > 0 ? w.begin : 0;
    w.end = w.end < s.width ? w.end : s.width;
  }
  return w;
}

EDGEQ_INLINE int edgeq_pool_whole(const edgeq_pool_shape s, const edgeq_pool_window w)
{
  return w.bottom - w.top == s.window_height && w.end - w.begin == s.window_width;
}

#if defined(EDGEQ_DSP)

/* The larger of either four codes. */
EDGEQ_INLINE uint32_t edgeq_max4(uint32_t a, uint32_t b)
{
  uint32_t result;
#if defined(EDGEQ_DSP_ASSEMBLY)
  __asm__("ssub8 %0, %1, %2\n\tsel %0, %1, %2" : "=&r"(result) : "r"(a), "r"(b) : "cc");
#else
  result = 0;
  for (int32_t bits = 0; bits < 32; bits += 8) {
    const int8_t one = (int8_t)(a >> bits & 0xff), other = (int8_t)(b >> bits & 0xff);
    result |= (uint32_t)(uint8_t)(one > other ? one : other) << bits;
  }
#endif
  return result;
}

/* The largest code of rows times columns of a map that begin at x, and of `outside`, four channels at a time. */
EDGEQ_INLINE void edgeq_max_fours(const int8_t *x, int8_t *y, const edgeq_pool_shape s, int32_t rows, int32_t columns,
                                  int32_t outside)
{
  for (int32_t channel = 0; channel < s.channels; channel += 4) {
    uint32_t largest = 0x01010101u * (uint8_t)outside;
    EDGEQ_SEVERAL
    for (int32_t r = 0; r < rows; r++) {
      EDGEQ_SEVERAL
      for (int32_t c = 0; c < columns; c++) {
        largest = edgeq_max4(largest, edgeq_load4(x + (r * s.width + c) * s.channels + channel));
      }
    }
    edgeq_copy(y + channel, &largest, 4);
  }
}

#endif

/* The largest code of one window, channels one by one. */
EDGEQ_INLINE void edgeq_max_each(const int8_t *x, int8_t *y, const edgeq_pool_shape s, const edgeq_pool_window w,
                                 int32_t outside, int32_t low, int32_t high)
{
  for (int32_t channel = 0; channel < s.channels; channel++) {
    int32_t largest = outside;
    for (int32_t r = w.top; r < w.bottom; r++) {
      for (int32_t c = w.begin; c < w.end; c++) {
        const int32_t code = x[(r * s.width + c) * s.channels + channel];
        largest = code > largest ? code : largest;
      }
    }
    y[channel] = (int8_t)edgeq_clamp(largest, low, high);
  }
}

/* The largest code of each window and channel, limited to low..high. */
EDGEQ_INLINE void edgeq_max_pool(const int8_t *x, int8_t *y, const edgeq_pool_shape s, int32_t low, int32_t high)
{
  for (int32_t row = 0; row < s.rows; row++) {
    for (int32_t column = 0; column < s.columns; column++, y += s.channels) {
      const edgeq_pool_window w = edgeq_pool_at(s, row, column);
      const int32_t outside = edgeq_pool_inside(s) || edgeq_pool_whole(s, w) ? INT8_MIN : s.outside;
#if defined(EDGEQ_DSP)
      if (s.channels % 4 == 0 && low == INT8_MIN && high == INT8_MAX) {
        const int8_t *begin = x + (w.top * s.width + w.begin) * s.channels;
        if (edgeq_pool_inside(s) || edgeq_pool_whole(s, w)) {
          edgeq_max_fours(begin, y, s, s.window_height, s.window_width, INT8_MIN);
        } else {
          edgeq_max_fours(begin, y, s, w.bottom - w.top, w.end - w.begin, outside);
        }
        continue;
      }
#endif
      edgeq_max_each(x, y, s, w, outside, low, high);
    }
  }
}

/* The mean code of each window and channel, rounded half away from 0, limited to low..high. */
EDGEQ_INLINE void edgeq_average_pool(const int8_t *x, int8_t *y, const edgeq_pool_shape s, int32_t low, int32_t high)
{
  for (int32_t row = 0; row < s.rows; row++) {
    for (int32_t column = 0; column < s.columns; column++) {
      const edgeq_pool_window w = edgeq_pool_at(s, row, column);
      const int32_t count = edgeq_pool_inside(s) ? s.window_height * s.window_width
                                                 : (w.bottom - w.top) * (w.end - w.begin);
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
