/* SPDX-License-Identifier: Apache-2.0
   CONV_2D on int8 codes. */
#ifndef EDGEQ_CONVOLUTION_H
#define EDGEQ_CONVOLUTION_H

#include "edgeq_map.h"
#include "edgeq_pairs.h"

/* Weights, for each two filters and step: of the first filter for its first code, of the second filter for it, of both
   for the second code. An odd number of filters is filled up by one of zeros.
   scratch: kernel_height * kernel_width * channels bytes, rounded up to a multiple of 4. */
EDGEQ_INLINE void edgeq_convolution_portable(edgeq_map map, const int8_t *x, const int8_t *weights,
                                             const int32_t *parameters, int8_t *patch, int8_t *y)
{
  const int32_t codes = map.kernel_height * map.kernel_width * map.channels, steps = edgeq_steps(codes);
  for (int32_t k = codes; k < (codes + 3) / 4 * 4; k++) {
    patch[k] = 0;
  }
  for (int32_t row = 0; row < map.out_height; row++) {
    for (int32_t column = 0; column < map.out_width; column++) {
      const int8_t *weight = weights;
      edgeq_patch(map, x, row, column, patch);
      for (int32_t filter = 0; filter < map.filters; filter += 2) {
        const int32_t *own = parameters + filter * EDGEQ_PARAMETERS;
        uint32_t even = 0, odd = 0;
        for (int32_t step = 0; step < steps; step++, weight += 4) {
          const int8_t *pair = patch + step / 2 * 4 + step % 2;
          even += (uint32_t)(weight[0] * pair[0] + weight[2] * pair[2]);
          odd += (uint32_t)(weight[1] * pair[0] + weight[3] * pair[2]);
        }
        *y++ = edgeq_code(map, even, own);
        if (filter + 1 < map.filters) {
          *y++ = edgeq_code(map, odd, own + EDGEQ_PARAMETERS);
        }
      }
    }
  }
}

#if defined(EDGEQ_DSP)

/* Four outputs of all filters, whatever their parameters. */
EDGEQ_INLINE void edgeq_block_exact(edgeq_map map, const int8_t *weights, const uint32_t *pixels,
                                    const int32_t *parameters, int32_t steps, int8_t *y)
{
  for (int32_t filter = 0; filter < map.filters; filter += 2, parameters += 2 * EDGEQ_PARAMETERS) {
    int32_t sums[2][4];
    edgeq_block_sums(&weights, pixels, steps, sums);
    for (int32_t pixel = 0; pixel < 4; pixel++) {
      int8_t *to = y + pixel * map.filters + filter;
      to[0] = edgeq_code(map, (uint32_t)sums[0][pixel], parameters);
      if (filter + 1 < map.filters) {
        to[1] = edgeq_code(map, (uint32_t)sums[1][pixel], parameters + EDGEQ_PARAMETERS);
      }
    }
  }
}

/* The patch of an output as pairs, four words apart. */
EDGEQ_INLINE void edgeq_patch_pairs(edgeq_map map, const int8_t *x, int32_t row, int32_t column, int8_t *patch,
                                    uint32_t *pairs)
{
  const int32_t codes = map.kernel_height * map.kernel_width * map.channels;
  if (map.channels % 4) {
    edgeq_patch(map, x, row, column, patch);
    edgeq_widen(patch, codes / 4 * 4, pairs, 4);
    if (codes % 4) {
      pairs += codes / 4 * 8;
      pairs[0] = edgeq_sxtb16(edgeq_load4(patch + codes / 4 * 4));
      if (codes % 4 > 1) {
        pairs[4] = edgeq_sxtb16_ror8(edgeq_load4(patch + codes / 4 * 4));
      }
    }
    return;
  }
  const int32_t begin = column * map.stride_right - map.left;
  for (int32_t down = 0; down < map.kernel_height; down++) {
    const int32_t y = row * map.stride_down - map.above + down * map.dilation_down;
    if (edgeq_row_inside(map, y, begin)) {
      edgeq_widen(x + (y * map.width + begin) * map.channels, map.kernel_width * map.channels, pairs, 4);
      pairs += map.kernel_width * map.channels * 2;
      continue;
    }
    for (int32_t right = 0; right < map.kernel_width; right++, pairs += map.channels * 2) {
      const int32_t across = begin + right * map.dilation_right;
      if (edgeq_inside(map, y, across)) {
        edgeq_widen(x + (y * map.width + across) * map.channels, map.channels, pairs, 4);
      } else {
        for (int32_t pair = 0; pair < map.channels / 2; pair++) {
          pairs[pair * 4] = (uint32_t)(map.zero_point_in & 0xffff) * 0x10001u;
        }
      }
    }
  }
}

/* Four outputs at a time, wherever they lie. scratch: 16 bytes a step; then, where channels are no multiple of 4, the
   patch; then, where outputs are none, 4 codes a filter. */
EDGEQ_INLINE void edgeq_convolution_dsp(edgeq_map map, const int8_t *x, const int8_t *weights,
                                        const int32_t *parameters, int8_t *scratch, int8_t *y)
{
  const int32_t codes = map.kernel_height * map.kernel_width * map.channels, steps = edgeq_steps(codes);
  const int32_t outputs = map.out_height * map.out_width;
  uint32_t *pixels = (uint32_t *)(void *)scratch;
  int8_t *patch = scratch + steps * 16, *rest = patch + (map.channels % 4 ? (codes + 3) / 4 * 4 : 0);
  int32_t row = 0, column = 0;
  for (int32_t left = outputs; left > 0; left -= 4) {
    int8_t *to = left < 4 ? rest : y + (outputs - left) * map.filters;
    for (int32_t pixel = 0; pixel < 4 && pixel < left; pixel++) {
      edgeq_patch_pairs(map, x, row, column, patch, pixels + pixel);
      if (++column == map.out_width) {
        column = 0;
        row++;
      }
    }
    if (map.quick) {
      const edgeq_block block = {weights, pixels, parameters, to, map.filters, map.filters,
                                 2 * map.zero_point + 1, steps};
      edgeq_block_codes(&block);
    } else {
      edgeq_block_exact(map, weights, pixels, parameters, steps, to);
    }
    if (left < 4) {
      edgeq_copy(y + (outputs - left) * map.filters, rest, left * map.filters);
    }
  }
  if (map.quick) {
    edgeq_limit(map, y);
  }
}

#endif

EDGEQ_INLINE void edgeq_convolution(edgeq_map map, const int8_t *x, const int8_t *weights, const int32_t *parameters,
                                    int8_t *scratch, int8_t *y)
{
#if defined(EDGEQ_DSP)
  edgeq_convolution_dsp(map, x, weights, parameters, scratch, y);
#else
  edgeq_convolution_portable(map, x, weights, parameters, scratch, y);
#endif
}

#endif
