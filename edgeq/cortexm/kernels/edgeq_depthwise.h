/* SPDX-License-Identifier: Apache-2.0
   DEPTHWISE_CONV_2D on int8 codes. */
#ifndef EDGEQ_DEPTHWISE_H
#define EDGEQ_DEPTHWISE_H

#include "edgeq_map.h"
#include "edgeq_pairs.h"

/* Rows that an output needs at once; columns that all outputs of a row need. */
EDGEQ_INLINE int32_t edgeq_depthwise_rows(edgeq_map map)
{
  return (map.kernel_height - 1) * map.dilation_down + 1;
}

EDGEQ_INLINE int32_t edgeq_depthwise_columns(edgeq_map map)
{
  return (map.out_width - 1) * map.stride_right + (map.kernel_width - 1) * map.dilation_right + 1;
}

/* What of a padded row lies in the map: from which column on, how many, and where in x. */
typedef struct {
  int32_t begin, count, source;
} edgeq_span;

EDGEQ_INLINE edgeq_span edgeq_span_of(edgeq_map map, int32_t y, int32_t columns)
{
  edgeq_span span = {0, 0, 0};
  if (y >= 0 && y < map.height && map.left < columns) {
    span.begin = map.left;
    span.count = columns - map.left < map.width ? columns - map.left : map.width;
    span.source = y * map.width * map.channels;
  }
  return span;
}

/* weights: (kernel_height, kernel_width, filters). Filter n reads channel n / (filters / channels).
   ring: edgeq_depthwise_rows times edgeq_depthwise_columns times channels bytes: rows of the map with their padding,
   copied before anything is written where they lie. */
EDGEQ_INLINE void edgeq_depthwise_portable(edgeq_map map, const int8_t *x, const int8_t *weights,
                                           const int32_t *parameters, int8_t *ring, int8_t *y)
{
  const int32_t rows = edgeq_depthwise_rows(map), columns = edgeq_depthwise_columns(map);
  const int32_t multiplier = map.filters / map.channels;
  int32_t ready = 0;
  for (int32_t row = 0; row < map.out_height; row++) {
    for (; ready < row * map.stride_down + rows; ready++) {
      const edgeq_span span = edgeq_span_of(map, ready - map.above, columns);
      int8_t *line = ring + ready % rows * columns * map.channels;
      edgeq_fill(line, map.zero_point_in, columns * map.channels);
      edgeq_copy(line + span.begin * map.channels, x + span.source, span.count * map.channels);
    }
    for (int32_t column = 0; column < map.out_width; column++) {
      for (int32_t filter = 0; filter < map.filters; filter++) {
        const int8_t *weight = weights + filter;
        uint32_t sum = 0;
        for (int32_t down = 0; down < map.kernel_height; down++) {
          const int32_t line = (row * map.stride_down + down * map.dilation_down) % rows;
          for (int32_t right = 0; right < map.kernel_width; right++, weight += map.filters) {
            const int32_t place = line * columns + column * map.stride_right + right * map.dilation_right;
            sum += (uint32_t)(*weight * ring[place * map.channels + filter / multiplier]);
          }
        }
        *y++ = edgeq_code(map, sum, parameters + filter * EDGEQ_PARAMETERS);
      }
    }
  }
}

#if defined(EDGEQ_DSP)

/* How many outputs of a row are computed together, for two channels. How high and wide a kernel may be. */
enum { EDGEQ_DEPTHWISE_TOGETHER = 3, EDGEQ_DEPTHWISE_MOST = 5 };

/* Codes to pairs of neighbours, `apart` words one behind the other; count is a multiple of 4. */
EDGEQ_INLINE void edgeq_widen_neighbours(const int8_t *codes, int32_t count, uint32_t *pairs, int32_t apart)
{
  EDGEQ_OPAQUE(codes);
  EDGEQ_OPAQUE(pairs);
  for (int32_t rest = count / 4; rest > 0; rest--, codes += 4, pairs += 2 * apart) {
    const uint32_t four = edgeq_load4(codes), even = edgeq_sxtb16(four), odd = edgeq_sxtb16_ror8(four);
    pairs[0] = edgeq_low_halves(even, odd);
    pairs[apart] = edgeq_high_halves(even, odd);
  }
}

