/* SPDX-License-Identifier: Apache-2.0
   The float functions of the front end, without libm. All is float32, and what -std=c99 compiles gives the same bits on
   every machine: nothing is fused, no sum is reordered. */
#ifndef EDGEQ_FRONTEND_MATH_H
#define EDGEQ_FRONTEND_MATH_H

#include "edgeq.h"

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF /* a fused multiply-add is slower than two instructions on a Cortex-M4 */
#endif

#if defined(__arm__) && defined(__ARM_FP) && (__ARM_FP & 4)
#define EDGEQ_FPU_INSTRUCTIONS 1
#endif

EDGEQ_INLINE uint32_t edgeq_bits(float x)
{
  uint32_t bits;
  edgeq_copy(&bits, &x, sizeof bits);
  return bits;
}

EDGEQ_INLINE float edgeq_from_bits(uint32_t bits)
{
  float x;
  edgeq_copy(&x, &bits, sizeof x);
  return x;
}

/* Natural logarithm of a positive, normal number, within 3e-7 of the result.
   x = 2^exponent m, m from sqrt(1/2) to sqrt(2); ln m = 2 artanh(s), s = (m - 1) / (m + 1), as a series in s. */
EDGEQ_INLINE float edgeq_log(float x)
{
  const uint32_t root_half = 0x3f3504f3u;
  const uint32_t shifted = edgeq_bits(x) - root_half + (128u << 23);
  const float exponent = (float)((int32_t)(shifted >> 23) - 128);
  const float m = edgeq_from_bits((shifted & 0x7fffffu) + root_half);
  const float s = (m - 1.0f) / (m + 1.0f);
  const float z = s * s;
  const float series = (((z * (1.0f / 9.0f) + 1.0f / 7.0f) * z + 1.0f / 5.0f) * z + 1.0f / 3.0f) * z;
  /* ln 2 in two parts; the first has so few bits that its product is exact. */
  return exponent * 0.693359375f + (2.0f * s + (2.0f * s * series - exponent * 2.12194440e-4f));
}

/* Square root of 0 or a positive, normal number, correctly rounded. */
EDGEQ_INLINE float edgeq_square_root(float x)
{
#if defined(EDGEQ_FPU_INSTRUCTIONS)
  float root;
  __asm__("vsqrt.f32 %0, %1" : "=t"(root) : "t"(x));
  return root;
#else
  /* Newton from a guess that is 4 % off, in double: within 1e-15, closer than any float32 lies to a tie. */
  double root = edgeq_from_bits((edgeq_bits(x) >> 1) + 0x1fbd1df5u);
  if (x == 0.0f) {
    return 0.0f;
  }
  for (int step = 0; step < 4; step++) {
    root = 0.5 * (root + (double)x / root);
  }
  return (float)root;
#endif
}

/* Nearest whole number, ties to even, limited to low .. high, which are within a few thousand. */
EDGEQ_INLINE int32_t edgeq_round(float x, int32_t low, int32_t high)
{
#if defined(EDGEQ_FPU_INSTRUCTIONS)
  float rounded; /* holds an integer; what is out of its range becomes the nearest one */
  __asm__("vcvtr.s32.f32 %0, %1" : "=t"(rounded) : "t"(x));
  return edgeq_clamp((int32_t)edgeq_bits(rounded), low, high);
#else
  const float limited = x < (float)low ? (float)low : x > (float)high ? (float)high : x;
  /* Beside 1.5 * 2^23 a float32 has no bits for fractions. */
  return (int32_t)(edgeq_bits(limited + 12582912.0f) - edgeq_bits(12582912.0f));
#endif
}

#endif
