/* SPDX-License-Identifier: Apache-2.0
   Convolutions and dense layers whose weights are quaternions: r, i, j, k are stored once and read once, for the 16
   products of a Hamilton product. Channels lie component-major: all r, then all i, all j, all k.

   Weights: for each quaternion filter, place of the kernel, and input quaternion, the bytes r, j, i, k. */
#ifndef EDGEQ_QUATERNION_H
#define EDGEQ_QUATERNION_H

#include "edgeq_dense.h"
#include "edgeq_map.h"
#include "edgeq_pairs.h"

/* The parameters of a row of a quaternion filter, those of its r, i, j, k in turn: as in edgeq_requantize.h, then 1 or -1:
   the sign of its weights, which batch norm may have turned. */
enum { EDGEQ_SIGN = EDGEQ_PARAMETERS, EDGEQ_ROW_PARAMETERS };

/* Adds weight times x to sums, as quaternions. */
EDGEQ_INLINE void edgeq_hamilton(const int8_t *weight, int32_t x0, int32_t x1, int32_t x2, int32_t x3, uint32_t sums[4])
{
  const int32_t r = weight[0], j = weight[1], i = weight[2], k = weight[3];
  sums[0] += (uint32_t)(r * x0 - i * x1 - j * x2 - k * x3);
  sums[1] += (uint32_t)(i * x0 + r * x1 - k * x2 + j * x3);
  sums[2] += (uint32_t)(j * x0 + k * x1 + r * x2 - i * x3);
  sums[3] += (uint32_t)(k * x0 - j * x1 + i * x2 + r * x3);
}

/* One filter times codes of some places, each with so many quaternions. Returns where the next filter's weights
   begin. */
EDGEQ_INLINE const int8_t *edgeq_quaternion_products(const int8_t *weights, const int8_t *codes, int32_t places,
                                                     int32_t quaternions, uint32_t sums[4])
{
  sums[0] = sums[1] = sums[2] = sums[3] = 0;
  for (int32_t place = 0; place < places; place++, codes += 4 * quaternions) {
    for (int32_t n = 0; n < quaternions; n++, weights += 4) {
      edgeq_hamilton(weights, codes[n], codes[n + quaternions], codes[n + 2 * quaternions], codes[n + 3 * quaternions],
                     sums);
    }
  }
  return weights;
}

EDGEQ_INLINE int8_t edgeq_quaternion_code(edgeq_map map, uint32_t products, const int32_t *parameters)
{
  return edgeq_code(map, products * (uint32_t)parameters[EDGEQ_SIGN], parameters);
}

/* scratch: kernel_height * kernel_width * channels bytes. */
EDGEQ_INLINE void edgeq_quaternion_convolution_portable(edgeq_map map, const int8_t *x, const int8_t *weights,
                                                        const int32_t *parameters, int8_t *patch, int8_t *y)
{
  const int32_t places = map.kernel_height * map.kernel_width, quarter = map.filters / 4;
  for (int32_t row = 0; row < map.out_height; row++) {
    for (int32_t column = 0; column < map.out_width; column++, y += map.filters) {
      const int8_t *weight = weights;
      const int32_t *own = parameters;
      edgeq_patch(map, x, row, column, patch);
      for (int32_t filter = 0; filter < quarter; filter++) {
        uint32_t sums[4];
        weight = edgeq_quaternion_products(weight, patch, places, map.channels / 4, sums);
        for (int32_t part = 0; part < 4; part++, own += EDGEQ_ROW_PARAMETERS) {
          y[part * quarter + filter] = edgeq_quaternion_code(map, sums[part], own);
        }
      }
    }
  }
}

/* places: of a map that was flattened into the layer's inputs, else 1. signs: 1 or -1, for each output. */
EDGEQ_INLINE void edgeq_quaternion_dense(edgeq_layer layer, int32_t places, const int8_t *x, const int8_t *weights,
                                         const int32_t *bias, const int8_t *signs, const int32_t *factors, int8_t *y)
{
  const int32_t quarter = layer.outputs / 4;
  for (int32_t row = 0; row < layer.rows; row++, x += layer.inputs, y += layer.outputs) {
    const int8_t *weight = weights;
    for (int32_t filter = 0; filter < quarter; filter++) {
      uint32_t sums[4];
      weight = edgeq_quaternion_products(weight, x, places, layer.inputs / places / 4, sums);
      for (int32_t part = 0; part < 4; part++) {
        const int32_t output = part * quarter + filter, sign = signs[output];
        y[output] = edgeq_dense_code(layer, sums[part] * (uint32_t)sign, output, bias, factors);
      }
    }
  }
}

#if defined(EDGEQ_DSP)

