/* SPDX-License-Identifier: Apache-2.0
   From PCM to network inputs, sample by sample: STFT, mel filters, log, windows of frames, derivatives, normalisation,
   int8 codes. What a recording gives does not depend on how it is cut into blocks. */
#ifndef EDGEQ_FRONTEND_H
#define EDGEQ_FRONTEND_H

#include <stdbool.h>

#include "edgeq_frontend_fft.h"

/* Where a recording stands; all 0 at its start. */
typedef struct {
  int32_t received; /* samples so far, padding included; stays at window_samples */
  int32_t recorded; /* the same when the recording ended, without padding */
  int32_t held;     /* samples in memory */
  int32_t advance;  /* samples that the next frame's centre (or start, where not centred) lies behind the first held */
  int32_t frames;   /* frames of the next window so far; below 0 where windows leave gaps */
  int32_t slot;     /* where the next frame goes: the oldest one's place */
  bool ready, finishing;
} edgeq_frontend_state;

/* A front end: what it is, its tables, and where its memory lies. */
typedef struct {
  int n_fft, win_length, hop_length, least_samples, window_samples;
  bool centred, floor_is_added;
  int n_mels, frames, hop_frames, components;
  int rows;              /* of a frame: n_mels of log-mel, and those of each component that derives over bins */
  float floor, log_factor;
  int half_width;        /* frames that a derivative looks at on each side */
  int half_bins;         /* bins, where derivatives go over these */
  bool is_gated;
  float gate;
  int zero_point;
  int first_pair, pairs; /* of the frame's pairs of samples, those that the STFT window lets through */
  const uint16_t *order; /* where each pair of samples goes, n_fft / 2 of them */
  const float *window;   /* 2 pairs of weights, 2^-16 of the STFT window: full scale is 2^15, and the FFT wants halves */
  void (*transform)(edgeq_complex *x);
  const uint16_t *filters;       /* of each mel: first bin, number of bins */
  const float *filter_weights; /* of one filter after the other */
  const float *derivatives;    /* three times half_width + 1 weights, of the middle and those behind it */
  const float *slope;          /* half_bins + 1 weights of a first derivative */
  const float *mean, *gain;    /* one a component; gain: codes a unit */
  edgeq_frontend_state *state;
  int16_t *samples;    /* n_fft + 1 */
  int16_t *head;       /* window_samples, where a short recording is repeated, else none */
  edgeq_complex *work; /* n_fft / 2 + 1 */
  float *row;          /* the same memory: frames + 2 half_width */
  float *logmel;       /* frames of rows */
} edgeq_frontend;

EDGEQ_INLINE void edgeq_frontend_start(const edgeq_frontend *f)
{
  edgeq_fill(f->state, 0, sizeof *f->state);
}

/* Where the next frame starts among the samples held: before the recording as long as it is below 0. One sample ahead
   of the frame is kept, since the last frame of a recording may reflect it. */
EDGEQ_INLINE int edgeq_frontend_begin(const edgeq_frontend *f)
{
  return f->state->advance - (f->centred ? f->n_fft / 2 : 0);
}

/* How many samples the next frame waits for. */
EDGEQ_INLINE int edgeq_frontend_missing(const edgeq_frontend *f)
{
  const int needed = f->state->advance == 0 ? f->least_samples : edgeq_frontend_begin(f) + f->n_fft;
  return needed > f->state->held ? needed - f->state->held : 0;
}

/* Takes samples, of which the next frame still misses as many; those of no address are 0. */
EDGEQ_INLINE void edgeq_frontend_take(const edgeq_frontend *f, const int16_t *pcm, int count)
{
  edgeq_frontend_state *const state = f->state;
  const int room = f->window_samples - state->received, counted = count < room ? count : room;
  if (pcm) {
    edgeq_copy(f->samples + state->held, pcm, (size_t)count * sizeof *pcm);
    if (f->head && !state->finishing) {
      edgeq_copy(f->head + state->received, pcm, (size_t)counted * sizeof *pcm);
    }
  } else {
    edgeq_fill(f->samples + state->held, 0, (size_t)count * sizeof *pcm);
  }
  state->held += count;
  state->received += counted;
}

/* A held sample; before the first and behind the last one, its mirror image. */
EDGEQ_INLINE float edgeq_frontend_sample(const edgeq_frontend *f, int index)
{
  const int from_start = index < 0 ? -index : index, last = f->state->held - 1;
  return (float)f->samples[from_start > last ? 2 * last - from_start : from_start];
}

