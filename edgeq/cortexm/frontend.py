"""A front end as C: from blocks of 16-bit samples to the codes that an INT8 model takes, without heap or libm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata

import numpy as np

from edgeq.audio.frontend import (
    DERIVATIVE_ORDERS,
    FrontendSpec,
    derivative_kernel,
    mel_filterbank,
    stft_window,
)
from edgeq.cortexm import headers
from edgeq.cortexm.emit import identifier
from edgeq.cortexm.ops.arrays import Array, array, number
from edgeq.errors import InputError
from edgeq.graph.ir import Quantization

FUNCTIONS = tuple(f"frontend_{word}" for word in ("start", "push", "ready", "window", "finish"))
"""What its C offers, each with the prefix before."""

_FULL_SCALE = 32768
_MAX_SAMPLES = 1 << 30
_STATE_BYTES, _COMPLEX_BYTES = 28, 8


@dataclass(frozen=True)
class FrontendSources:
    """The C of a front end.

    prefix: what its names begin with. files: text by file name. ram_bytes: all memory but the stack; constants: bytes
    of tables in flash, without the code.
    """

    prefix: str
    files: Mapping[str, str]
    ram_bytes: int
    constants: int


def emit(spec: FrontendSpec, quantization: Quantization, name: str) -> FrontendSources:
    """The C of a front end; the same bytes every time.

    quantization: of the model's input, one scale. name: the model's, made a C identifier.
    Codes are within one of NumPy's. With derivatives "power-frequency" and a floor like 1e-10, one in a million may not
    be: what float32 loses in a difference of bins, the log magnifies.
    Raises InputError where n_fft is no product of 2, 3 and 5, a window is longer than a device can hold, or the mel
    filters are too narrow.
    """
    _check(spec, quantization)
    prefix = identifier(name)
    radices = _radices(spec.n_fft // 2)
    tables = _tables(spec, quantization, prefix, radices)
    memory = _memory(spec)
    ram = _STATE_BYTES + sum(bytes for _, _, bytes in memory)
    flash = sum(table.bytes for table in tables)
    files = {
        f"{prefix}_frontend.h": _header(spec, quantization, prefix, ram),
        f"{prefix}_frontend.c": _source(spec, quantization, prefix, radices, tables, memory),
        **headers.with_includes(["edgeq_frontend.h"]),
    }
    return FrontendSources(prefix, files, ram, flash)


def _check(spec: FrontendSpec, quantization: Quantization) -> None:
    rest = spec.n_fft
    for factor in (2, 3, 5):
        while rest % factor == 0:
            rest //= factor
    if rest != 1:
        raise InputError(f"front end: n_fft {spec.n_fft} in C: expected a product of 2, 3 and 5, found a factor {rest}")
    if max(spec.window_samples, math.prod(spec.input_shape)) > _MAX_SAMPLES:
        raise InputError(
            f"front end: windows of {spec.window_samples} samples in C: expected at most {_MAX_SAMPLES}; "
            f"make window_seconds smaller"
        )
    if quantization.scale.size != 1 or not 0 < float(quantization.scale[0]) < math.inf:
        raise InputError(f"front end: input scale {quantization.scale.tolist()}: expected one positive number")


def _radices(length: int) -> list[int]:
    """The stages of a transform, first to last: 2 at most once and first, where it needs no turning."""
    found = []
    for radix in (4, 5, 3, 2):
        while length % radix == 0:
            found.append(radix)
            length //= radix
    return found[::-1]


def _order(length: int, radices: list[int]) -> np.ndarray:
    """Where each number goes before the first stage: the last stage joins what its radix deals out in turn."""
    index, place, size = np.arange(length), np.zeros(length, np.int64), length
    for radix in reversed(radices):
        size //= radix
        place += index % radix * size
        index //= radix
    return place


def _spans(radices: list[int]) -> list[int]:
    """How long the transforms are that each stage joins."""
    return [math.prod(radices[:index]) for index in range(len(radices))]


def _tables(spec: FrontendSpec, quantization: Quantization, prefix: str, radices: list[int]) -> list[Array]:
    length = spec.n_fft // 2
    last_turn = max(
        length // 2,
        *((span - 1) * (spec.n_fft // (radix * span)) for radix, span in zip(radices, _spans(radices), strict=True)),
    )
    angles = 2 * np.pi * np.arange(last_turn + 1) / spec.n_fft
    first, pairs = _pairs(spec)
    # The last step of the transform of real samples takes halves.
    window = stft_window(spec)[2 * first : 2 * (first + pairs)] / (2 * _FULL_SCALE)
    filters = mel_filterbank(spec)
    spans = [np.flatnonzero(row)[[0, -1]] for row in filters]
    weights = [row[low : high + 1] for row, (low, high) in zip(filters, spans, strict=True)]
    half = spec.derivative_width // 2
    gain = 1 / (np.array(spec.std) * float(quantization.scale[0]))
    tables = {
        "order": ("uint16_t", _order(length, radices)),
        "window": ("float", window),
        "turns": ("float", np.stack([np.cos(angles), -np.sin(angles)], axis=1)),
        "filters": ("uint16_t", np.array([(low, high - low + 1) for low, high in spans])),
        "filter_weights": ("float", np.concatenate(weights)),
        "mean": ("float", np.array(spec.mean)),
        "gain": ("float", gain),
    }
    if spec.derivatives == "time":
        kernels = [derivative_kernel(spec.derivative_width, order)[half:] for order in DERIVATIVE_ORDERS]
        tables["derivatives"] = ("float", np.concatenate(kernels))
    elif spec.derivatives == "power-frequency":
        tables["slope"] = ("float", derivative_kernel(spec.derivative_width, 1)[half:])
    return [
        array(ctype, f"{prefix}_{word}", values.astype(np.float32) if ctype == "float" else values)
        for word, (ctype, values) in tables.items()
    ]


def _pairs(spec: FrontendSpec) -> tuple[int, int]:
    """Which pairs of a frame's samples the STFT window lets through: the first, and how many."""
    left = (spec.n_fft - spec.win_length) // 2
    return left // 2, (left + spec.win_length + 1) // 2 - left // 2


