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

#endif
