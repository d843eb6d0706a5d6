/* SPDX-License-Identifier: Apache-2.0
   FULLY_CONNECTED on int8 codes. */
#ifndef EDGEQ_DENSE_H
#define EDGEQ_DENSE_H

#include "pairs.h"
#include "requantize.h"

typedef struct {
  int32_t rows, inputs, outputs;
  int32_t zero_point, low, high;
  int32_t per_output; /* 1 where each output has a factor of its own, 0 where all have one */
} edgeq_layer;

/* A factor in two parts, and its shift: see edgeq_rescale_once. */
enum { EDGEQ_HIGH, EDGEQ_LOW, EDGEQ_HALVINGS, EDGEQ_FACTOR };

EDGEQ_INLINE int8_t edgeq_dense_code(edgeq_layer layer, uint32_t products, int32_t output, const int32_t *bias,
                                     const int32_t *factors)
{
  const int32_t *factor = factors + (layer.per_output ? output * EDGEQ_FACTOR : 0);
  const int32_t sum = (int32_t)(products + (uint32_t)bias[output]);
  return (int8_t)(edgeq_rescale_once(sum, factor[EDGEQ_HIGH], factor[EDGEQ_LOW], factor[EDGEQ_HALVINGS],
                                     layer.low - layer.zero_point, layer.high - layer.zero_point) +
                  layer.zero_point);
}

/* Weights in the order of a convolution's, a row of inputs a filter; bias less what the zero point adds. */
EDGEQ_INLINE void edgeq_dense_portable(edgeq_layer layer, const int8_t *x, const int8_t *weights, const int32_t *bias,
                                       const int32_t *factors, int8_t *y)
{
  const int32_t steps = edgeq_steps(layer.inputs);
  for (int32_t output = 0; output < layer.outputs; output += 2) {
    uint32_t even = 0, odd = 0;
    for (int32_t step = 0; step < steps; step++, weights += 4) {
      const int32_t k = step / 2 * 4 + step % 2;
      const int32_t first = x[k], second = k + 2 < layer.inputs ? x[k + 2] : 0;
      even += (uint32_t)(weights[0] * first + weights[2] * second);
      odd += (uint32_t)(weights[1] * first + weights[3] * second);
    }
    y[output] = edgeq_dense_code(layer, even, output, bias, factors);
    if (output + 1 < layer.outputs) {
      y[output + 1] = edgeq_dense_code(layer, odd, output + 1, bias, factors);
    }
  }
}

#if defined(EDGEQ_DSP)

/* Four outputs at once. Pairs of inputs are widened once; weights are not, since flash is what they wait for. */
EDGEQ_INLINE void edgeq_dense_dsp(edgeq_layer layer, const uint32_t *pairs, const int8_t *weights, const int32_t *bias,
                                  const int32_t *factors, int8_t *y)
{
  const int32_t steps = edgeq_steps(layer.inputs);
  for (int32_t output = 0; output < layer.outputs; output += 4) {
    const int32_t apart = output + 2 < layer.outputs ? 4 * steps : 0;
    int32_t sums[4];
    edgeq_four_sums(weights + 2 * steps * output, apart, pairs, steps, sums);
    for (int32_t n = 0; n < 4 && output + n < layer.outputs; n++) {
      y[output + n] = edgeq_dense_code(layer, (uint32_t)sums[n], output + n, bias, factors);
    }
  }
}

#endif

/* scratch: 4 bytes a step. */
EDGEQ_INLINE void edgeq_dense(edgeq_layer layer, const int8_t *x, const int8_t *weights, const int32_t *bias,
                              const int32_t *factors, int8_t *scratch, int8_t *y)
{
  for (int32_t row = 0; row < layer.rows; row++, x += layer.inputs, y += layer.outputs) {
#if defined(EDGEQ_DSP)
    uint32_t *pairs = (uint32_t *)(void *)scratch;
    edgeq_widen_any(x, layer.inputs, pairs);
    edgeq_dense_dsp(layer, pairs, weights, bias, factors, y);
#else
    (void)scratch;
    edgeq_dense_portable(layer, x, weights, bias, factors, y);
#endif
  }
}

#endif
