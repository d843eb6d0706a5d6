"""The decision rule as C: from the codes that an INT8 model gives for a clip's windows to the clip's scores."""

from __future__ import annotations

from importlib import metadata

import numpy as np

from edgeq.cortexm import headers
from edgeq.cortexm.emit import identifier
from edgeq.decision import DecisionRule
from edgeq.errors import InputError
from edgeq.graph.ir import Quantization

FUNCTIONS = tuple(f"decision_{word}" for word in ("add", "silent", "scores", "best"))
"""What its C offers, each with the prefix before."""


def emit(rule: DecisionRule, quantization: Quantization, classes: int, name: str) -> dict[str, str]:
    """The C of a decision rule, text by file name.

    quantization: of the model's output, probabilities with one scale. name: the model's, made a C identifier.
    Sums are of codes and exact, where `decision.ClipScores` sums probabilities: scores differ by float rounding only.
    """
    if quantization.scale.size != 1:
        raise InputError(f"decision: output scale {quantization.scale.tolist()}: expected one number")
    prefix = identifier(name)
    return {
        f"{prefix}_decision.h": _header(rule, prefix, classes),
        f"{prefix}_decision.c": _source(quantization, prefix),
        **headers.with_includes(["decision.h"]),
    }


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
#include "decision.h"

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
