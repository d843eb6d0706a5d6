/* SPDX-License-Identifier: Apache-2.0
   From reset to main on a Cortex-M with a floating point unit: vectors, variables, coprocessor. */
#include <stdint.h>

extern uint32_t stack_top[], data_stored[], data_begins[], data_ends[], bss_begins[], bss_ends[];

int main(void);
void edgeq_reset(void);
void edgeq_fault(void);

void edgeq_reset(void)
{
  *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* CPACR: both halves of the coprocessor, before any code uses it */
  __asm__ volatile("dsb\n isb" ::: "memory");
  const uint32_t *from = data_stored;
  for (uint32_t *to = data_begins; to < data_ends; to++) *to = *from++;
  for (uint32_t *to = bss_begins; to < bss_ends; to++) *to = 0;
  main();
  for (;;) __asm__ volatile("wfi");
}

void edgeq_fault(void)
{
  for (;;) __asm__ volatile("bkpt 0");
}

/* The stack, then the first exceptions of every Cortex-M; a project's own table has its interrupts behind them. */
__attribute__((section(".vectors"), used)) const void *const edgeq_vectors[16] = {
  stack_top, (void *)edgeq_reset, (void *)edgeq_fault, (void *)edgeq_fault, (void *)edgeq_fault, (void *)edgeq_fault,
  (void *)edgeq_fault,
};