static EDGEQ_NOINLINE void edgeq_frontend_load(const edgeq_frontend *f)
{
  const int begin = edgeq_frontend_begin(f);
  edgeq_fill(f->work, 0, (size_t)(f->n_fft / 2) * sizeof *f->work);
  if (begin >= 0 && begin + f->n_fft <= f->state->held) {
    const int16_t *samples = f->samples + begin + 2 * f->first_pair;
    const float *window = f->window;
    for (int pair = 0; pair < f->pairs; pair++, samples += 2, window += 2) {
      f->work[f->order[f->first_pair + pair]] =
          (edgeq_complex){(float)samples[0] * window[0], (float)samples[1] * window[1]};
    }
    return;
  }
  for (int pair = 0; pair < f->pairs; pair++) {
    const int index = begin + 2 * (f->first_pair + pair);
    f->work[f->order[f->first_pair + pair]] =
        (edgeq_complex){edgeq_frontend_sample(f, index) * f->window[2 * pair],
                        edgeq_frontend_sample(f, index + 1) * f->window[2 * pair + 1]};
  }
}

/* bins: one every other number, as the real or the imaginary parts of complex ones lie. */
static EDGEQ_NOINLINE void edgeq_frontend_mels(const edgeq_frontend *f, const float *bins, float *logmel)
{
  const float *weights = f->filter_weights;
  for (int mel = 0; mel < f->n_mels; mel++) {
    const float *bin = bins + 2 * f->filters[2 * mel];
    float sum = 0.0f;
    for (const float *const end = bin + 2 * f->filters[2 * mel + 1]; bin < end; bin += 2) {
      sum += *bin * *weights++;
    }
    const float lifted = sum > 0.0f ? sum : 0.0f;
    logmel[mel] = edgeq_log(f->floor_is_added ? lifted + f->floor : sum > f->floor ? sum : f->floor) * f->log_factor;
  }
}

/* The first derivative over bins, edges replicated; both lie as in edgeq_frontend_mels. */
static EDGEQ_NOINLINE void edgeq_frontend_over_bins(const edgeq_frontend *f, const float *from, float *to)
{
  const int last = f->n_fft / 2;
  for (int bin = 0; bin <= last; bin++) {
    float sum = 0.0f;
    for (int k = 1; k <= f->half_bins; k++) {
      const int behind = bin + k < last ? bin + k : last, before = bin > k ? bin - k : 0;
      sum += (from[2 * behind] - from[2 * before]) * f->slope[k];
    }
    to[2 * bin] = sum;
  }
}

/* Computes the next frame, whose samples are all there or reflected, and drops the samples that no other one needs. */
static inline void edgeq_frontend_frame(const edgeq_frontend *f)
{
  edgeq_frontend_state *const state = f->state;
  edgeq_frontend_load(f);
  f->transform(f->work);
  float *logmel = f->logmel + state->slot * f->rows, *bins = (float *)f->work, *derived = bins + 1;
  edgeq_frontend_mels(f, bins, logmel);
  for (int row = f->n_mels; row < f->rows; row += f->n_mels) {
    float *const next = derived;
    edgeq_frontend_over_bins(f, bins, next);
    edgeq_frontend_mels(f, next, logmel + row);
    derived = bins;
    bins = next;
  }
  state->advance += f->hop_length;
  const int unused = edgeq_frontend_begin(f) - 1;
  if (unused > 0) {
    state->held -= unused;
    state->advance -= unused;
    for (int to = 0; to < state->held; to += unused) { /* pieces that do not overlap */
      const int piece = state->held - to < unused ? state->held - to : unused;
      edgeq_copy(f->samples + to, f->samples + to + unused, (size_t)piece * sizeof *f->samples);
    }
  }
  state->slot = state->slot + 1 == f->frames ? 0 : state->slot + 1;
  state->frames++;
  if (state->frames == f->frames) {
    state->frames -= f->hop_frames;
    state->ready = true;
  }
}

static inline size_t edgeq_frontend_push(const edgeq_frontend *f, const int16_t *pcm, size_t count)
{
  size_t taken = 0;
  f->state->ready = false;
  while (!f->state->ready) {
    const int missing = edgeq_frontend_missing(f);
    const int take = count - taken < (size_t)missing ? (int)(count - taken) : missing;
    edgeq_frontend_take(f, pcm + taken, take);
    taken += (size_t)take;
    if (take < missing) {
      break;
    }
    edgeq_frontend_frame(f);
  }
  return taken;
}

