/* SPDX-License-Identifier: Apache-2.0
   Products of int8 codes in pairs: weights stay as they are in flash, inputs are widened once for all filters. */
#ifndef EDGEQ_PAIRS_H
#define EDGEQ_PAIRS_H

#include "edgeq_dsp.h"
#include "edgeq_requantize.h"

/* Steps of two codes that so many codes take: codes 0 and 2 of four, then 1 and 3, the order in which SXTB16 widens
   them; what lacks of the last four is 0 in the weights. */
EDGEQ_INLINE int32_t edgeq_steps(int32_t codes)
{
  return (codes + 3) / 4 * 2 - (codes % 4 == 1);
}

#if defined(EDGEQ_DSP)

/* Codes to pairs of int16, `apart` words one behind the other; count is a multiple of 4. */
EDGEQ_INLINE void edgeq_widen(const int8_t *codes, int32_t count, uint32_t *pairs, int32_t apart)
{
  EDGEQ_OPAQUE(codes);
  EDGEQ_OPAQUE(pairs);
  for (int32_t rest = count / 4; rest > 0; rest--, codes += 4, pairs += 2 * apart) {
    const uint32_t four = edgeq_load4(codes);
    pairs[0] = edgeq_sxtb16(four);
    pairs[apart] = edgeq_sxtb16_ror8(four);
  }
}

/* Pairs of one code, one behind the other. */
EDGEQ_INLINE void edgeq_fill_pairs(uint32_t *pairs, int32_t count, int32_t code)
{
  EDGEQ_OPAQUE(pairs);
  for (; count > 0; count--) {
    *pairs++ = (uint32_t)(code & 0xffff) * 0x10001u;
  }
}

/* Two filters at four pixels. Moves `weights` on to the next two. */
EDGEQ_INLINE void edgeq_block_sums(const int8_t **weights, const uint32_t *pixels, int32_t steps, int32_t sums[2][4])
{
  const int8_t *weight = *weights;
  for (int32_t pixel = 0; pixel < 4; pixel++) {
    sums[0][pixel] = sums[1][pixel] = 0;
  }
  for (; steps > 0; steps--, weight += 4, pixels += 4) {
    const uint32_t four = edgeq_load4(weight), first = edgeq_sxtb16(four), second = edgeq_sxtb16_ror8(four);
    for (int32_t pixel = 0; pixel < 4; pixel++) {
      sums[0][pixel] = edgeq_smlad(first, pixels[pixel], sums[0][pixel]);
      sums[1][pixel] = edgeq_smlad(second, pixels[pixel], sums[1][pixel]);
    }
  }
  *weights = weight;
}

/* Four pixels times all filters, for parameters that edgeq_quick_code takes. weights: as edgeq_convolution.h has them.
   pixels: for each step, a pair of each pixel. y: codes of the first pixel, those of the next `stride` bytes behind. */
typedef struct {
  const int8_t *weights;
  const uint32_t *pixels;
  const int32_t *parameters;
  int8_t *y;
  int32_t stride, filters, twice_zero_point_and_one, steps;
} edgeq_block;

#if defined(EDGEQ_DSP_ASSEMBLY)

#define EDGEQ_BLOCK_STEP(step)                \
  "ldr r10, [r0, #(4 * " #step ")]\n"         \
  "ldr r12, [r1, #(16 * " #step ")]\n"        \
  "ldr lr, [r1, #(16 * " #step " + 4)]\n"     \
  "sxtb16 r11, r10\n"                         \
  "sxtb16 r10, r10, ror #8\n"                 \
  "smlad r2, r11, r12, r2\n"                  \
  "smlad r3, r11, lr, r3\n"                   \
  "smlad r6, r10, r12, r6\n"                  \
  "smlad r7, r10, lr, r7\n"                   \
  "ldr r12, [r1, #(16 * " #step " + 8)]\n"    \
  "ldr lr, [r1, #(16 * " #step " + 12)]\n"    \
  "smlad r4, r11, r12, r4\n"                  \
  "smlad r5, r11, lr, r5\n"                   \
  "smlad r8, r10, r12, r8\n"                  \
  "smlad r9, r10, lr, r9\n"

#define EDGEQ_BLOCK_CODE(sum, place)          \
  "add " sum ", r10, " sum ", lsl #1\n"       \
  "smmulr " sum ", " sum ", r11\n"            \
  "add " sum ", " sum ", " sum ", asr #31\n"  \
  "add " sum ", " sum ", r12\n"               \
  "asr " sum ", " sum ", lr\n"                \
  "ssat " sum ", #8, " sum "\n"               \
  "strb " sum ", " place "\n"

