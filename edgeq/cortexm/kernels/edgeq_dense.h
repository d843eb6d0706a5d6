/* SPDX-License-Identifier: Apache-2.0
   FULLY_CONNECTED on int8 codes. */
#ifndef EDGEQ_DENSE_H
#define EDGEQ_DENSE_H

#include "edgeq_pairs.h"
#include "edgeq_requantize.h"

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

/* Four inputs times four outputs: two steps of two filters, and of two more whose weights lie `apart` bytes behind. */
EDGEQ_INLINE void edgeq_dense_four(uint32_t inputs, const int8_t *weights, int32_t apart, int32_t sums[4])
{
  const uint32_t even = edgeq_sxtb16(inputs), odd = edgeq_sxtb16_ror8(inputs);
  const uint32_t first = edgeq_load4(weights), second = edgeq_load4(weights + 4);
  const uint32_t third = edgeq_load4(weights + apart), fourth = edgeq_load4(weights + apart + 4);
  sums[0] = edgeq_smlad(edgeq_sxtb16(second), odd, edgeq_smlad(edgeq_sxtb16(first), even, sums[0]));
  sums[1] = edgeq_smlad(edgeq_sxtb16_ror8(second), odd, edgeq_smlad(edgeq_sxtb16_ror8(first), even, sums[1]));
  sums[2] = edgeq_smlad(edgeq_sxtb16(fourth), odd, edgeq_smlad(edgeq_sxtb16(third), even, sums[2]));
  sums[3] = edgeq_smlad(edgeq_sxtb16_ror8(fourth), odd, edgeq_smlad(edgeq_sxtb16_ror8(third), even, sums[3]));
}

/* What is left of a filter's inputs behind the last four. */
EDGEQ_INLINE void edgeq_dense_rest(const int8_t *x, int32_t count, const int8_t *weights, int32_t apart,
                                   int32_t sums[4])
{
  for (int32_t step = 0; step < edgeq_steps(count); step++, weights += 4) {
    const int32_t first = x[step], second = step + 2 < count ? x[step + 2] : 0;
    for (int32_t n = 0; n < 4; n++) {
      const int8_t *weight = weights + n / 2 * apart + n % 2;
      sums[n] += weight[0] * first + weight[2] * second;
    }
  }
}

/* Four outputs at once: flash is what this waits for, so weights are read once, as bytes. */
EDGEQ_INLINE void edgeq_dense_dsp(edgeq_layer layer, const int8_t *x, const int8_t *weights, const int32_t *bias,
                                  const int32_t *factors, int8_t *y)
{
  const int32_t steps = edgeq_steps(layer.inputs), whole = layer.inputs / 4;
  for (int32_t output = 0; output < layer.outputs; output += 4) {
    const int8_t *weight = weights + 2 * steps * output, *input = x;
    const int32_t apart = output + 2 < layer.outputs ? 4 * steps : 0;
    int32_t sums[4] = {0, 0, 0, 0};
    EDGEQ_OPAQUE(weight);
    EDGEQ_OPAQUE(input);
    EDGEQ_UNROLL_2
    for (int32_t left = whole; left > 0; left--, input += 4, weight += 8) {
      edgeq_dense_four(edgeq_load4(input), weight, apart, sums);
    }
    edgeq_dense_rest(input, layer.inputs % 4, weight, apart, sums);
    for (int32_t n = 0; n < 4 && output + n < layer.outputs; n++) {
      y[output + n] = edgeq_dense_code(layer, (uint32_t)sums[n], output + n, bias, factors);
    }
  }
}

#endif

EDGEQ_INLINE void edgeq_dense(edgeq_layer layer, const int8_t *x, const int8_t *weights, const int32_t *bias,
                              const int32_t *factors, int8_t *y)
{
  for (int32_t row = 0; row < layer.rows; row++, x += layer.inputs, y += layer.outputs) {
#if defined(EDGEQ_DSP)
    edgeq_dense_dsp(layer, x, weights, bias, factors, y);
#else
    edgeq_dense_portable(layer, x, weights, bias, factors, y);
#endif
  }
}

#endif