/* Lengthens a recording that is shorter than one window by at most `count` samples. */
EDGEQ_INLINE void edgeq_frontend_pad(const edgeq_frontend *f, int count)
{
  edgeq_frontend_state *const state = f->state;
  const int end = state->received + (count < f->window_samples - state->received ? count
                                                                               : f->window_samples - state->received);
  while (state->received < end) {
    int take = end - state->received;
    if (f->head) {
      const int from = state->received % state->recorded, repeated = state->recorded - from;
      take = take < repeated ? take : repeated;
      edgeq_frontend_take(f, f->head + from, take);
    } else {
      edgeq_frontend_take(f, NULL, take);
    }
  }
}

static inline bool edgeq_frontend_finish(const edgeq_frontend *f)
{
  edgeq_frontend_state *const state = f->state;
  if (!state->finishing) {
    state->finishing = true;
    state->recorded = state->received;
  }
  state->ready = false;
  while (!state->ready && state->recorded >= f->win_length) {
    edgeq_frontend_pad(f, edgeq_frontend_missing(f));
    /* What is left are frames whose centre is no further than the recording's end; their samples are reflected. */
    if (edgeq_frontend_missing(f) > 0 && (!f->centred || state->advance > state->held)) {
      break;
    }
    edgeq_frontend_frame(f);
  }
  if (!state->ready) {
    edgeq_frontend_start(f);
    return false;
  }
  return true;
}

/* One row's frames of the window, from the oldest to the newest, edges replicated. Returns the largest. */
EDGEQ_INLINE float edgeq_frontend_row(const edgeq_frontend *f, int index_in_frame)
{
  float *row = f->row;
  const float *const end = f->logmel + f->frames * f->rows;
  const float *value = f->logmel + f->state->slot * f->rows + index_in_frame;
  float largest = *value;
  for (int index = 0; index < f->half_width; index++) {
    *row++ = *value;
  }
  for (int frame = 0; frame < f->frames; frame++) {
    *row++ = *value;
    largest = *value > largest ? *value : largest;
    value += f->rows;
    value = value >= end ? value - f->frames * f->rows : value;
  }
  for (int index = 0; index < f->half_width; index++, row++) {
    *row = row[-1];
  }
  return largest;
}

EDGEQ_INLINE int8_t edgeq_frontend_code(const edgeq_frontend *f, float value, int component)
{
  const float steps = (value - f->mean[component]) * f->gain[component];
  return (int8_t)(edgeq_round(steps, -128 - f->zero_point, 127 - f->zero_point) + f->zero_point);
}

/* Codes of one mel of which f->row holds the frames: each with its derivatives over time, where there are any. */
EDGEQ_INLINE void edgeq_frontend_over_time(const edgeq_frontend *f, int8_t *codes)
{
  const float *const first = f->derivatives, *const second = first + f->half_width + 1;
  const float *const third = second + f->half_width + 1;
  for (int frame = 0; frame < f->frames; frame++) {
    const float *const middle = f->row + f->half_width + frame;
    *codes++ = edgeq_frontend_code(f, middle[0], 0);
    if (f->components > 1) {
      /* The weights of odd orders are antisymmetric, those of even ones symmetric. */
      float slope = 0.0f, bend = middle[0] * second[0], jerk = 0.0f;
      for (int k = 1; k <= f->half_width; k++) {
        const float odd = middle[k] - middle[-k], even = middle[k] + middle[-k];
        slope += odd * first[k];
        bend += even * second[k];
        jerk += odd * third[k];
      }
      *codes++ = edgeq_frontend_code(f, slope, 1);
      *codes++ = edgeq_frontend_code(f, bend, 2);
      *codes++ = edgeq_frontend_code(f, jerk, 3);
    }
  }
}

/* Codes of one mel: f->row holds the frames of its log-mel, those of its derivatives over bins are rows of their own. */
EDGEQ_INLINE void edgeq_frontend_by_rows(const edgeq_frontend *f, int mel, int8_t *codes)
{
  for (int component = 0; component < f->components; component++) {
    if (component > 0) {
      edgeq_frontend_row(f, component * f->n_mels + mel);
    }
    for (int frame = 0; frame < f->frames; frame++) {
      codes[frame * f->components + component] = edgeq_frontend_code(f, f->row[frame], component);
    }
  }
}

/* Codes of the window that is ready: mels x frames x components, the last axis fastest. */
static inline bool edgeq_frontend_window(const edgeq_frontend *f, int8_t *codes)
{
  float loudest = 0.0f;
  for (int mel = 0; mel < f->n_mels; mel++) {
    const float largest = edgeq_frontend_row(f, mel);
    loudest = mel == 0 || largest > loudest ? largest : loudest;
    if (f->rows > f->n_mels) {
      edgeq_frontend_by_rows(f, mel, codes);
    } else {
      edgeq_frontend_over_time(f, codes);
    }
    codes += f->frames * f->components;
  }
  return f->is_gated && loudest < f->gate;
}

#endif
