/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of a map as float32: the one place that knows dtypes and strides. */
#ifndef SLIDEFORMER_ROWS_H
#define SLIDEFORMER_ROWS_H

#include "slideformer.h"
#include "vectors.h"

static inline float from_bfloat16(uint16_t x) {
  uint32_t bits = (uint32_t)x << 16;
  float y;
  memcpy(&y, &bits, 4);
  return y;
}

static inline uint16_t to_bfloat16(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  return x != x ? 0x7fc0 : rounded;
}

static inline float from_float16(uint16_t x) {
  /* The exponent is right after a multiplication, which also makes subnormal numbers normal. */
  uint32_t bits = (uint32_t)(x & 0x7fff) << 13, sign = (uint32_t)(x & 0x8000) << 16;
  float y;
  memcpy(&y, &bits, 4);
  y *= 0x1p112f;
  memcpy(&bits, &y, 4);
  bits |= (x & 0x7c00) == 0x7c00 ? 0x7f800000u : 0u;
  bits |= sign;
  memcpy(&y, &bits, 4);
  return y;
}

static inline uint16_t to_float16(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  uint32_t sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
  /* Normal numbers round to even on the bits; subnormal ones by an addition that aligns them. */
  uint32_t normal = (size - 0x38000000u + 0xfff + (size >> 13 & 1)) >> 13;
  float small;
  memcpy(&small, &size, 4);
  small += 0.5f;
  uint32_t subnormal;
  memcpy(&subnormal, &small, 4);
  subnormal -= 0x3f000000u;
  uint32_t result = size < 0x38800000u ? subnormal : normal;
  result = size >= 0x477ff000u ? 0x7c00u : result;
  result = size > 0x7f800000u ? 0x7e00u : result;
  return (uint16_t)(sign | result);
}

/* The C library's copies are made for more than the few bytes of a head; a compiler must not see one here. */
static inline void copy_floats(const float *from, int64_t count, float *to) {
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) store(to + i, load_once(from + i));
  for (; i < count; i++) to[i] = from[i];
}

static inline void to_floats(const void *restrict from, int dtype, int64_t count, float *restrict to) {
  const uint16_t *halves = from;
  if (dtype == SLIDEFORMER_FLOAT32) {
    copy_floats(from, count, to);
  } else if (dtype == SLIDEFORMER_BFLOAT16) {
    for (int64_t i = 0; i < count; i++) to[i] = from_bfloat16(halves[i]);
  } else {
    for (int64_t i = 0; i < count; i++) to[i] = from_float16(halves[i]);
  }
}

static inline void from_floats(const float *restrict from, int dtype, int64_t count, void *restrict to) {
  uint16_t *halves = to;
  if (dtype == SLIDEFORMER_FLOAT32) {
    copy_floats(from, count, to);
  } else if (dtype == SLIDEFORMER_BFLOAT16) {
    for (int64_t i = 0; i < count; i++) halves[i] = to_bfloat16(from[i]);
  } else {
    for (int64_t i = 0; i < count; i++) halves[i] = to_float16(from[i]);
  }
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

/* By head and position, with zeros in the channels from D to the pitch; heads are `apart`. Read as it lies in memory:
 * all heads of a position, then the next. */
static inline void load_row(struct row row, int64_t width, int64_t channels, int64_t heads, float *to, int64_t pitch,
                            int64_t apart) {
  int whole = row.dtype == SLIDEFORMER_FLOAT32 && channels == pitch;
  for (int64_t x = 0; x < width && whole; x++, to += pitch) {
    const char *from = row.data + x * row.stride;
    for (int64_t head = 0; head < heads; head++) {
      for (int64_t c = 0; c < pitch; c += LANES) {
        store(to + head * apart + c, load_once((const float *)(from + head * row.head) + c));
      }
    }
  }
  for (int64_t x = 0; x < width && !whole; x++, to += pitch) {
    for (int64_t head = 0; head < heads; head++) {
      float *channel = to + head * apart;
      to_floats(row.data + x * row.stride + head * row.head, row.dtype, channels, channel);
      for (int64_t c = channels; c < pitch; c++) channel[c] = 0;
    }
  }
}

/* Zeros in whole vectors. */
static inline void clear(float *x, int64_t count) {
  for (int64_t c = 0; c < count; c += LANES) store(x + c, (vec){0});
}

static inline void store_row(const float *from, int64_t pitch, int64_t apart, int64_t width, int64_t channels,
                             int64_t heads, struct row row) {
  for (int64_t x = 0; x < width; x++, from += pitch) {
    for (int64_t head = 0; head < heads; head++) {
      from_floats(from + head * apart, row.dtype, channels, row.data + x * row.stride + head * row.head);
    }
  }
}

#endif
