/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of one head of one map that a thread works on, as float32, and what its gradients add up to. */
#ifndef SLIDEFORMER_CACHE_H
#define SLIDEFORMER_CACHE_H

#include "isa.h"
#include "rows.h"

/* Positions whose weights are held at a time, and vectors of the two usual widths of a head. */
enum { CHUNK = 32, HEAD32 = 32 / LANES };

/* A row of positions as float32 in whole vectors, the channels of position x at data + x pitch: the map's
 * own row where it is that already, else a copy with zeros after the last channel. */
struct line {
  float *data;
  int64_t pitch;
};

/* Rows to read next, and rows to write soon, on their way into the cache while one is computed. */
struct ahead {
  struct row row[7];
  int reads, rows;
};

/* Rows of keys and values as float32 with the zeros that windows reach, in rings: row y is at y % slots. */
struct cache {
  const struct plan *plan;
  int64_t keys, values, lanes; /* D, D' and T in whole vectors, in floats */
  int64_t width, slots;        /* of a row with its zeros; rows of the ring */
  int64_t loaded, stored;      /* rows of the map so far */
  float *key, *value, *grad_key, *grad_value; /* (slots, width, keys or values) */
  float *outside, *grad_outside; /* a row of zeros that is read for rows out of the map, one to write to */
  struct line query, grad_query, output, grad_output; /* of the row at hand */
  float *queries, *grad_queries, *outputs, *grad_outputs; /* their (W, keys or values) where not in place */
  float *weights, *grad_logits;  /* (CHUNK, lanes), or of the deformed shift (T padded, CHUNK) */
  const float **key_tap, **value_tap; /* (T): where a tap reads for the first column */
  float **grad_key_tap, **grad_value_tap;
  float *logit_offset, *grad_logit_offset; /* (variants, lanes): what is added to the logits */
  int64_t variants, *variant, *variant_column; /* columns whose taps have the same places are one variant */
  int64_t row_kind;                            /* of the row that the table is for; -1: none */
  float *shift_bias, *grad_shift_bias;         /* (T padded, keys), or NULL */
  float *key_bias, *grad_key_bias;             /* (lanes), or NULL */
  int64_t unit, row; /* the unit, and a row of positions of that kind */
  struct piece piece;
  struct ahead ahead;
  int64_t bytes; /* of a position's channels in the maps */
};

size_t NAMED(slideformer_cache)(struct cache *cache, const struct plan *plan, char *scratch);
/* Start a piece: take the parameters of its head, and nothing is summed yet. */
void NAMED(slideformer_cache_piece)(struct cache *cache);
/* Make a row of positions ready: rows of keys and values, where taps read, what is added to logits. */
void NAMED(slideformer_cache_row)(struct cache *cache, int64_t y);
/* Store what was computed of a row of positions. */
void NAMED(slideformer_cache_store)(struct cache *cache, int64_t y);
/* Fetch a position of the rows ahead. A few lines at a time, between the sums: many at once wait for each other. */
INLINE void fetch(const struct cache *cache, int64_t x) {
  const struct ahead *ahead = &cache->ahead;
  int64_t bytes = cache->bytes;
  for (int i = 0; i < ahead->rows; i++) {
    const char *line = ahead->row[i].data + x * ahead->row[i].stride;
    if (i < ahead->reads) {
      for (int64_t byte = 0; byte < bytes; byte += 64) __builtin_prefetch(line + byte, 0, 2);
    } else {
      for (int64_t byte = 0; byte < bytes; byte += 64) __builtin_prefetch(line + byte, 1, 2);
    }
  }
}

/* Sum the gradients of what was added to logits into the unit's. */
void NAMED(slideformer_cache_flush_offset)(struct cache *cache);

#endif
