/* SPDX-License-Identifier: Apache-2.0
   When sound that goes on becomes an event: sums of whole codes over the last windows, held to whole thresholds. */
#ifndef EDGEQ_EVENTS_H
#define EDGEQ_EVENTS_H

#include <stdbool.h>

#include "edgeq.h"

/* A rule. on, off: the least sum of codes over 1, 2 .. smoothing windows that reaches the threshold. */
typedef struct {
  const int32_t *on, *off;
  const bool *background;
  int classes, zero_point;
  uint16_t smoothing, patience, cooldown;
} edgeq_events_rule;

/* Takes the codes of a window into the sums of the last; one that is gated counts as 0. */
EDGEQ_INLINE void edgeq_events_smooth(const edgeq_events_rule *rule, int8_t *last, int32_t *sums, uint16_t *windows,
                                      uint16_t *next, const int8_t *codes, bool gated)
{
  int8_t *oldest = last + *next * rule->classes;
  const bool full = *windows == rule->smoothing;
  for (int index = 0; index < rule->classes; index++) {
    const int8_t code = gated ? (int8_t)rule->zero_point : codes[index];
    sums[index] += code - (full ? oldest[index] : rule->zero_point);
    oldest[index] = code;
  }
  *windows = (uint16_t)(full ? *windows : *windows + 1);
  *next = (uint16_t)(*next + 1 == rule->smoothing ? 0 : *next + 1);
}

/* The label whose event begins with this window, -1 for none. */
EDGEQ_INLINE int edgeq_events_begin(const edgeq_events_rule *rule, const int32_t *sums, uint16_t windows, uint16_t *run,
                                    uint16_t *rest, bool *active)
{
  const int32_t on = rule->on[windows - 1], off = rule->off[windows - 1];
  int begun = -1;
  for (int index = 0; index < rule->classes; index++) {
    const bool ended = active[index] && sums[index] < off;
    active[index] = active[index] && !ended;
    run[index] = (uint16_t)(sums[index] < on ? 0 : run[index] < rule->patience ? run[index] + 1 : run[index]);
    const bool ready = !active[index] && !rule->background[index] && run[index] == rule->patience && rest[index] == 0;
    rest[index] = (uint16_t)(ended ? rule->cooldown : rest[index] > 0 ? rest[index] - 1 : 0);
    begun = ready && (begun < 0 || sums[index] > sums[begun]) ? index : begun;
  }
  if (begun >= 0) {
    active[begun] = true;
  }
  return begun;
}

#endif
