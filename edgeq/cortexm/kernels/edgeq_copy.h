/* SPDX-License-Identifier: Apache-2.0
   CONCATENATION, SLICE, PAD, TRANSPOSE: codes move, none is computed. */
#ifndef EDGEQ_COPY_H
#define EDGEQ_COPY_H

#include "edgeq.h"

/* Some rows of neighbouring bytes. */
EDGEQ_INLINE void edgeq_copy_rows(const int8_t *x, int32_t x_stride, int8_t *y, int32_t y_stride, int32_t rows,
                                  int32_t bytes)
{
  for (int32_t row = 0; row < rows; row++) {
    edgeq_copy(y + row * y_stride, x + row * x_stride, bytes);
  }
}

/* One byte of every group of `step` neighbouring groups of `bytes`: the strided slice of an axis. */
EDGEQ_INLINE void edgeq_copy_steps(const int8_t *x, int32_t x_stride, int8_t *y, int32_t rows, int32_t size,
                                   int32_t step, int32_t bytes)
{
  for (int32_t row = 0; row < rows; row++) {
    edgeq_copy_rows(x + row * x_stride, step * bytes, y + row * size * bytes, bytes, size, bytes);
  }
}

/* `height` rows of `row` bytes get `above` rows on top and `below` at the bottom, and `left` and `right` bytes each,
   all of which become `code`. */
EDGEQ_INLINE void edgeq_pad(const int8_t *x, int8_t *y, int32_t height, int32_t row, int32_t above, int32_t below,
                            int32_t left, int32_t right, int32_t code)
{
  const int32_t wide = left + row + right;
  edgeq_fill(y, code, above * wide);
  y += above * wide;
  for (int32_t r = 0; r < height; r++) {
    edgeq_fill(y, code, left);
    edgeq_copy(y + left, x, row);
    edgeq_fill(y + left + row, code, right);
    x += row;
    y += wide;
  }
  edgeq_fill(y, code, below * wide);
}

/* y, of these four sizes, from x, in which its axes have these strides. */
EDGEQ_INLINE void edgeq_transpose(const int8_t *x, int8_t *y, int32_t size_0, int32_t size_1, int32_t size_2,
                                  int32_t size_3, int32_t stride_0, int32_t stride_1, int32_t stride_2,
                                  int32_t stride_3)
{
  for (int32_t a = 0; a < size_0; a++) {
    for (int32_t b = 0; b < size_1; b++) {
      for (int32_t c = 0; c < size_2; c++) {
        const int8_t *from = x + a * stride_0 + b * stride_1 + c * stride_2;
        for (int32_t d = 0; d < size_3; d++) {
          *y++ = from[d * stride_3];
        }
      }
    }
  }
}

#endif