/* The quaternions of one place as pairs (r, i) and (j, k): for each, two words, two words apart from one another. */
EDGEQ_INLINE void edgeq_quaternion_pairs(const int8_t *codes, int32_t quaternions, uint32_t *pairs)
{
  EDGEQ_OPAQUE(codes);
  EDGEQ_OPAQUE(pairs);
  if (quaternions == 1) {
    const uint32_t four = edgeq_load4(codes), even = edgeq_sxtb16(four), odd = edgeq_sxtb16_ror8(four);
    pairs[0] = edgeq_low_halves(even, odd);
    pairs[2] = edgeq_high_halves(even, odd);
    return;
  }
  int32_t rest = quaternions;
  for (; rest >= 4; rest -= 4, codes += 4, pairs += 16) {
    for (int32_t half = 0; half < 2; half++) {
      const uint32_t one = edgeq_load4(codes + half * 2 * quaternions);
      const uint32_t other = edgeq_load4(codes + (half * 2 + 1) * quaternions);
      const uint32_t even_one = edgeq_sxtb16(one), even_other = edgeq_sxtb16(other);
      const uint32_t odd_one = edgeq_sxtb16_ror8(one), odd_other = edgeq_sxtb16_ror8(other);
      pairs[2 * half] = edgeq_low_halves(even_one, even_other);
      pairs[2 * half + 4] = edgeq_low_halves(odd_one, odd_other);
      pairs[2 * half + 8] = edgeq_high_halves(even_one, even_other);
      pairs[2 * half + 12] = edgeq_high_halves(odd_one, odd_other);
    }
  }
  for (; rest > 0; rest--, codes++, pairs += 4) {
    pairs[0] = ((uint32_t)codes[0] & 0xffff) | (uint32_t)codes[quaternions] << 16;
    pairs[2] = ((uint32_t)codes[2 * quaternions] & 0xffff) | (uint32_t)codes[3 * quaternions] << 16;
  }
}

/* The patch of an output as such pairs. */
EDGEQ_INLINE void edgeq_quaternion_patch(edgeq_map map, const int8_t *x, int32_t row, int32_t column, uint32_t *pairs)
{
  const int32_t begin = column * map.stride_right - map.left;
  int32_t y = row * map.stride_down - map.above;
  EDGEQ_KEEP_LOOP
  for (int32_t down = 0; down < map.kernel_height; down++, y += map.dilation_down) {
    int32_t place = (y * map.width + begin) * map.channels;
    if (edgeq_row_inside(map, y, begin)) {
      for (int32_t right = 0; right < map.kernel_width; right++, place += map.channels, pairs += map.channels) {
        edgeq_quaternion_pairs(x + place, map.channels / 4, pairs);
      }
      continue;
    }
    int32_t across = begin;
    EDGEQ_KEEP_LOOP
    for (int32_t right = 0; right < map.kernel_width; right++, across += map.dilation_right, pairs += map.channels) {
      if (edgeq_inside(map, y, across)) {
        edgeq_quaternion_pairs(x + (y * map.width + across) * map.channels, map.channels / 4, pairs);
      } else {
        for (int32_t n = 0; n < map.channels; n += 2) {
          pairs[n] = (uint32_t)(map.zero_point_in & 0xffff) * 0x10001u;
        }
      }
    }
  }
}

/* One filter at two pixels: sums[pixel][part]. A step is four bytes of weights, and of both pixels (r, i), then (j, k).
   Returns where the next filter's weights begin. */
EDGEQ_INLINE const int8_t *edgeq_quaternion_sums(const int8_t *weights, const uint32_t *pixels, int32_t steps,
                                                 int32_t sums[2][4])
{
  for (int32_t part = 0; part < 4; part++) {
    sums[0][part] = sums[1][part] = 0;
  }
  for (; steps > 0; steps--, weights += 4, pixels += 4) {
    const uint32_t four = edgeq_load4(weights), ri = edgeq_sxtb16(four), jk = edgeq_sxtb16_ror8(four);
    for (int32_t pixel = 0; pixel < 2; pixel++) {
      const uint32_t x_ri = pixels[pixel], x_jk = pixels[pixel + 2];
      int32_t *sum = sums[pixel];
      sum[0] = (int32_t)((uint32_t)edgeq_smlsd(ri, x_ri, sum[0]) - (uint32_t)edgeq_smlad(jk, x_jk, 0));
      sum[1] = edgeq_smlsdx(jk, x_jk, edgeq_smladx(ri, x_ri, sum[1]));
      sum[2] = edgeq_smlsd(ri, x_jk, edgeq_smlad(jk, x_ri, sum[2]));
      sum[3] = edgeq_smladx(ri, x_jk, edgeq_smlsdx(x_ri, jk, sum[3]));
    }
  }
  return weights;
}

