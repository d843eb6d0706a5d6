/* SPDX-License-Identifier: Apache-2.0
   What a compiler asks of a C library even where a program does not: copying, filling, and division of 64 bits. */
#include <stddef.h>
#include <stdint.h>

void *memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
  uint8_t *out = to;
  const uint8_t *in = from;
  uint32_t words[4];
  for (; bytes >= 16; bytes -= 16, out += 16, in += 16) {
    __builtin_memcpy(words, in, 16);
    __builtin_memcpy(out, words, 16);
  }
  for (; bytes >= 4; bytes -= 4, out += 4, in += 4) {
    __builtin_memcpy(words, in, 4);
    __builtin_memcpy(out, words, 4);
  }
  while (bytes--) *out++ = *in++;
  return to;
}

void *memmove(void *to, const void *from, size_t bytes)
{
  uint8_t *out = to;
  const uint8_t *in = from;
  if ((uintptr_t)to - (uintptr_t)from >= bytes) return memcpy(to, from, bytes);
  while (bytes--) out[bytes] = in[bytes];
  return to;
}

void *memset(void *to, int value, size_t bytes)
{
  uint8_t *out = to;
  const uint32_t word = 0x01010101u * (uint8_t)value;
  for (; bytes >= 16; bytes -= 16, out += 16) {
    __builtin_memcpy(out, &word, 4);
    __builtin_memcpy(out + 4, &word, 4);
    __builtin_memcpy(out + 8, &word, 4);
    __builtin_memcpy(out + 12, &word, 4);
  }
  while (bytes--) *out++ = (uint8_t)value;
  return to;
}

/* The same by the names of the ABI (IHI 0043, 4.3.4), whose memset has its arguments the other way round. */
#define COPY(name, does) \
  void name(void *to, const void *from, size_t bytes); \
  void name(void *to, const void *from, size_t bytes) { does(to, from, bytes); }
#define FILL(name) \
  void name(void *to, size_t bytes, int value); \
  void name(void *to, size_t bytes, int value) { memset(to, value, bytes); }
#define CLEAR(name) \
  void name(void *to, size_t bytes); \
  void name(void *to, size_t bytes) { memset(to, 0, bytes); }

COPY(__aeabi_memcpy, memcpy)
COPY(__aeabi_memcpy4, memcpy)
COPY(__aeabi_memcpy8, memcpy)
COPY(__aeabi_memmove, memmove)
COPY(__aeabi_memmove4, memmove)
COPY(__aeabi_memmove8, memmove)
FILL(__aeabi_memset)
FILL(__aeabi_memset4)
FILL(__aeabi_memset8)
CLEAR(__aeabi_memclr)
CLEAR(__aeabi_memclr4)
CLEAR(__aeabi_memclr8)

/* Quotient in r0 and r1, remainder in r2 and r3 (IHI 0043, 4.2): no type of C is returned like that. */
uint64_t edgeq_divide(uint64_t number, uint64_t by, uint64_t *remainder);
uint64_t edgeq_divide_signed(int64_t number, int64_t by, int64_t *remainder);

uint64_t edgeq_divide(uint64_t number, uint64_t by, uint64_t *remainder)
{
  uint64_t quotient = 0, rest = 0;
  for (int bit = 63; bit >= 0; bit--) {
    const uint32_t carry = (uint32_t)(rest >> 63);
    rest = (rest << 1) | ((number >> bit) & 1);
    if (carry || rest >= by) {
      rest -= by;
      quotient |= (uint64_t)1 << bit;
    }
  }
  *remainder = rest;
  return quotient;
}

uint64_t edgeq_divide_signed(int64_t number, int64_t by, int64_t *remainder)
{
  uint64_t rest;
  const uint64_t size = edgeq_divide(number < 0 ? 0u - (uint64_t)number : (uint64_t)number,
                                     by < 0 ? 0u - (uint64_t)by : (uint64_t)by, &rest);
  *remainder = (int64_t)(number < 0 ? 0u - rest : rest);
  return (number < 0) != (by < 0) ? 0u - size : size;
}

#define DIVIDE(name, does) \
  void name(void); \
  __attribute__((naked)) void name(void) \
  { \
    __asm__("push {r4, lr}\n sub sp, #16\n add r4, sp, #8\n str r4, [sp]\n bl " #does "\n" \
            "ldrd r2, r3, [sp, #8]\n add sp, #16\n pop {r4, pc}"); \
  }

DIVIDE(__aeabi_uldivmod, edgeq_divide)
DIVIDE(__aeabi_ldivmod, edgeq_divide_signed)