/* A row of the map with its padding, channels as pairs of neighbours. */
EDGEQ_INLINE void edgeq_depthwise_row(edgeq_map map, const int8_t *x, int32_t y, uint32_t *pairs)
{
  const int32_t columns = edgeq_depthwise_columns(map), words = map.channels / 2;
  const edgeq_span span = edgeq_span_of(map, y, columns);
  edgeq_fill_pairs(pairs, span.begin * words, map.zero_point_in);
  edgeq_widen_neighbours(x + span.source, span.count * map.channels, pairs + span.begin * words, 1);
  edgeq_fill_pairs(pairs + (span.begin + span.count) * words, (columns - span.begin - span.count) * words,
                   map.zero_point_in);
}

/* A row of the kernel times what it lies on, at some outputs beside each other, two channels each. */
EDGEQ_INLINE void edgeq_depthwise_taps(edgeq_map map, int32_t together, const uint32_t *pairs, const uint32_t *weights,
                                       int32_t sums[EDGEQ_DEPTHWISE_TOGETHER][2])
{
  EDGEQ_UNROLL
  for (int32_t column = 0; column <= (together - 1) * map.stride_right + (map.kernel_width - 1) * map.dilation_right;
       column++) {
    const uint32_t pair = pairs[column * map.channels / 2];
    EDGEQ_UNROLL
    for (int32_t output = 0; output < together; output++) {
      const int32_t offset = column - output * map.stride_right, tap = offset / map.dilation_right;
      if (offset >= 0 && offset % map.dilation_right == 0 && tap < map.kernel_width) {
        sums[output][0] = edgeq_smlabb(weights[tap], pair, sums[output][0]);
        sums[output][1] = edgeq_smlatt(weights[tap], pair, sums[output][1]);
      }
    }
  }
}

/* Whether edgeq_depthwise_3x3, or that by 2, does for a layer. */
EDGEQ_INLINE int edgeq_depthwise_is_3x3(edgeq_map map)
{
  return map.kernel_height == 3 && map.kernel_width == 3 && map.dilation_right == 1 && map.stride_right <= 2 &&
         map.out_width >= 3 && map.quick;
}

/* A row of outputs of a 3 x 3 kernel, stride 1 or 2: for each two channels, three outputs at a time; of the last three,
   some may have been computed before. lines: where the first output's first column begins; the function moves them on,
   as it does weights, parameters and y. column: bytes of a column, twice those of an output. last: how many bytes the
   last three outputs lie behind the three before them. */
typedef struct {
  const uint32_t *lines[3];
  const uint32_t *weights;
  const int32_t *parameters;
  int8_t *y;
  int32_t column, threes, pairs, twice_zero_point_and_one, last;
} edgeq_depthwise_line;

#if defined(EDGEQ_DSP_ASSEMBLY)

#define EDGEQ_DEPTHWISE_TAP(tap, x, even, odd) \
  "smlabb " even ", " tap ", " x ", " even "\n" \
  "smlatt " odd ", " tap ", " x ", " odd "\n"

/* A line: r0 is at its first column, r1 at the weights of its three taps; sums in r2 to r7. */
#define EDGEQ_DEPTHWISE_LINE                    \
  "ldm r1!, {r8-r10}\n"                         \
  "ldr r11, [r0]\n"                             \
  "ldr r12, [r0, lr]\n"                         \
  EDGEQ_DEPTHWISE_TAP("r8", "r11", "r2", "r3")  \
  EDGEQ_DEPTHWISE_TAP("r9", "r12", "r2", "r3")  \
  EDGEQ_DEPTHWISE_TAP("r8", "r12", "r4", "r5")  \
  "add r0, r0, lr, lsl #1\n"                    \
  "ldr r11, [r0]\n"                             \
  "ldr r12, [r0, lr]\n"                         \
  EDGEQ_DEPTHWISE_TAP("r10", "r11", "r2", "r3") \
  EDGEQ_DEPTHWISE_TAP("r9", "r11", "r4", "r5")  \
  EDGEQ_DEPTHWISE_TAP("r8", "r11", "r6", "r7")  \
  "ldr r11, [r0, lr, lsl #1]\n"                 \
  EDGEQ_DEPTHWISE_TAP("r10", "r12", "r4", "r5") \
  EDGEQ_DEPTHWISE_TAP("r9", "r12", "r6", "r7")  \
  EDGEQ_DEPTHWISE_TAP("r10", "r11", "r6", "r7")

