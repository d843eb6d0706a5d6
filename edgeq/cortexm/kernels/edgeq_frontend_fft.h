/* SPDX-License-Identifier: Apache-2.0
   Fourier transform of real samples, in place: two neighbours make one complex number, stages of radix 2, 3, 4 and 5
   transform the numbers, which lie in the order of reversed digits at first, and a last step parts evens and odds. */
#ifndef EDGEQ_FRONTEND_FFT_H
#define EDGEQ_FRONTEND_FFT_H

#include "edgeq_frontend_math.h"

typedef struct {
  float re, im;
} edgeq_complex;

EDGEQ_INLINE edgeq_complex edgeq_sum(edgeq_complex a, edgeq_complex b)
{
  return (edgeq_complex){a.re + b.re, a.im + b.im};
}

EDGEQ_INLINE edgeq_complex edgeq_difference(edgeq_complex a, edgeq_complex b)
{
  return (edgeq_complex){a.re - b.re, a.im - b.im};
}

EDGEQ_INLINE edgeq_complex edgeq_product(edgeq_complex a, edgeq_complex b)
{
  return (edgeq_complex){a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

EDGEQ_INLINE edgeq_complex edgeq_scaled(edgeq_complex a, float factor)
{
  return (edgeq_complex){a.re * factor, a.im * factor};
}

/* -i a */
EDGEQ_INLINE edgeq_complex edgeq_quarter_turn(edgeq_complex a)
{
  return (edgeq_complex){a.im, -a.re};
}

EDGEQ_INLINE edgeq_complex edgeq_turn(const float *turns, int index)
{
  return (edgeq_complex){turns[2 * index], turns[2 * index + 1]};
}

EDGEQ_INLINE void edgeq_butterfly_2(edgeq_complex *x, int span, edgeq_complex b)
{
  const edgeq_complex a = x[0];
  x[0] = edgeq_sum(a, b);
  x[span] = edgeq_difference(a, b);
}

EDGEQ_INLINE void edgeq_butterfly_3(edgeq_complex *x, int span, edgeq_complex b, edgeq_complex c)
{
  const edgeq_complex a = x[0], even = edgeq_sum(b, c);
  const edgeq_complex rest = edgeq_difference(a, edgeq_scaled(even, 0.5f));
  const edgeq_complex odd = edgeq_quarter_turn(edgeq_scaled(edgeq_difference(b, c), 0.866025404f)); /* sin 120 */
  x[0] = edgeq_sum(a, even);
  x[span] = edgeq_sum(rest, odd);
  x[2 * span] = edgeq_difference(rest, odd);
}

EDGEQ_INLINE void edgeq_butterfly_4(edgeq_complex *x, int span, edgeq_complex b, edgeq_complex c, edgeq_complex d)
{
  const edgeq_complex a = x[0], ac = edgeq_sum(a, c), a_c = edgeq_difference(a, c);
  const edgeq_complex bd = edgeq_sum(b, d), b_d = edgeq_quarter_turn(edgeq_difference(b, d));
  x[0] = edgeq_sum(ac, bd);
  x[span] = edgeq_sum(a_c, b_d);
  x[2 * span] = edgeq_difference(ac, bd);
  x[3 * span] = edgeq_difference(a_c, b_d);
}

EDGEQ_INLINE void edgeq_butterfly_5(edgeq_complex *x, int span, edgeq_complex b, edgeq_complex c, edgeq_complex d,
                                    edgeq_complex e)
{
  const float cos_72 = 0.309016994f, cos_144 = -0.809016994f, sin_72 = 0.951056516f, sin_144 = 0.587785252f;
  const edgeq_complex a = x[0], be = edgeq_sum(b, e), cd = edgeq_sum(c, d);
  const edgeq_complex b_e = edgeq_difference(b, e), c_d = edgeq_difference(c, d);
  const edgeq_complex near = edgeq_sum(a, edgeq_sum(edgeq_scaled(be, cos_72), edgeq_scaled(cd, cos_144)));
  const edgeq_complex far = edgeq_sum(a, edgeq_sum(edgeq_scaled(be, cos_144), edgeq_scaled(cd, cos_72)));
  const edgeq_complex near_odd =
      edgeq_quarter_turn(edgeq_sum(edgeq_scaled(b_e, sin_72), edgeq_scaled(c_d, sin_144)));
  const edgeq_complex far_odd =
      edgeq_quarter_turn(edgeq_difference(edgeq_scaled(b_e, sin_144), edgeq_scaled(c_d, sin_72)));
  x[0] = edgeq_sum(a, edgeq_sum(be, cd));
  x[span] = edgeq_sum(near, near_odd);
  x[2 * span] = edgeq_sum(far, far_odd);
  x[3 * span] = edgeq_difference(far, far_odd);
  x[4 * span] = edgeq_difference(near, near_odd);
}

/* A stage joins `radix` transforms of `span` numbers each. Turn k of the table is exp(-2 pi i k / n_fft), turn
   `step` is exp(-2 pi i / (radix span)). Higher powers of a turn are multiplied out: a table of them would be three times as
   long, and each is used for length / (radix span) butterflies. The first butterfly of each needs no turning. */
static inline void edgeq_fft_2(edgeq_complex *x, int length, int span, const float *turns, int step)
{
  for (int j = 0; j < span; j++) {
    const edgeq_complex w = edgeq_turn(turns, j * step);
    for (edgeq_complex *p = x + j; p < x + length; p += 2 * span) {
      edgeq_butterfly_2(p, span, edgeq_product(p[span], w));
    }
  }
}

static inline void edgeq_fft_3(edgeq_complex *x, int length, int span, const float *turns, int step)
{
  for (int j = 0; j < span; j++) {
    const edgeq_complex w = edgeq_turn(turns, j * step), w2 = edgeq_product(w, w);
    for (edgeq_complex *p = x + j; p < x + length; p += 3 * span) {
      edgeq_butterfly_3(p, span, edgeq_product(p[span], w), edgeq_product(p[2 * span], w2));
    }
  }
}

static inline void edgeq_fft_4(edgeq_complex *x, int length, int span, const float *turns, int step)
{
  for (edgeq_complex *p = x; p < x + length; p += 4 * span) {
    edgeq_butterfly_4(p, span, p[span], p[2 * span], p[3 * span]);
  }
  for (int j = 1; j < span; j++) {
    const edgeq_complex w = edgeq_turn(turns, j * step), w2 = edgeq_product(w, w), w3 = edgeq_product(w, w2);
    for (edgeq_complex *p = x + j; p < x + length; p += 4 * span) {
      edgeq_butterfly_4(p, span, edgeq_product(p[span], w), edgeq_product(p[2 * span], w2),
                        edgeq_product(p[3 * span], w3));
    }
  }
}

static inline void edgeq_fft_5(edgeq_complex *x, int length, int span, const float *turns, int step)
{
  for (int j = 0; j < span; j++) {
    const edgeq_complex w = edgeq_turn(turns, j * step), w2 = edgeq_product(w, w);
    const edgeq_complex w3 = edgeq_product(w, w2), w4 = edgeq_product(w2, w2);
    for (edgeq_complex *p = x + j; p < x + length; p += 5 * span) {
      edgeq_butterfly_5(p, span, edgeq_product(p[span], w), edgeq_product(p[2 * span], w2),
                        edgeq_product(p[3 * span], w3), edgeq_product(p[4 * span], w4));
    }
  }
}

/* From the transform of `length` pairs of samples, each halved, to the power of the length + 1 bins of the samples,
   or their magnitude. x has length + 1 places; bin k comes to lie in x[k].re, and x[k].im means nothing. */
EDGEQ_INLINE void edgeq_fft_bins(edgeq_complex *x, int length, const float *turns, int magnitude)
{
  const float first = 2.0f * (x[0].re + x[0].im), last = 2.0f * (x[0].re - x[0].im);
  x[0].re = first * first;
  x[length].re = last * last;
  for (int k = 1; k <= length - k; k++) {
    const edgeq_complex a = x[k], b = {x[length - k].re, -x[length - k].im};
    const edgeq_complex even = edgeq_sum(a, b);
    const edgeq_complex odd = edgeq_product(edgeq_quarter_turn(edgeq_difference(a, b)), edgeq_turn(turns, k));
    const edgeq_complex low = edgeq_sum(even, odd), high = edgeq_difference(even, odd);
    x[k].re = low.re * low.re + low.im * low.im;
    x[length - k].re = high.re * high.re + high.im * high.im;
  }
  if (magnitude) {
    for (int k = 0; k <= length; k++) {
      x[k].re = edgeq_square_root(x[k].re);
    }
  }
}

#endif
