/* SPDX-License-Identifier: Apache-2.0
   Products of int8 codes in pairs, two filters at once. */
#ifndef EDGEQ_PAIRS_H
#define EDGEQ_PAIRS_H

#include "dsp.h"

/* Steps of two codes that a patch of so many codes takes: codes 0 and 2 of four, then 1 and 3, the order in which
   SXTB16 widens them; what lacks of the last four is 0 in the weights. */
EDGEQ_INLINE int32_t edgeq_steps(int32_t codes)
{
  return (codes + 3) / 4 * 2 - (codes % 4 == 1);
}

#if defined(EDGEQ_DSP)

/* Four codes at `codes` to two pairs of int16, the second `apart` words behind the first; so for a multiple of 4. */
EDGEQ_INLINE void edgeq_widen(const int8_t *codes, int32_t count, uint32_t *pairs, int32_t apart)
{
  for (const int8_t *end = codes + count; codes != end; codes += 4, pairs += 2 * apart) {
    const uint32_t four = edgeq_load4(codes);
    pairs[0] = edgeq_sxtb16(four);
    pairs[apart] = edgeq_sxtb16_ror8(four);
  }
}

/* Two filters at four pixels: sums[0..3] of the first filter, sums[4..7] of the second, from 0 on. A step is four bytes
   of weights and four words of pixels, a pair of each pixel. */
#if defined(EDGEQ_DSP_ASSEMBLY)

#define EDGEQ_STEP_2X4(step)                  \
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

/* Assembly throughout, since all fourteen registers are in use: sums in r2 to r9. Eight steps a round, 60 bytes of code
   each; where steps are no multiple of eight, the first round begins in its middle. */
__attribute__((naked, noinline)) static inline void edgeq_dot_2x4(const int8_t *weights, const uint32_t *pixels,
                                                                  int32_t *sums, uint32_t steps)
{
  __asm__(
      "push {r2, r4-r11, lr}\n"
      "rsb r12, r3, #0\n"
      "and r12, r12, #7\n"
      "sub r0, r0, r12, lsl #2\n"
      "sub r1, r1, r12, lsl #4\n"
      "add r3, r3, r12\n"
      "add r3, r0, r3, lsl #2\n"
      "push {r3}\n"
      "adr r2, 1f\n"
      "rsb r12, r12, r12, lsl #4\n"
      "add r12, r2, r12, lsl #2\n"
      "orr r12, r12, #1\n"
      "movs r2, #0\n"
      "movs r3, #0\n"
      "movs r4, #0\n"
      "movs r5, #0\n"
      "movs r6, #0\n"
      "movs r7, #0\n"
      "mov r8, r2\n"
      "mov r9, r2\n"
      "bx r12\n"
      ".balign 4\n"
      "1:\n"
      EDGEQ_STEP_2X4(0) EDGEQ_STEP_2X4(1) EDGEQ_STEP_2X4(2) EDGEQ_STEP_2X4(3)
      EDGEQ_STEP_2X4(4) EDGEQ_STEP_2X4(5) EDGEQ_STEP_2X4(6) EDGEQ_STEP_2X4(7)
      "ldr r12, [sp]\n"
      "adds r0, #32\n"
      "adds r1, #128\n"
      "cmp r0, r12\n"
      "bne 1b\n"
      "pop {r0, r1}\n"
      "stm r1, {r2-r9}\n"
      "pop {r4-r11, pc}\n");
}

#else

EDGEQ_INLINE void edgeq_dot_2x4(const int8_t *weights, const uint32_t *pixels, int32_t *sums, uint32_t steps)
{
  for (int32_t i = 0; i < 8; i++) {
    sums[i] = 0;
  }
  for (uint32_t step = 0; step < steps; step++, weights += 4, pixels += 4) {
    const uint32_t four = edgeq_load4(weights), even = edgeq_sxtb16(four), odd = edgeq_sxtb16_ror8(four);
    for (int32_t i = 0; i < 4; i++) {
      sums[i] = edgeq_smlad(even, pixels[i], sums[i]);
      sums[i + 4] = edgeq_smlad(odd, pixels[i], sums[i + 4]);
    }
  }
}

#endif
#endif

#endif