def _memory(spec: FrontendSpec) -> list[tuple[str, str, int]]:
    """Type, declarator and bytes of each buffer."""
    work, row = spec.n_fft // 2 + 1, spec.window_frames + 2 * _half_width(spec)
    logmel = spec.window_frames * spec.logmel_rows
    buffers = [
        ("int16_t", f"samples[{spec.n_fft + 1}]", 2 * (spec.n_fft + 1)),
        ("float", f"logmel[{logmel}]", 4 * logmel),
        (
            f"union {{ edgeq_complex bins[{work}]; float row[{row}]; }}",
            "work",
            max(_COMPLEX_BYTES * work, 4 * row),
        ),
    ]
    if spec.pad == "repeat":
        buffers.append(("int16_t", f"head[{spec.window_samples}]", 2 * spec.window_samples))
    return buffers


def _half_width(spec: FrontendSpec) -> int:
    """Frames that a derivative over time looks at on each side."""
    return spec.derivative_width // 2 if spec.derivatives == "time" else 0


def _header(spec: FrontendSpec, quantization: Quantization, prefix: str, ram: int) -> str:
    upper = prefix.upper()
    scale, zero_point = np.float32(quantization.scale[0]), int(quantization.zero_point[0])
    shape = f"{spec.n_mels} mels x {spec.window_frames} frames x {spec.components} components as int8"
    overlap = f"{spec.window_frames} frames, one every {spec.window_hop_frames} frames of {spec.hop_length} samples"
    return f"""/* {prefix}: its front end, written by edgeq {metadata.version("edgeq")}.
   SPDX-License-Identifier: Apache-2.0

   From 16-bit mono samples at {spec.sample_rate} Hz to what the model takes:
   {shape}, {scale:.9g} a code, {zero_point} for 0.
   Windows of {overlap}.
   Samples come in blocks of any size; the windows are the same. With the model and the decision of the same name:

     static {prefix}_decision clip;

     static void judge(void)
     {{
       bool gated = {prefix}_frontend_window({prefix}_input());
       {prefix}_decision_add(&clip, {prefix}_run(), gated);
     }}

     void heard(const int16_t *pcm, size_t count)  // a block of samples, from an I2S or PDM microphone
     {{
       while (count > 0) {{
         size_t taken = {prefix}_frontend_push(pcm, count);
         pcm += taken;
         count -= taken;
         if ({prefix}_frontend_ready()) {{
           judge();
         }}
       }}
     }}

     void ended(void)                              // the recording is over
     {{
       while ({prefix}_frontend_finish()) {{
         judge();
       }}
       puts({prefix}_labels[{prefix}_decision_best(&clip)]);
       memset(&clip, 0, sizeof clip);
     }}

   A microphone that goes on forever never ends: ask its clip whenever an answer is wanted, and begin a new one.
   Call all of these from one thread. A microphone's interrupt fills a buffer, and the thread hands it on.
   Memory beside the stack: {upper}_FRONTEND_RAM_BYTES. */
#ifndef {upper}_FRONTEND_H
#define {upper}_FRONTEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

#define {upper}_SAMPLE_RATE {spec.sample_rate}
#define {upper}_WINDOW_SAMPLES {spec.window_samples}
#define {upper}_WINDOW_HOP_SAMPLES {spec.window_hop_frames * spec.hop_length}
#define {upper}_FRONTEND_RAM_BYTES {ram}

/* Takes samples until a window is complete or none are left. Returns how many it took; a window that is ready and not
   fetched is passed over by the next call. */
size_t {prefix}_frontend_push(const int16_t *pcm, size_t count);

/* Whether a window is complete. */
bool {prefix}_frontend_ready(void);

/* Writes the complete window's codes. Returns whether it is gated: too quiet to be judged{
        "" if spec.gate is not None else " (none is: there is no gate)"
    }. */
bool {prefix}_frontend_window(int8_t *codes);

/* Ends the recording: its last frames look past its end, on mirrored samples, and one shorter than a window is padded.
   Returns whether a window is complete: call again until it is not, and the next recording may begin. A recording
   shorter than {spec.win_length} samples has no windows. */
bool {prefix}_frontend_finish(void);

/* Forgets the recording; the next may begin. */
void {prefix}_frontend_start(void);

#ifdef __cplusplus
}}
#endif

#endif
"""