/* Two pixels times all filters, for parameters that edgeq_quick_code takes. y: codes of the first pixel, those of the
   second `stride` bytes behind; those of a quaternion's parts are `filters` bytes apart. */
typedef struct {
  const int8_t *weights;
  const uint32_t *pixels;
  const int32_t *parameters;
  int8_t *y;
  int32_t stride, filters, twice_zero_point_and_one, steps;
} edgeq_quaternion_block;

#if defined(EDGEQ_DSP_ASSEMBLY)

#define EDGEQ_QUATERNION_STEP(step)           \
  "ldr r11, [r0, #(4 * " #step ")]\n"         \
  "ldr r12, [r1, #(16 * " #step ")]\n"        \
  "ldr lr, [r1, #(16 * " #step " + 4)]\n"     \
  "sxtb16 r10, r11\n"                         \
  "sxtb16 r11, r11, ror #8\n"                 \
  "smlsd r2, r10, r12, r2\n"                  \
  "smladx r3, r10, r12, r3\n"                 \
  "smlad r4, r11, r12, r4\n"                  \
  "smlsdx r5, r12, r11, r5\n"                 \
  "smlsd r6, r10, lr, r6\n"                   \
  "smladx r7, r10, lr, r7\n"                  \
  "smlad r8, r11, lr, r8\n"                   \
  "smlsdx r9, lr, r11, r9\n"                  \
  "ldr r12, [r1, #(16 * " #step " + 8)]\n"    \
  "smuad lr, r11, r12\n"                      \
  "sub.w r2, r2, lr\n"                        \
  "smlsdx r3, r11, r12, r3\n"                 \
  "smlsd r4, r10, r12, r4\n"                  \
  "smladx r5, r10, r12, r5\n"                 \
  "ldr r12, [r1, #(16 * " #step " + 12)]\n"   \
  "smuad lr, r11, r12\n"                      \
  "sub.w r6, r6, lr\n"                        \
  "smlsdx r7, r11, r12, r7\n"                 \
  "smlsd r8, r10, r12, r8\n"                  \
  "smladx r9, r10, r12, r9\n"

/* One row's codes at two pixels: r0 is at its parameters, r1 at its code of the first pixel. */
#define EDGEQ_QUATERNION_ROW(a, b)            \
  "ldm r0!, {r10-r12, lr}\n"                  \
  "mla " a ", " a ", lr, r10\n"               \
  "mla " b ", " b ", lr, r10\n"               \
  "rsb lr, r12, #0\n"                         \
  "ldr r12, [sp, #32]\n"                      \
  "ldr r10, [sp, #24]\n"                      \
  "lsl r12, r12, lr\n"                        \
  "lsl " a ", " a ", #1\n"                    \
  "lsl " b ", " b ", #1\n"                    \
  "asr r12, r12, #1\n"                        \
  "smmulr " a ", " a ", r11\n"                \
  "smmulr " b ", " b ", r11\n"                \
  "ldr r11, [sp, #28]\n"                      \
  "add " a ", " a ", " a ", asr #31\n"        \
  "add " b ", " b ", " b ", asr #31\n"        \
  "add " a ", " a ", r12\n"                   \
  "add " b ", " b ", r12\n"                   \
  "asr " a ", " a ", lr\n"                    \
  "asr " b ", " b ", lr\n"                    \
  "ssat " a ", #8, " a "\n"                   \
  "ssat " b ", #8, " b "\n"                   \
  "strb " b ", [r1, r10]\n"                   \
  "strb " a ", [r1]\n"                        \
  "add r1, r1, r11\n"

/* In assembly, as edgeq_block_codes is: sums of the first pixel in r2 to r5, of the second in r6 to r9; four steps a
   round, of 100 bytes each. The stack is as there, with the number of filters that are left behind it. */
EDGEQ_ASSEMBLY void edgeq_quaternion_codes(const edgeq_quaternion_block *block __attribute__((unused)))
{
  __asm__(
      "push {r4-r11, lr}\n"
      "ldm r0, {r0, r1, r4-r9}\n"
      "push {r7}\n"
      "push {r4-r9}\n"
      "rsb r2, r9, #0\n"
      "and r2, r2, #3\n"
      "sub r1, r1, r2, lsl #4\n"
      "adr r3, 2f\n"
      "movs r4, #100\n"
      "mla r3, r2, r4, r3\n"
      EDGEQ_BLOCK_BEGIN
      EDGEQ_QUATERNION_STEP(0) EDGEQ_QUATERNION_STEP(1) EDGEQ_QUATERNION_STEP(2) EDGEQ_QUATERNION_STEP(3)
      "ldr r12, [sp]\n"
      "adds r0, #16\n"
      "adds r1, #64\n"
      "cmp r0, r12\n"
      "bne 2b\n"
      "ldr r0, [sp, #16]\n"
      "ldr r1, [sp, #20]\n"
      "add r10, r1, #1\n"
      "str r10, [sp, #20]\n"
      EDGEQ_QUATERNION_ROW("r2", "r6") EDGEQ_QUATERNION_ROW("r3", "r7")
      EDGEQ_QUATERNION_ROW("r4", "r8") EDGEQ_QUATERNION_ROW("r5", "r9")
      "ldr r12, [sp, #40]\n"
      "str r0, [sp, #16]\n"
      "subs r12, #1\n"
      "str r12, [sp, #40]\n"
      "bne 1b\n"
      "add sp, sp, #44\n"
      "pop {r4-r11, pc}\n");
}

