/* SPDX-License-Identifier: Apache-2.0
   DEPTHWISE_CONV_2D on int8 codes. */
#ifndef EDGEQ_DEPTHWISE_H
#define EDGEQ_DEPTHWISE_H

#include "map.h"
#include "pairs.h"

/* Rows that an output needs at once; columns that all outputs of a row need. */
EDGEQ_INLINE int32_t edgeq_depthwise_rows(edgeq_map map)
{
  return (map.kernel_height - 1) * map.dilation_down + 1;
}

EDGEQ_INLINE int32_t edgeq_depthwise_columns(edgeq_map map)
{
  return (map.out_width - 1) * map.stride_right + (map.kernel_width - 1) * map.dilation_right + 1;
}

/* What of a padded row lies in the map: from which column on, how many, and where in x. */
typedef struct {
  int32_t begin, count, source;
} edgeq_span;

EDGEQ_INLINE edgeq_span edgeq_span_of(edgeq_map map, int32_t y, int32_t columns)
{
  edgeq_span span = {0, 0, 0};
  if (y >= 0 && y < map.height && map.left < columns) {
    span.begin = map.left;
    span.count = columns - map.left < map.width ? columns - map.left : map.width;
    span.source = y * map.width * map.channels;
  }
  return span;
}

/* weights: (kernel_height, kernel_width, filters). Filter n reads channel n / (filters / channels).
   ring: edgeq_depthwise_rows times edgeq_depthwise_columns times channels bytes: rows of the map with their padding,
   copied before anything is written where they lie. */
EDGEQ_INLINE void edgeq_depthwise_portable(edgeq_map map, const int8_t *x, const int8_t *weights,
                                           const int32_t *parameters, int8_t *ring, int8_t *y)
{
  const int32_t rows = edgeq_depthwise_rows(map), columns = edgeq_depthwise_columns(map);
  const int32_t multiplier = map.filters / map.channels;
  int32_t ready = 0;
  for (int32_t row = 0; row < map.out_height; row++) {
    for (; ready < row * map.stride_down + rows; ready++) {
      const edgeq_span span = edgeq_span_of(map, ready - map.above, columns);
      int8_t *line = ring + ready % rows * columns * map.channels;
      edgeq_fill(line, map.zero_point_in, columns * map.channels);
      edgeq_copy(line + span.begin * map.channels, x + span.source, span.count * map.channels);
    }
    for (int32_t column = 0; column < map.out_width; column++) {
      for (int32_t filter = 0; filter < map.filters; filter++) {
        const int8_t *weight = weights + filter;
        uint32_t sum = 0;
        for (int32_t down = 0; down < map.kernel_height; down++) {
          const int32_t line = (row * map.stride_down + down * map.dilation_down) % rows;
          for (int32_t right = 0; right < map.kernel_width; right++, weight += map.filters) {
            const int32_t place = line * columns + column * map.stride_right + right * map.dilation_right;
            sum += (uint32_t)(*weight * ring[place * map.channels + filter / multiplier]);
          }
        }
        *y++ = edgeq_code(map, sum, parameters + filter * EDGEQ_PARAMETERS);
      }
    }
  }
}

#if defined(EDGEQ_DSP)

/* How many outputs of a row are computed together, for two channels. How high and wide a kernel may be. */
enum { EDGEQ_DEPTHWISE_TOGETHER = 3, EDGEQ_DEPTHWISE_MOST = 5 };

/* A row of the map with its padding, each four channels as pairs: channels 0 and 2, 1 and 3. */
EDGEQ_INLINE void edgeq_depthwise_row(edgeq_map map, const int8_t *x, int32_t y, uint32_t *pairs)
{
  const int32_t columns = edgeq_depthwise_columns(map), words = map.channels / 2;
  const edgeq_span span = edgeq_span_of(map, y, columns);
  edgeq_fill_pairs(pairs, span.begin * words, map.zero_point_in);
  edgeq_widen(x + span.source, span.count * map.channels, pairs + span.begin * words, 1);
  edgeq_fill_pairs(pairs + (span.begin + span.count) * words, (columns - span.begin - span.count) * words,
                   map.zero_point_in);
}

