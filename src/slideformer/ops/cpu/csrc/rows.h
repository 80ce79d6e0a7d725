/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of a map as float32: the one place that knows dtypes and strides. */
#ifndef SLIDEFORMER_ROWS_H
#define SLIDEFORMER_ROWS_H

#include "slideformer.h"
#include "vectors.h"

typedef uint32_t uvec __attribute__((vector_size(4 * LANES)));
typedef uint16_t halves __attribute__((vector_size(2 * LANES)));
typedef uint16_t loose_halves __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

INLINE uvec choose(uvec where, uvec x, uvec other) { return (x & where) | (other & ~where); }
INLINE uvec widen(halves x) { return __builtin_convertvector(x, uvec); }
INLINE halves narrow(uvec x) { return __builtin_convertvector(x, halves); }

INLINE vec from_bfloat16(halves x) { return (vec)(widen(x) << 16); }

INLINE halves to_bfloat16(vec x) {
  uvec bits = (uvec)x, rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  return narrow(choose((uvec)(x != x), (uvec){0} + 0x7fc0, rounded));
}

INLINE vec from_float16(halves x) {
  /* The exponent is right after a multiplication, which also makes subnormal numbers normal. */
  uvec bits = widen(x), size = (uvec)((vec)((bits & 0x7fff) << 13) * 0x1p112f);
  size |= (uvec)((bits & 0x7c00) == 0x7c00) & 0x7f800000u;
  return (vec)(size | (bits & 0x8000) << 16);
}

INLINE halves to_float16(vec x) {
  uvec bits = (uvec)x, sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
  /* Normal numbers round to even on the bits; subnormal ones by an addition that aligns them. */
  uvec normal = (size - 0x38000000u + 0xfff + (size >> 13 & 1)) >> 13;
  uvec subnormal = (uvec)((vec)size + 0.5f) - 0x3f000000u;
  uvec result = choose((uvec)(size < 0x38800000u), subnormal, normal);
  result = choose((uvec)(size >= 0x477ff000u), (uvec){0} + 0x7c00, result);
  result = choose((uvec)(size > 0x7f800000u), (uvec){0} + 0x7e00, result);
  return narrow(sign | result);
}

/* A vector of channels in a map. */
INLINE vec read_vector(const void *from, int dtype) {
  /* The compiler is not to make a call of the C library of a row of these. */
  if (dtype == SLIDEFORMER_FLOAT32) return load_once(from);
  halves x = *(const loose_halves *)from;
  return dtype == SLIDEFORMER_BFLOAT16 ? from_bfloat16(x) : from_float16(x);
}

INLINE void write_vector(vec x, int dtype, void *to) {
  if (dtype == SLIDEFORMER_FLOAT32) {
    store(to, x);
  } else {
    *(loose_halves *)to = dtype == SLIDEFORMER_BFLOAT16 ? to_bfloat16(x) : to_float16(x);
  }
}

/* Channels of one position of a map in whole vectors, with zeros after the last. */
INLINE void read_channels(const char *from, int dtype, int64_t channels, float *to) {
  int64_t size = dtype == SLIDEFORMER_FLOAT32 ? 4 : 2, c = 0;
  for (; c + LANES <= channels; c += LANES) store(to + c, read_vector(from + c * size, dtype));
  if (c == channels) return;
  float rest[LANES] = {0};
  memcpy(rest, from + c * size, (size_t)((channels - c) * size));
  store(to + c, read_vector(rest, dtype));
}

INLINE void write_channels(const float *from, int dtype, int64_t channels, char *to) {
  int64_t size = dtype == SLIDEFORMER_FLOAT32 ? 4 : 2, c = 0;
  for (; c + LANES <= channels; c += LANES) write_vector(load(from + c), dtype, to + c * size);
  if (c == channels) return;
  float rest[LANES];
  write_vector(load(from + c), dtype, rest);
  memcpy(to + c * size, rest, (size_t)((channels - c) * size));
}

/* A row of a map in memory: position x has the channels of a head side by side at data + x stride, and those of the
 * next head `head` further on. */
struct row {
  char *data;
  int64_t stride, head; /* bytes */
  int dtype;
};

/* Where a row starts: batch, plane, row, column and head. */
struct start {
  int64_t index[5];
};

static inline struct row row_of(const struct slideformer_map *map, int dtype, struct start start) {
  int64_t size = dtype == SLIDEFORMER_FLOAT32 ? 4 : 2, place = 0;
  for (int i = 0; i < 5; i++) place += start.index[i] * map->stride[i];
  return (struct row){(char *)map->data + place * size, map->stride[3] * size, map->stride[4] * size, dtype};
}

static inline struct row row_of_floats(float *data, int64_t channels) {
  return (struct row){(char *)data, channels * (int64_t)sizeof(float), 0, SLIDEFORMER_FLOAT32};
}

/* Zeros in whole vectors. */
static inline void clear(float *x, int64_t count) {
  for (int64_t c = 0; c < count; c += LANES) store(x + c, (vec){0});
}

/* By head and position, in whole vectors; heads are `apart`. Read as it lies in memory: all heads of a position, then
 * the next. */
INLINE void load_row_of(int dtype, struct row row, int64_t width, int64_t channels, int64_t heads, float *to,
                        int64_t pitch, int64_t apart) {
  for (int64_t x = 0; x < width; x++) {
    for (int64_t head = 0; head < heads; head++) {
      read_channels(row.data + x * row.stride + head * row.head, dtype, channels, to + x * pitch + head * apart);
    }
  }
}

INLINE void store_row_of(int dtype, const float *from, int64_t pitch, int64_t apart, int64_t width, int64_t channels,
                         int64_t heads, struct row row) {
  for (int64_t x = 0; x < width; x++) {
    for (int64_t head = 0; head < heads; head++) {
      write_channels(from + x * pitch + head * apart, dtype, channels, row.data + x * row.stride + head * row.head);
    }
  }
}

/* A loop of its own for each dtype. */
#define EACH_DTYPE(F, dtype, ...)                                                                   \
  if ((dtype) == SLIDEFORMER_FLOAT32) F(SLIDEFORMER_FLOAT32, __VA_ARGS__);                          \
  if ((dtype) == SLIDEFORMER_BFLOAT16) F(SLIDEFORMER_BFLOAT16, __VA_ARGS__);                        \
  if ((dtype) == SLIDEFORMER_FLOAT16) F(SLIDEFORMER_FLOAT16, __VA_ARGS__)

static inline void load_row(struct row row, int64_t width, int64_t channels, int64_t heads, float *to, int64_t pitch,
                            int64_t apart) {
  EACH_DTYPE(load_row_of, row.dtype, row, width, channels, heads, to, pitch, apart);
}

static inline void store_row(const float *from, int64_t pitch, int64_t apart, int64_t width, int64_t channels,
                             int64_t heads, struct row row) {
  EACH_DTYPE(store_row_of, row.dtype, from, pitch, apart, width, channels, heads, row);
}

#endif