#else

EDGEQ_INLINE void edgeq_quaternion_codes(const edgeq_quaternion_block *block)
{
  const int8_t *weights = block->weights;
  const int32_t *own = block->parameters;
  for (int32_t filter = 0; filter < block->filters; filter++) {
    int32_t sums[2][4];
    weights = edgeq_quaternion_sums(weights, block->pixels, block->steps, sums);
    for (int32_t part = 0; part < 4; part++, own += EDGEQ_ROW_PARAMETERS) {
      int8_t *to = block->y + part * block->filters + filter;
      for (int32_t pixel = 0; pixel < 2; pixel++) {
        to[pixel * block->stride] = (int8_t)edgeq_quick_code(
            (int32_t)((uint32_t)sums[pixel][part] * (uint32_t)own[EDGEQ_SIGN]), own, block->twice_zero_point_and_one);
      }
    }
  }
}

#endif

/* Two outputs of all filters, whatever their parameters. */
EDGEQ_INLINE void edgeq_quaternion_exact(edgeq_map map, const int8_t *weights, const uint32_t *pixels,
                                         const int32_t *parameters, int32_t steps, int8_t *y)
{
  for (int32_t filter = 0; filter < map.filters / 4; filter++) {
    int32_t sums[2][4];
    weights = edgeq_quaternion_sums(weights, pixels, steps, sums);
    for (int32_t part = 0; part < 4; part++, parameters += EDGEQ_ROW_PARAMETERS) {
      int8_t *to = y + part * (map.filters / 4) + filter;
      to[0] = edgeq_quaternion_code(map, (uint32_t)sums[0][part], parameters);
      to[map.filters] = edgeq_quaternion_code(map, (uint32_t)sums[1][part], parameters);
    }
  }
}

/* Two outputs at a time, wherever they lie. scratch: 16 bytes for each place of the kernel and input quaternion; then,
   where outputs are odd in number, 2 codes a filter. */
EDGEQ_INLINE void edgeq_quaternion_convolution_dsp(edgeq_map map, const int8_t *x, const int8_t *weights,
                                                   const int32_t *parameters, int8_t *scratch, int8_t *y)
{
  const int32_t steps = map.kernel_height * map.kernel_width * map.channels / 4;
  const int32_t outputs = map.out_height * map.out_width;
  uint32_t *pixels = (uint32_t *)(void *)scratch;
  int8_t *rest = scratch + steps * 16;
  int32_t row = 0, column = 0;
  for (int32_t left = outputs; left > 0; left -= 2) {
    int8_t *to = left < 2 ? rest : y + (outputs - left) * map.filters;
    for (int32_t pixel = 0; pixel < 2 && pixel < left; pixel++) {
      edgeq_quaternion_patch(map, x, row, column, pixels + pixel);
      if (++column == map.out_width) {
        column = 0;
        row++;
      }
    }
    if (map.quick) {
      const edgeq_quaternion_block block = {weights, pixels, parameters, to, map.filters, map.filters / 4,
                                            2 * map.zero_point + 1, steps};
      edgeq_quaternion_codes(&block);
    } else {
      edgeq_quaternion_exact(map, weights, pixels, parameters, steps, to);
    }
    if (left < 2) {
      edgeq_copy(y + (outputs - left) * map.filters, rest, map.filters);
    }
  }
  if (map.quick) {
    edgeq_limit(map, y);
  }
}

#endif

EDGEQ_INLINE void edgeq_quaternion_convolution(edgeq_map map, const int8_t *x, const int8_t *weights,
                                               const int32_t *parameters, int8_t *scratch, int8_t *y)
{
#if defined(EDGEQ_DSP)
  edgeq_quaternion_convolution_dsp(map, x, weights, parameters, scratch, y);
#else
  edgeq_quaternion_convolution_portable(map, x, weights, parameters, scratch, y);
#endif
}

#endif
