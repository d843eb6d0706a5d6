/* SPDX-License-Identifier: Apache-2.0
   Any function of one code: TANH, LOGISTIC, HARD_SWISH, RELU, QUANTIZE. y may lie on x. */
#ifndef EDGEQ_TABLE_H
#define EDGEQ_TABLE_H

#include "edgeq.h"

/* table: of 256 codes, that of code c at the place that c has as an unsigned byte. */
EDGEQ_INLINE void edgeq_table(const int8_t *x, int8_t *y, const int8_t *table, int32_t count)
{
  for (int32_t i = 0; i < count; i++) {
    y[i] = table[(uint8_t)x[i]];
  }
}

#endif