#define EDGEQ_DEPTHWISE_LINE_BY_2               \
  "ldm r1!, {r8-r10}\n"                         \
  "ldr r11, [r0]\n"                             \
  "ldr r12, [r0, lr]\n"                         \
  "add r0, r0, lr, lsl #1\n"                    \
  EDGEQ_DEPTHWISE_TAP("r8", "r11", "r2", "r3")  \
  EDGEQ_DEPTHWISE_TAP("r9", "r12", "r2", "r3")  \
  "ldr r11, [r0]\n"                             \
  "ldr r12, [r0, lr]\n"                         \
  "add r0, r0, lr, lsl #1\n"                    \
  EDGEQ_DEPTHWISE_TAP("r10", "r11", "r2", "r3") \
  EDGEQ_DEPTHWISE_TAP("r8", "r11", "r4", "r5")  \
  EDGEQ_DEPTHWISE_TAP("r9", "r12", "r4", "r5")  \
  "ldr r11, [r0]\n"                             \
  "ldr r12, [r0, lr]\n"                         \
  EDGEQ_DEPTHWISE_TAP("r10", "r11", "r4", "r5") \
  EDGEQ_DEPTHWISE_TAP("r8", "r11", "r6", "r7")  \
  "ldr r11, [r0, lr, lsl #1]\n"                 \
  EDGEQ_DEPTHWISE_TAP("r9", "r12", "r6", "r7")  \
  EDGEQ_DEPTHWISE_TAP("r10", "r11", "r6", "r7")

#define EDGEQ_DEPTHWISE_CODE(sum, place)        \
  "add " sum ", r8, " sum ", lsl #1\n"          \
  "smmulr " sum ", " sum ", r9\n"               \
  "add " sum ", " sum ", " sum ", asr #31\n"    \
  "add " sum ", " sum ", r10\n"                 \
  "asr " sum ", " sum ", r11\n"                 \
  "ssat " sum ", #8, " sum "\n"                 \
  "strb " sum ", " place "\n"

/* A channel's bias, multiplier, shift at r5, to twice the bias, multiplier, rounding, right shift at r12. */
#define EDGEQ_DEPTHWISE_PARAMETERS              \
  "ldm r5!, {r7-r9}\n"                          \
  "rsb r10, r9, #0\n"                           \
  "lsl r7, r7, #1\n"                            \
  "lsl r9, r11, r10\n"                          \
  "asr r9, r9, #1\n"                            \
  "stm r12!, {r7-r10}\n"

/* In assembly as edgeq_block_codes is. On the stack, from sp on: the three lines, y, threes left, weights; both
   channels' parameters; the argument; pairs left. */
