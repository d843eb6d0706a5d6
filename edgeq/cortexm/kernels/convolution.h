/* SPDX-License-Identifier: Apache-2.0
   CONV_2D on int8 codes. */
#ifndef EDGEQ_CONVOLUTION_H
#define EDGEQ_CONVOLUTION_H

#include "map.h"
#include "pairs.h"

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

EDGEQ_INLINE void edgeq_convolution(edgeq_map map, const int8_t *x, const int8_t *weights, const int32_t *parameters,
                                    int8_t *scratch, int8_t *y)
{
  edgeq_convolution_portable(map, x, weights, parameters, scratch, y);
}

#endif