/* One filter's codes from four sums; leaves when it was the last one. */
#define EDGEQ_BLOCK_FILTER(a, b, c, d)        \
  "ldr r0, [sp, #16]\n"                       \
  "ldr r1, [sp, #20]\n"                       \
  "ldm r0!, {r10-r12}\n"                      \
  "add lr, r1, #1\n"                          \
  "str r0, [sp, #16]\n"                       \
  "str lr, [sp, #20]\n"                       \
  "rsb lr, r12, #0\n"                         \
  "ldr r12, [sp, #32]\n"                      \
  "ldr r0, [sp, #24]\n"                       \
  "lsl r10, r10, #1\n"                        \
  "lsl r12, r12, lr\n"                        \
  "asr r12, r12, #1\n"                        \
  EDGEQ_BLOCK_CODE(a, "[r1]")                 \
  EDGEQ_BLOCK_CODE(b, "[r1, r0]")             \
  EDGEQ_BLOCK_CODE(c, "[r1, r0, lsl #1]")     \
  "add r1, r1, r0\n"                          \
  EDGEQ_BLOCK_CODE(d, "[r1, r0, lsl #1]")     \
  "ldr r12, [sp, #28]\n"                      \
  "subs r12, #1\n"                            \
  "str r12, [sp, #28]\n"                      \
  "beq 9f\n"

/* From where the first round begins (r3), how many steps it lacks (r2) and the pointers so far back: a filter's first
   round, at 1, with its sums at 0. Rounds are at 2. */
#define EDGEQ_BLOCK_BEGIN        \
  "orr r3, r3, #1\n"             \
  "lsl r2, r2, #2\n"             \
  "sub sp, sp, #16\n"            \
  "str r1, [sp, #4]\n"           \
  "str r3, [sp, #8]\n"           \
  "str r2, [sp, #12]\n"          \
  "str r0, [sp]\n"               \
  "1:\n"                         \
  "ldr r0, [sp]\n"               \
  "ldr r1, [sp, #4]\n"           \
  "ldr r10, [sp, #36]\n"         \
  "ldr r12, [sp, #8]\n"          \
  "ldr r11, [sp, #12]\n"         \
  "add r10, r0, r10, lsl #2\n"   \
  "str r10, [sp]\n"              \
  "sub r0, r0, r11\n"            \
  "movs r2, #0\n"                \
  "movs r3, #0\n"                \
  "movs r4, #0\n"                \
  "movs r5, #0\n"                \
  "movs r6, #0\n"                \
  "movs r7, #0\n"                \
  "mov r8, r2\n"                 \
  "mov r9, r2\n"                 \
  "bx r12\n"                     \
  ".balign 4\n"                  \
  "2:\n"

/* In assembly, since the loop takes all fourteen registers: sums in r2 to r9. Eight steps a round, of 60 bytes each;
   where steps are no multiple of eight, the first round begins in its middle, with pointers as far back. On the stack,
   from sp on: end of the weights, begin of the pixels as far back, where the first round begins, how many bytes back
   the weights begin; then, from `parameters` on, what the block holds. */
EDGEQ_ASSEMBLY void edgeq_block_codes(const edgeq_block *block __attribute__((unused)))
{
  __asm__(
      "push {r4-r11, lr}\n"
      "ldm r0, {r0, r1, r4-r9}\n"
      "push {r4-r9}\n"
      "rsb r2, r9, #0\n"
      "and r2, r2, #7\n"
      "sub r1, r1, r2, lsl #4\n"
      "adr r3, 2f\n"
      "rsb r4, r2, r2, lsl #4\n"
      "add r3, r3, r4, lsl #2\n"
      EDGEQ_BLOCK_BEGIN
      EDGEQ_BLOCK_STEP(0) EDGEQ_BLOCK_STEP(1) EDGEQ_BLOCK_STEP(2) EDGEQ_BLOCK_STEP(3)
      EDGEQ_BLOCK_STEP(4) EDGEQ_BLOCK_STEP(5) EDGEQ_BLOCK_STEP(6) EDGEQ_BLOCK_STEP(7)
      "ldr r12, [sp]\n"
      "adds r0, #32\n"
      "adds r1, #128\n"
      "cmp r0, r12\n"
      "bne 2b\n"
      EDGEQ_BLOCK_FILTER("r2", "r3", "r4", "r5")
      EDGEQ_BLOCK_FILTER("r6", "r7", "r8", "r9")
      "b 1b\n"
      "9:\n"
      "add sp, sp, #40\n"
      "pop {r4-r11, pc}\n");
}

#else

EDGEQ_INLINE void edgeq_block_codes(const edgeq_block *block)
{
  const int8_t *weights = block->weights;
  for (int32_t filter = 0; filter < block->filters; filter += 2) {
    int32_t sums[2][4] = {{0, 0, 0, 0}, {0, 0, 0, 0}};
    edgeq_block_sums(&weights, block->pixels, block->steps, sums);
    for (int32_t half = 0; half < 2 && filter + half < block->filters; half++) {
      const int32_t *own = block->parameters + (filter + half) * EDGEQ_PARAMETERS;
      for (int32_t pixel = 0; pixel < 4; pixel++) {
        block->y[pixel * block->stride + filter + half] =
            (int8_t)edgeq_quick_code(sums[half][pixel], own, block->twice_zero_point_and_one);
      }
    }
  }
}

#endif
#endif

#endif