#define EDGEQ_DEPTHWISE_FUNCTION(name, line, columns)                                       \
  EDGEQ_ASSEMBLY void name(edgeq_depthwise_line *of __attribute__((unused)))                \
  {                                                                                         \
    __asm__(                                                                                \
        "push {r4-r11, lr}\n"                                                               \
        "sub sp, sp, #64\n"                                                                 \
        "ldr r1, [r0, #32]\n"                                                               \
        "str r0, [sp, #56]\n"                                                               \
        "str r1, [sp, #60]\n"                                                               \
        "1:\n"                                                                              \
        "ldr r0, [sp, #56]\n"                                                               \
        "ldr lr, [r0, #24]\n"                                                               \
        "ldr r11, [r0, #36]\n"                                                              \
        "ldm r0, {r1-r6}\n"                                                                 \
        "add r12, sp, #24\n"                                                                \
        EDGEQ_DEPTHWISE_PARAMETERS                                                          \
        EDGEQ_DEPTHWISE_PARAMETERS                                                          \
        "ldr r7, [r0, #28]\n"                                                               \
        "stm sp, {r1-r3}\n"                                                                 \
        "str r6, [sp, #12]\n"                                                               \
        "str r7, [sp, #16]\n"                                                               \
        "str r4, [sp, #20]\n"                                                               \
        "adds r1, #4\n"                                                                     \
        "adds r2, #4\n"                                                                     \
        "adds r3, #4\n"                                                                     \
        "adds r4, #36\n"                                                                    \
        "adds r6, #2\n"                                                                     \
        "stm r0, {r1-r6}\n"                                                                 \
        "2:\n"                                                                              \
        "ldr r0, [sp]\n"                                                                    \
        "ldr r1, [sp, #20]\n"                                                               \
        "movs r2, #0\n"                                                                     \
        "movs r3, #0\n"                                                                     \
        "movs r4, #0\n"                                                                     \
        "movs r5, #0\n"                                                                     \
        "movs r6, #0\n"                                                                     \
        "movs r7, #0\n"                                                                     \
        line                                                                                \
        "ldr r0, [sp, #4]\n"                                                                \
        line                                                                                \
        "ldr r0, [sp, #8]\n"                                                                \
        line                                                                                \
        "add r0, sp, #24\n"                                                                 \
        "ldm r0!, {r8-r11}\n"                                                               \
        "ldr r1, [sp, #12]\n"                                                               \
        "lsr r12, lr, #1\n"                                                                 \
        EDGEQ_DEPTHWISE_CODE("r2", "[r1]")                                                  \
        EDGEQ_DEPTHWISE_CODE("r4", "[r1, r12]")                                             \
        EDGEQ_DEPTHWISE_CODE("r6", "[r1, lr]")                                              \
        "ldm r0, {r8-r11}\n"                                                                \
        "adds r1, #1\n"                                                                     \
        EDGEQ_DEPTHWISE_CODE("r3", "[r1]")                                                  \
        EDGEQ_DEPTHWISE_CODE("r5", "[r1, r12]")                                             \
        EDGEQ_DEPTHWISE_CODE("r7", "[r1, lr]")                                              \
        "ldm sp, {r2-r6}\n"                                                                 \
        "add r9, lr, r12\n"                                                                 \
        "subs r6, #1\n"                                                                     \
        "beq 4f\n"                                                                          \
        "cmp r6, #1\n"                                                                      \
        "beq 5f\n"                                                                          \
        "3:\n"                                                                              \
        "add r2, r2, r9, lsl #" columns "\n"                                                \
        "add r3, r3, r9, lsl #" columns "\n"                                                \
        "add r4, r4, r9, lsl #" columns "\n"                                                \
        "add r5, r5, r9\n"                                                                  \
        "stm sp, {r2-r6}\n"                                                                 \
        "b 2b\n"                                                                            \
        "5:\n"                                                                              \
        "ldr r0, [sp, #56]\n"                                                               \
        "ldr r9, [r0, #40]\n"                                                               \
        "b 3b\n"                                                                            \
        "4:\n"                                                                              \
        "ldr r0, [sp, #60]\n"                                                               \
        "subs r0, #1\n"                                                                     \
        "str r0, [sp, #60]\n"                                                               \
        "bne 1b\n"                                                                          \
        "add sp, sp, #64\n"                                                                 \
        "pop {r4-r11, pc}\n");                                                              \
  }

EDGEQ_DEPTHWISE_FUNCTION(edgeq_depthwise_3x3, EDGEQ_DEPTHWISE_LINE, "1")
EDGEQ_DEPTHWISE_FUNCTION(edgeq_depthwise_3x3_by_2, EDGEQ_DEPTHWISE_LINE_BY_2, "2")

#else

EDGEQ_INLINE void edgeq_depthwise_3x3_by(edgeq_depthwise_line *of, int32_t stride)
{
  const int32_t channels = of->column / 2, apart = of->column / 4;
  for (int32_t pair = 0; pair < of->pairs; pair++, of->weights += 9, of->parameters += 2 * EDGEQ_PARAMETERS) {
    int32_t first = 0;
    for (int32_t three = 0; three < of->threes; three++) {
      first += three == 0 ? 0 : three == of->threes - 1 ? of->last / channels : 3;
      for (int32_t output = first; output < first + 3; output++) {
        int32_t even = 0, odd = 0;
        for (int32_t tap = 0; tap < 9; tap++) {
          const uint32_t both = of->lines[tap / 3][(output * stride + tap % 3) * apart + pair];
          even = edgeq_smlabb(of->weights[tap], both, even);
          odd = edgeq_smlatt(of->weights[tap], both, odd);
        }
        int8_t *to = of->y + output * channels + 2 * pair;
        to[0] = (int8_t)edgeq_quick_code(even, of->parameters, of->twice_zero_point_and_one);
        to[1] = (int8_t)edgeq_quick_code(odd, of->parameters + EDGEQ_PARAMETERS, of->twice_zero_point_and_one);
      }
    }
  }
}

EDGEQ_INLINE void edgeq_depthwise_3x3(edgeq_depthwise_line *of)
{
  edgeq_depthwise_3x3_by(of, 1);
}

EDGEQ_INLINE void edgeq_depthwise_3x3_by_2(edgeq_depthwise_line *of)
{
  edgeq_depthwise_3x3_by(of, 2);
}

