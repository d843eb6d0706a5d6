/* SPDX-License-Identifier: Apache-2.0
   The DSP instructions of ARMv7E-M and ARMv8-M that kernels use, two int16 numbers a word. With EDGEQ_EMULATE_DSP they
   are portable C, so that the same kernels run on any machine. */
#ifndef EDGEQ_DSP_H
#define EDGEQ_DSP_H

#include "edgeq.h"

#if defined(__GNUC__) && defined(__ARM_FEATURE_DSP) && defined(__thumb2__) && !defined(__ARM_BIG_ENDIAN)
#define EDGEQ_DSP 1
#define EDGEQ_DSP_ASSEMBLY 1
#elif defined(EDGEQ_EMULATE_DSP)
#define EDGEQ_DSP 1
#endif

#if defined(EDGEQ_DSP)

#if defined(__GNUC__)
#define EDGEQ_UNROLL _Pragma("GCC unroll 16")
#define EDGEQ_UNROLL_2 _Pragma("GCC unroll 2")
#define EDGEQ_KEEP_LOOP _Pragma("GCC unroll 1")
#else
#define EDGEQ_UNROLL
#define EDGEQ_UNROLL_2
#define EDGEQ_KEEP_LOOP
#endif

/* Four bytes from anywhere, the first in the lowest bits. */
EDGEQ_INLINE uint32_t edgeq_load4(const int8_t *bytes)
{
  uint32_t word;
  edgeq_copy(&word, bytes, 4);
  return word;
}

#if defined(EDGEQ_DSP_ASSEMBLY)

/* The compiler forgets what it knows of a pointer. It addresses each byte of the arena by itself otherwise. */
#define EDGEQ_OPAQUE(pointer) __asm__("" : "+r"(pointer))

#define EDGEQ_INSTRUCTION2(name, text)                                        \
  EDGEQ_INLINE uint32_t name(uint32_t a, uint32_t b)                          \
  {                                                                           \
    uint32_t result;                                                          \
    __asm__(text : "=r"(result) : "r"(a), "r"(b));                            \
    return result;                                                            \
  }

#define EDGEQ_INSTRUCTION3(name, text)                                        \
  EDGEQ_INLINE int32_t name(uint32_t a, uint32_t b, int32_t sum)              \
  {                                                                           \
    int32_t result;                                                           \
    __asm__(text : "=r"(result) : "r"(a), "r"(b), "r"(sum));                  \
    return result;                                                            \
  }

EDGEQ_INLINE uint32_t edgeq_sxtb16(uint32_t bytes)
{
  uint32_t result;
  __asm__("sxtb16 %0, %1" : "=r"(result) : "r"(bytes));
  return result;
}

EDGEQ_INLINE uint32_t edgeq_sxtb16_ror8(uint32_t bytes)
{
  uint32_t result;
  __asm__("sxtb16 %0, %1, ror #8" : "=r"(result) : "r"(bytes));
  return result;
}

/* (low of a, low of b) and (high of a, high of b). */
EDGEQ_INSTRUCTION2(edgeq_low_halves, "pkhbt %0, %1, %2, lsl #16")
EDGEQ_INSTRUCTION2(edgeq_high_halves, "pkhtb %0, %2, %1, asr #16")

/* The high word of a product, rounded half up. */
EDGEQ_INLINE int32_t edgeq_smmulr(int32_t a, int32_t b)
{
  int32_t result;
  __asm__("smmulr %0, %1, %2" : "=r"(result) : "r"(a), "r"(b));
  return result;
}

EDGEQ_INLINE int32_t edgeq_ssat8(int32_t value)
{
  int32_t result;
  __asm__("ssat %0, #8, %1" : "=r"(result) : "r"(value));
  return result;
}

/* sum + the products of both halves. */
EDGEQ_INSTRUCTION3(edgeq_smlad, "smlad %0, %1, %2, %3")

/* The same with the product of the high halves taken away; with an x, the second factor's halves change places. */
EDGEQ_INSTRUCTION3(edgeq_smlsd, "smlsd %0, %1, %2, %3")
EDGEQ_INSTRUCTION3(edgeq_smladx, "smladx %0, %1, %2, %3")
EDGEQ_INSTRUCTION3(edgeq_smlsdx, "smlsdx %0, %1, %2, %3")

/* sum + the product of two halves: b is the bottom one, t the top one. */
EDGEQ_INSTRUCTION3(edgeq_smlabb, "smlabb %0, %1, %2, %3")

EDGEQ_INSTRUCTION3(edgeq_smlatt, "smlatt %0, %1, %2, %3")

#else

#define EDGEQ_OPAQUE(pointer) ((void)(pointer))

EDGEQ_INLINE int32_t edgeq_low(uint32_t word)
{
  return (int16_t)(word & 0xffff);
}

EDGEQ_INLINE int32_t edgeq_high(uint32_t word)
{
  return (int16_t)(word >> 16);
}

EDGEQ_INLINE uint32_t edgeq_sxtb16(uint32_t bytes)
{
  return ((uint32_t)(int8_t)(bytes & 0xff) & 0xffff) | (uint32_t)(int8_t)((bytes >> 16) & 0xff) << 16;
}

EDGEQ_INLINE uint32_t edgeq_sxtb16_ror8(uint32_t bytes)
{
  return edgeq_sxtb16(bytes >> 8);
}

EDGEQ_INLINE uint32_t edgeq_low_halves(uint32_t a, uint32_t b)
{
  return (a & 0xffff) | b << 16;
}

EDGEQ_INLINE uint32_t edgeq_high_halves(uint32_t a, uint32_t b)
{
  return a >> 16 | (b & 0xffff0000);
}

EDGEQ_INLINE int32_t edgeq_smmulr(int32_t a, int32_t b)
{
  return (int32_t)(((int64_t)a * b + ((int64_t)1 << 31)) >> 32);
}

EDGEQ_INLINE int32_t edgeq_ssat8(int32_t value)
{
  return edgeq_clamp(value, -128, 127);
}

EDGEQ_INLINE int32_t edgeq_smlad(uint32_t a, uint32_t b, int32_t sum)
{
  return (int32_t)((uint32_t)sum + (uint32_t)(edgeq_low(a) * edgeq_low(b)) + (uint32_t)(edgeq_high(a) * edgeq_high(b)));
}

EDGEQ_INLINE int32_t edgeq_smlsd(uint32_t a, uint32_t b, int32_t sum)
{
  return (int32_t)((uint32_t)sum + (uint32_t)(edgeq_low(a) * edgeq_low(b)) - (uint32_t)(edgeq_high(a) * edgeq_high(b)));
}

EDGEQ_INLINE int32_t edgeq_smladx(uint32_t a, uint32_t b, int32_t sum)
{
  return edgeq_smlad(a, b << 16 | b >> 16, sum);
}

EDGEQ_INLINE int32_t edgeq_smlsdx(uint32_t a, uint32_t b, int32_t sum)
{
  return edgeq_smlsd(a, b << 16 | b >> 16, sum);
}

EDGEQ_INLINE int32_t edgeq_smlabb(uint32_t a, uint32_t b, int32_t sum)
{
  return (int32_t)((uint32_t)sum + (uint32_t)(edgeq_low(a) * edgeq_low(b)));
}

EDGEQ_INLINE int32_t edgeq_smlatt(uint32_t a, uint32_t b, int32_t sum)
{
  return (int32_t)((uint32_t)sum + (uint32_t)(edgeq_high(a) * edgeq_high(b)));
}

#endif
#endif
#endif
