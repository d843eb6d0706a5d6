/* SPDX-License-Identifier: Apache-2.0
   From a clip's windows to its scores: sums of whole codes, hence exact, and their mean. */
#ifndef EDGEQ_DECISION_H
#define EDGEQ_DECISION_H

#include "edgeq.h"

EDGEQ_INLINE void edgeq_decision_add(int32_t *sums, const int8_t *codes, int classes, int zero_point)
{
  for (int index = 0; index < classes; index++) {
    sums[index] += codes[index] - zero_point;
  }
}

EDGEQ_INLINE void edgeq_decision_scores(const int32_t *sums, int32_t windows, int classes, float scale, float *scores)
{
  for (int index = 0; index < classes; index++) {
    scores[index] = windows ? (float)sums[index] / (float)windows * scale : 0.0f;
  }
}

EDGEQ_INLINE int edgeq_decision_best(const int32_t *sums, int classes)
{
  int best = 0;
  for (int index = 1; index < classes; index++) {
    best = sums[index] > sums[best] ? index : best;
  }
  return best;
}

#endif