#endif

/* A filter a channel, channels a multiple of 4. scratch: weights as pairs, (channels / 2, kernel_height, kernel_width)
   words; then a ring of rows, edgeq_depthwise_rows times edgeq_depthwise_columns times channels / 2 words. */
EDGEQ_INLINE void edgeq_depthwise_dsp(edgeq_map map, const int8_t *x, const int8_t *weights, const int32_t *parameters,
                                      int8_t *scratch, int8_t *y)
{
  const int32_t taps = map.kernel_height * map.kernel_width, rows = edgeq_depthwise_rows(map);
  const int32_t row_pairs = edgeq_depthwise_columns(map) * map.channels / 2;
  const int32_t together = map.out_width < EDGEQ_DEPTHWISE_TOGETHER ? map.out_width : EDGEQ_DEPTHWISE_TOGETHER;
  uint32_t *pairs = (uint32_t *)(void *)scratch, *ring = pairs + taps * map.channels / 2;
  for (int32_t tap = 0; tap < taps; tap++) {
    edgeq_widen_neighbours(weights + tap * map.channels, map.channels, pairs + tap, taps);
  }
  int32_t ready = 0;
  for (int32_t row = 0; row < map.out_height; row++) {
    const uint32_t *lines[EDGEQ_DEPTHWISE_MOST];
    for (; ready < row * map.stride_down + rows; ready++) {
      edgeq_depthwise_row(map, x, ready - map.above, ring + ready % rows * row_pairs);
    }
    for (int32_t down = 0; down < map.kernel_height; down++) {
      lines[down] = ring + (row * map.stride_down + down * map.dilation_down) % rows * row_pairs;
    }
    if (edgeq_depthwise_is_3x3(map)) {
      edgeq_depthwise_line line = {{lines[0], lines[1], lines[2]}, pairs, parameters,
                                   y + row * map.out_width * map.channels, 2 * map.channels, (map.out_width + 2) / 3,
                                   map.channels / 2, 2 * map.zero_point + 1,
                                   ((map.out_width + 2) % 3 + 1) * map.channels};
      if (map.stride_right == 1) {
        edgeq_depthwise_3x3(&line);
      } else {
        edgeq_depthwise_3x3_by_2(&line);
      }
      continue;
    }
    for (int32_t column = 0; column < map.out_width; column += together) {
      const int32_t first = column < map.out_width - together ? column : map.out_width - together;
      const int32_t *own = parameters;
      const uint32_t *weight = pairs;
      int8_t *to = y + (row * map.out_width + first) * map.channels;
      for (int32_t pair = 0; pair < map.channels / 2; pair++, own += 2 * EDGEQ_PARAMETERS, to += 2) {
        const int32_t place = first * map.stride_right * map.channels / 2 + pair;
        int32_t sums[EDGEQ_DEPTHWISE_TOGETHER][2] = {{0, 0}, {0, 0}, {0, 0}};
        EDGEQ_KEEP_LOOP
        for (int32_t down = 0; down < map.kernel_height; down++, weight += map.kernel_width) {
          edgeq_depthwise_taps(map, together, lines[down] + place, weight, sums);
        }
        EDGEQ_UNROLL
        for (int32_t n = 0; n < 2 * together; n++) {
          const int32_t *of = own + n % 2 * EDGEQ_PARAMETERS;
          to[n / 2 * map.channels + n % 2] =
              map.quick ? (int8_t)edgeq_quick_code(sums[n / 2][n % 2], of, 2 * map.zero_point + 1)
                        : edgeq_code(map, (uint32_t)sums[n / 2][n % 2], of);
        }
      }
    }
  }
  if (map.quick) {
    edgeq_limit(map, y);
  }
}

#endif

EDGEQ_INLINE void edgeq_depthwise(edgeq_map map, const int8_t *x, const int8_t *weights, const int32_t *parameters,
                                  int8_t *scratch, int8_t *y)
{
#if defined(EDGEQ_DSP)
  if (map.channels % 4 == 0 && map.filters == map.channels && map.kernel_height <= EDGEQ_DEPTHWISE_MOST &&
      map.kernel_width <= EDGEQ_DEPTHWISE_MOST) {
    edgeq_depthwise_dsp(map, x, weights, parameters, scratch, y);
    return;
  }
#endif
  edgeq_depthwise_portable(map, x, weights, parameters, scratch, y);
}

#endif