def _source(
    spec: FrontendSpec,
    quantization: Quantization,
    prefix: str,
    radices: list[int],
    tables: list[Array],
    memory: list[tuple[str, str, int]],
) -> str:
    length = spec.n_fft // 2
    stages = "".join(
        f"  edgeq_fft_{radix}(x, {length}, {span}, {prefix}_turns, {spec.n_fft // (radix * span)});\n"
        for radix, span in zip(radices, _spans(radices), strict=True)
    )
    first, pairs = _pairs(spec)
    of_bins = spec.derivatives == "power-frequency"
    values: dict[str, bool | int | float | str] = {
        "n_fft": spec.n_fft,
        "win_length": spec.win_length,
        "hop_length": spec.hop_length,
        "least_samples": spec.least_samples,
        "window_samples": spec.window_samples,
        "centred": spec.centre,
        "floor_is_added": spec.floor_rule == "add",
        "n_mels": spec.n_mels,
        "frames": spec.window_frames,
        "hop_frames": spec.window_hop_frames,
        "components": spec.components,
        "rows": spec.logmel_rows,
        "floor": spec.floor,
        "log_factor": 10 / math.log(10) if spec.log == "db" else 1.0,
        "half_width": _half_width(spec),
        "half_bins": spec.derivative_width // 2 if of_bins else 0,
        "is_gated": spec.gate is not None,
        "gate": spec.gate or 0.0,
        "zero_point": int(quantization.zero_point[0]),
        "first_pair": first,
        "pairs": pairs,
        "order": f"{prefix}_order",
        "window": f"{prefix}_window",
        "transform": f"{prefix}_transform",
        "filters": f"{prefix}_filters",
        "filter_weights": f"{prefix}_filter_weights",
        "derivatives": f"{prefix}_derivatives" if spec.derivatives == "time" else "NULL",
        "slope": f"{prefix}_slope" if of_bins else "NULL",
        "mean": f"{prefix}_mean",
        "gain": f"{prefix}_gain",
        "state": f"&{prefix}_state",
        "samples": f"{prefix}_samples",
        "head": f"{prefix}_head" if spec.pad == "repeat" else "NULL",
        "work": f"{prefix}_work.bins",
        "row": f"{prefix}_work.row",
        "logmel": f"{prefix}_logmel",
    }
    fields = ",\n".join(f"  .{field} = {_value(value)}" for field, value in values.items())
    declared = "\n\n".join(table.declaration for table in tables)
    buffers = "\n".join(f"static {ctype} {prefix}_{declarator};" for ctype, declarator, _ in memory)
    return f"""#include "{prefix}_frontend.h"
#include "edgeq_frontend.h"

{declared}

static edgeq_frontend_state {prefix}_state;
{buffers}

static EDGEQ_NOINLINE void {prefix}_transform(edgeq_complex *x)
{{
{stages}  edgeq_fft_bins(x, {length}, {prefix}_turns, {int(spec.power == 1.0)});
}}

static const edgeq_frontend {prefix}_frontend = {{
{fields}
}};

void {prefix}_frontend_start(void)
{{
  edgeq_frontend_start(&{prefix}_frontend);
}}

size_t {prefix}_frontend_push(const int16_t *pcm, size_t count)
{{
  return edgeq_frontend_push(&{prefix}_frontend, pcm, count);
}}

bool {prefix}_frontend_finish(void)
{{
  return edgeq_frontend_finish(&{prefix}_frontend);
}}

bool {prefix}_frontend_ready(void)
{{
  return {prefix}_state.ready;
}}

bool {prefix}_frontend_window(int8_t *codes)
{{
  return edgeq_frontend_window(&{prefix}_frontend, codes);
}}
"""


def _value(value: bool | int | float | str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return number(value) if isinstance(value, float) else str(value)
