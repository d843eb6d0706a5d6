"""The decision rule as C: from the codes that an INT8 model gives for windows to a clip's scores, and to events."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata

import numpy as np

from edgeq.cortexm import headers
from edgeq.cortexm.emit import identifier
from edgeq.decision import DecisionRule, Rule
from edgeq.errors import InputError
from edgeq.graph.ir import Quantization


def functions(rule: DecisionRule) -> tuple[str, ...]:
    """What its C offers, each with the prefix before."""
    of_clips = tuple(f"decision_{word}" for word in ("add", "silent", "scores", "best"))
    return of_clips if rule.events is None else (*of_clips, "events_update", "events_scores", "events_heard")


def emit(
    rule: DecisionRule, quantization: Quantization, classes: int, name: str, labels: Sequence[str] = ()
) -> dict[str, str]:
    """The C of a decision rule, text by file name; that of events where they were fitted.

    quantization: of the model's output, probabilities with one scale. name: the model's, made a C identifier. labels:
    of the classes, which a rule for events needs that has some as background.
    Sums are of codes and exact, where `decision.ClipScores` sums probabilities: scores differ by float rounding only.
    Events are those of `decision.Detector` to the window where the scale is a power of two, as TFLite has it of softmax
    and logistic; with another, a score within rounding of a threshold may fall on its other side.
    Raises InputError where there is more than one scale, or a background label is not one of `labels`.
    """
    if quantization.scale.size != 1:
        raise InputError(f"decision: output scale {quantization.scale.tolist()}: expected one number")
    prefix = identifier(name)
    events = rule.events
    files = {
        f"{prefix}_decision.h": _header(rule, prefix, classes),
        f"{prefix}_decision.c": _source(quantization, prefix),
        **headers.with_includes(["edgeq_decision.h"]),
    }
    if events is not None:
        files |= {
            f"{prefix}_events.h": _events_header(events, prefix, classes),
            f"{prefix}_events.c": _events_source(events, quantization, prefix, classes, labels),
            **headers.with_includes(["edgeq_events.h"]),
        }
    return files


def _header(rule: DecisionRule, prefix: str, classes: int) -> str:
    upper = prefix.upper()
    return f"""/* {prefix}: its decision rule, "{rule.kind}", written by edgeq {metadata.version("edgeq")}.
   SPDX-License-Identifier: Apache-2.0

   A clip's scores are the mean of the probabilities of its windows that are not gated, of all where every one is. */
#ifndef {upper}_DECISION_H
#define {upper}_DECISION_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

#define {upper}_DECISION_CLASSES {classes}

/* A clip so far: all 0 at its start. Sums are exact for up to 8 million windows. */
typedef struct {{
  int32_t gated[{upper}_DECISION_CLASSES], ungated[{upper}_DECISION_CLASSES];
  int32_t gated_windows, ungated_windows;
}} {prefix}_decision;

/* Takes in a window: the model's output, and whether the front end gated it. */
void {prefix}_decision_add({prefix}_decision *clip, const int8_t *codes, bool gated);

/* Whether there was no window yet that is not gated: the scores are guesses about silence. */
bool {prefix}_decision_silent(const {prefix}_decision *clip);

/* Scores of the classes, 0 to 1; all 0 where there was no window. */
void {prefix}_decision_scores(const {prefix}_decision *clip, float *scores);

/* The class of the highest score, the first of several. */
int {prefix}_decision_best(const {prefix}_decision *clip);

#ifdef __cplusplus
}}
#endif

#endif
"""


def _source(quantization: Quantization, prefix: str) -> str:
    classes = f"{prefix.upper()}_DECISION_CLASSES"
    scale, zero_point = np.float32(quantization.scale[0]), int(quantization.zero_point[0])
    return f"""#include "{prefix}_decision.h"
#include "edgeq_decision.h"

void {prefix}_decision_add({prefix}_decision *clip, const int8_t *codes, bool gated)
{{
  edgeq_decision_add(gated ? clip->gated : clip->ungated, codes, {classes}, {zero_point});
  *(gated ? &clip->gated_windows : &clip->ungated_windows) += 1;
}}

bool {prefix}_decision_silent(const {prefix}_decision *clip)
{{
  return clip->ungated_windows == 0;
}}

void {prefix}_decision_scores(const {prefix}_decision *clip, float *scores)
{{
  const bool silent = {prefix}_decision_silent(clip);
  edgeq_decision_scores(silent ? clip->gated : clip->ungated, silent ? clip->gated_windows : clip->ungated_windows,
                        {classes}, {scale}f, scores);
}}

