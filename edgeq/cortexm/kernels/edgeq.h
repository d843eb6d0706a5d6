/* SPDX-License-Identifier: Apache-2.0
   What every kernel begins with. C99; nothing is asked of the C library but memcpy and memset. */
#ifndef EDGEQ_H
#define EDGEQ_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
/* Shapes are literal where a kernel is called: inlined, the compiler makes of it the code for that one layer. */
#define EDGEQ_INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define EDGEQ_NOINLINE __attribute__((noinline))
#else
/* GCC 12 at -O2 leaves out the call of a layer once it knows which places of the arena it is called with. */
#define EDGEQ_NOINLINE __attribute__((noipa))
#endif
/* Of a function whose body is assembly alone. */
#define EDGEQ_ASSEMBLY static EDGEQ_NOINLINE __attribute__((naked, unused))
#define EDGEQ_ALIGNED(bytes) __attribute__((aligned(bytes)))
/* The loop that follows does four rounds at a time. */
#define EDGEQ_SEVERAL _Pragma("GCC unroll 4")
/* The builtins are expanded in place where the size is small and known, -ffreestanding or not. */
#define edgeq_copy(to, from, bytes) ((void)__builtin_memcpy((to), (from), (size_t)(bytes)))
#define edgeq_fill(to, code, bytes) ((void)__builtin_memset((to), (code), (size_t)(bytes)))
#else
#include <string.h>
#define EDGEQ_INLINE static inline
#define EDGEQ_NOINLINE
#define EDGEQ_ALIGNED(bytes)
#define EDGEQ_SEVERAL
#define edgeq_copy(to, from, bytes) ((void)memcpy((to), (from), (size_t)(bytes)))
#define edgeq_fill(to, code, bytes) ((void)memset((to), (code), (size_t)(bytes)))
#endif

EDGEQ_INLINE int32_t edgeq_clamp(int32_t value, int32_t low, int32_t high)
{
  return value < low ? low : value > high ? high : value;
}

#endif