/* A row of the kernel times what it lies on, at some outputs beside each other, two channels each. */
EDGEQ_INLINE void edgeq_depthwise_taps(edgeq_map map, int32_t together, const uint32_t *pairs, const uint32_t *weights,
                                       int32_t sums[EDGEQ_DEPTHWISE_TOGETHER][2])
{
  EDGEQ_UNROLL
  for (int32_t column = 0; column <= (together - 1) * map.stride_right + (map.kernel_width - 1) * map.dilation_right;
       column++) {
    const uint32_t pair = pairs[column * map.channels / 2];
    EDGEQ_UNROLL
    for (int32_t output = 0; output < together; output++) {
      const int32_t offset = column - output * map.stride_right, tap = offset / map.dilation_right;
      if (offset >= 0 && offset % map.dilation_right == 0 && tap < map.kernel_width) {
        sums[output][0] = edgeq_smlabb(weights[tap], pair, sums[output][0]);
        sums[output][1] = edgeq_smlatt(weights[tap], pair, sums[output][1]);
      }
    }
  }
}

/* A filter a channel, channels a multiple of 4. scratch: weights as pairs, (channels / 2, kernel_height, kernel_width)
   words; then a ring of rows, edgeq_depthwise_rows times edgeq_depthwise_columns times channels / 2 words. */
EDGEQ_INLINE void edgeq_depthwise_dsp(edgeq_map map, const int8_t *x, const int8_t *weights, const int32_t *parameters,
                                      int8_t *scratch, int8_t *y)
{
  const int32_t taps = map.kernel_height * map.kernel_width, rows = edgeq_depthwise_rows(map);
  const int32_t row_pairs = edgeq_depthwise_columns(map) * map.channels / 2;
  const int32_t together = map.out_width < EDGEQ_DEPTHWISE_TOGETHER ? map.out_width : EDGEQ_DEPTHWISE_TOGETHER;
  uint32_t *pairs = (uint32_t *)(void *)scratch, *ring = pairs + taps * map.channels / 2;
  for (int32_t tap = 0; tap < taps; tap++) {
    edgeq_widen(weights + tap * map.channels, map.channels, pairs + tap, taps);
  }
  int32_t ready = 0;
  for (int32_t row = 0; row < map.out_height; row++) {
    const uint32_t *lines[EDGEQ_DEPTHWISE_MOST];
    for (; ready < row * map.stride_down + rows; ready++) {
      edgeq_depthwise_row(map, x, ready - map.above, ring + ready % rows * row_pairs);
    }
    for (int32_t down = 0; down < map.kernel_height; down++) {
      lines[down] = ring + (row * map.stride_down + down * map.dilation_down) % rows * row_pairs;
    }
    for (int32_t column = 0; column < map.out_width; column += together) {
      const int32_t first = column < map.out_width - together ? column : map.out_width - together;
      const int32_t *own = parameters;
      const uint32_t *weight = pairs;
      int8_t *to = y + (row * map.out_width + first) * map.channels;
      int32_t place = first * map.stride_right * map.channels / 2;
      for (int32_t rest = map.channels / 4; rest > 0; rest--) {
        for (int32_t half = 0; half < 2; half++) {
          int32_t sums[EDGEQ_DEPTHWISE_TOGETHER][2] = {{0, 0}, {0, 0}, {0, 0}};
          EDGEQ_KEEP_LOOP
          for (int32_t down = 0; down < map.kernel_height; down++, weight += map.kernel_width) {
            edgeq_depthwise_taps(map, together, lines[down] + place, weight, sums);
          }
          EDGEQ_UNROLL
          for (int32_t n = 0; n < 2 * together; n++) {
            const int32_t *of = own + n % 2 * 2 * EDGEQ_PARAMETERS;
            int8_t *code = to + n / 2 * map.channels + n % 2 * 2;
            *code = map.quick ? (int8_t)edgeq_quick_code(sums[n / 2][n % 2], of, 2 * map.zero_point + 1)
                              : edgeq_code(map, (uint32_t)sums[n / 2][n % 2], of);
          }
          place++;
          own += EDGEQ_PARAMETERS;
          to++;
        }
        own += 2 * EDGEQ_PARAMETERS;
        to += 2;
      }
    }
  }
  if (map.quick) {
    edgeq_limit(map, y);
  }
}

#endif

EDGEQ_INLINE void edgeq_depthwise(edgeq_map map, const int8_t *x, const int8_t *weights, const int32_t *parameters,
                                  int8_t *scratch, int8_t *y)
{
#if defined(EDGEQ_DSP)
  if (map.channels % 4 == 0 && map.filters == map.channels && map.kernel_height <= EDGEQ_DEPTHWISE_MOST &&
      map.kernel_width <= EDGEQ_DEPTHWISE_MOST) {
    edgeq_depthwise_dsp(map, x, weights, parameters, scratch, y);
    return;
  }
#endif
  edgeq_depthwise_portable(map, x, weights, parameters, scratch, y);
}

#endif