int {prefix}_decision_best(const {prefix}_decision *clip)
{{
  return edgeq_decision_best({prefix}_decision_silent(clip) ? clip->gated : clip->ungated, {classes});
}}
"""


def _events_header(rule: Rule, prefix: str, classes: int) -> str:
    upper = prefix.upper()
    return f"""/* {prefix}: its rule for events, written by edgeq {metadata.version("edgeq")}.
   SPDX-License-Identifier: Apache-2.0

   A score is the mean of the probabilities of the last {rule.smoothing} windows; one that is gated counts as 0.
   An event of a label begins where its score is at least {rule.on:g} for {rule.patience} windows in a row.
   It ends where the score falls below {rule.off:g}; after that the label begins none in {rule.cooldown} windows. */
#ifndef {upper}_EVENTS_H
#define {upper}_EVENTS_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

#define {upper}_EVENTS_CLASSES {classes}
#define {upper}_EVENTS_SMOOTHING {rule.smoothing}

/* What was heard so far: all 0 at the start, and again after a gap in the sound. active: whose event goes on. */
typedef struct {{
  int32_t sums[{upper}_EVENTS_CLASSES];
  uint16_t run[{upper}_EVENTS_CLASSES], rest[{upper}_EVENTS_CLASSES];
  bool active[{upper}_EVENTS_CLASSES];
  int8_t last[{upper}_EVENTS_SMOOTHING * {upper}_EVENTS_CLASSES];
  uint16_t windows, next;
}} {prefix}_events;

/* Takes in a window: the model's output, and whether the front end gated it. The label whose event begins, or -1. */
int {prefix}_events_update({prefix}_events *heard, const int8_t *codes, bool gated);

/* Smoothed scores of the labels, 0 to 1; all 0 before the first window. */
void {prefix}_events_scores(const {prefix}_events *heard, float *scores);

/* The label of the highest score, the first of several; -1 where it is too low to be named. */
int {prefix}_events_heard(const {prefix}_events *heard);

#ifdef __cplusplus
}}
#endif

#endif
"""


def _events_source(rule: Rule, quantization: Quantization, prefix: str, classes: int, labels: Sequence[str]) -> str:
    strange = [label for label in rule.background if label not in labels[:classes]]
    if strange:
        raise InputError(f"decision: background {', '.join(strange)}: not among the labels")
    scale, zero_point = np.float32(quantization.scale[0]), int(quantization.zero_point[0])
    unknown = rule.unknown or 0.0
    background = ", ".join(str(label in rule.background).lower() for label in labels[:classes]) or "false"
    return f"""#include "{prefix}_events.h"
#include "edgeq_decision.h"
#include "edgeq_events.h"

/* The least sums of codes over 1, 2 .. windows that reach a threshold. */
static const int32_t on[] = {{{_least(rule.on, rule, scale)}}};
static const int32_t off[] = {{{_least(rule.off, rule, scale)}}};
static const int32_t named[] = {{{_least(unknown, rule, scale)}}};
static const bool background[{classes}] = {{{background}}};

static const edgeq_events_rule rule = {{
  on, off, background, {classes}, {zero_point}, {rule.smoothing}, {rule.patience}, {rule.cooldown},
}};

int {prefix}_events_update({prefix}_events *heard, const int8_t *codes, bool gated)
{{
  edgeq_events_smooth(&rule, heard->last, heard->sums, &heard->windows, &heard->next, codes, gated);
  return edgeq_events_begin(&rule, heard->sums, heard->windows, heard->run, heard->rest, heard->active);
}}

void {prefix}_events_scores(const {prefix}_events *heard, float *scores)
{{
  edgeq_decision_scores(heard->sums, heard->windows, {classes}, {scale}f, scores);
}}

int {prefix}_events_heard(const {prefix}_events *heard)
{{
  const int best = edgeq_decision_best(heard->sums, {classes});
  return heard->sums[best] > 0 && heard->sums[best] >= named[heard->windows - 1] ? best : -1;
}}
"""


def _least(threshold: float, rule: Rule, scale: np.float32) -> str:
    """For 1, 2 .. windows the least sum of codes whose mean probability is at least the threshold, as Python has it."""
    sums = []
    for windows in range(1, rule.smoothing + 1):
        total = round(threshold * windows / float(scale))
        while (total - 1) * float(scale) / windows >= threshold:
            total -= 1
        while total * float(scale) / windows < threshold:
            total += 1
        sums.append(str(total))
    return ", ".join(sums)
