/* SPDX-License-Identifier: Apache-2.0 */
/* The deformed shift: lanes are pixels, channels are planes (see deformed.c). */
#ifndef SLIDEFORMER_DEFORMED_H
#define SLIDEFORMER_DEFORMED_H

#include "isa.h"
#include "rows.h"

enum { STEP = BLOCK * LANES };

/* The rows that the next band loads, and those that this one stores to, on their way into the cache while
 * this one is computed: a head's channels are too scattered for the processor to foresee them. A few lines
 * at a time: many at once wait for each other. */
struct fetch {
  const char *line[7];
  int64_t reads, maps;              /* maps to read from, and after them to write to */
  int64_t stride[7], skip[7];       /* bytes from position to position, and from the end of a row to the next */
  int64_t bytes;                    /* of the channels of a position */
  int64_t width, x, left;           /* positions of a row, place in it, and positions to go */
  int64_t every;                    /* channels between two positions, in two passes over a step's channels */
};

INLINE void fetch_position(struct fetch *fetch) {
  if (fetch->left == 0) return;
  fetch->left--;
  int at_end = ++fetch->x == fetch->width;
  if (at_end) fetch->x = 0;
  for (int64_t i = 0; i < fetch->maps; i++) {
    const char *line = fetch->line[i];
    if (i < fetch->reads) {
      for (int64_t byte = 0; byte < fetch->bytes; byte += 64) __builtin_prefetch(line + byte, 0, 2);
    } else {
      for (int64_t byte = 0; byte < fetch->bytes; byte += 64) __builtin_prefetch(line + byte, 1, 2);
    }
    fetch->line[i] = line + fetch->stride[i] + (at_end ? fetch->skip[i] : 0);
  }
}

/* Some rows of positions, R, of one head of one map, and the rows of keys and values that they read.
 *
 * Rows lie `pitch` apart: the map's width and zeros as wide as windows reach out of it, which serve the
 * end of one row and the start of the next. So an input tap is one offset for every position, and the
 * places of a band are one line n = y pitch + x, cut into whole vectors; those between the rows are
 * computed with the others and left out by `valid`. */
struct band {
  const struct plan *plan;
  int64_t rows_most, pitch, reach; /* reach: places from the first row of keys to that of positions, doubled */
  int64_t length_most, query_plane, key_plane, margin, product_plane;
  float *query, *grad_output;      /* (D, query_plane), scaled queries */
  float *key, *value;              /* (D, key_plane), after `before` zeros */
  float *weights, *grad_logits;    /* (T padded, length): A, and the gradient of the logits */
  float *valid;                    /* (length): 1 where a position is, else 0 */
  float *key_bias, *value_bias;    /* (blocks, D, TAPS): what shift and key bias add to keys and values, or NULL */
  float *logit_bias;               /* (T padded) */
  int64_t *offset;                 /* (T) of the input taps */
  float *halves;
  float *products, *gathered, *grad_query, *query_sum; /* backward: (T, product_plane) and lines */
  float *key_carry, *value_carry;  /* (D, reach + LANES): sums for rows that the next band adds to */
  vec *sums;
  struct piece piece, next_piece;
  int64_t first, rows, length;     /* of the band at hand */
  struct fetch fetch;
};

size_t NAMED(slideformer_band)(struct band *band, const struct plan *plan, char *scratch);
/* Set what depends on the head. */
void NAMED(slideformer_band_head)(struct band *band, int64_t head);
/* Load a band's rows; those that the last band of the same piece has in common are there already. */
void NAMED(slideformer_band_load)(struct band *band, int64_t first);

/* Start a unit's piece. */
void NAMED(slideformer_band_piece)(struct band *band, int64_t unit, int64_t number);

/* Each row of keys but the common ones, moved to where the next band has them. */
static inline void keep_common_rows(const struct band *band, float *plane) {
  memmove(plane, plane + band->rows * band->pitch, (size_t)band->reach * sizeof(float));
}

/* y_t = sum_c x_c (sum_u W[c, t, u] m_c(+ u) + bias[c, t]) for TAPS output taps and a step of places. */
INLINE void contract(const float *x, int64_t x_plane, const float *m, int64_t m_plane, int64_t channels,
                     int64_t taps, const int64_t *offset, const float *weight, const float *bias,
                     struct fetch *fetch, vec y[TAPS][BLOCK]) {
  vec sum[TAPS][BLOCK];
  UNROLL for (int t = 0; t < TAPS; t++) UNROLL for (int i = 0; i < BLOCK; i++) sum[t][i] = (vec){0};
  for (int64_t c = 0; c < channels; c++, x += x_plane, m += m_plane) {
    vec factor[BLOCK];
    if (c % fetch->every == 0) fetch_position(fetch);
    UNROLL for (int i = 0; i < BLOCK; i++) factor[i] = load(x + i * LANES);
    for (int64_t u = 0; u < taps; u++, weight += TAPS) {
      const float *seen = m + offset[u];
      vec product[BLOCK];
      UNROLL for (int i = 0; i < BLOCK; i++) product[i] = factor[i] * load(seen + i * LANES);
      UNROLL for (int t = 0; t < TAPS; t++) {
        vec factor_t = broadcast(weight + t);
        UNROLL for (int i = 0; i < BLOCK; i++) sum[t][i] += factor_t * product[i];
      }
    }
    if (bias) {
      UNROLL for (int t = 0; t < TAPS; t++) {
        UNROLL for (int i = 0; i < BLOCK; i++) sum[t][i] += bias[t] * factor[i];
      }
      bias += TAPS;
    }
  }
  UNROLL for (int t = 0; t < TAPS; t++) UNROLL for (int i = 0; i < BLOCK; i++) y[t][i] = sum[t][i];
}

/* `contract` for every block of output taps: (T padded, pitch). */
INLINE void contract_all(struct band *band, const float *x, const float *m, const float *bias, float *y,
                         int64_t pitch) {
  const struct plan *plan = band->plan;
  int64_t channels = plan->call->channels, taps = plan->taps;
  for (int64_t block = 0; block < plan->blocks; block++) {
    vec part[TAPS][BLOCK];
    const float *weight = plan->weight + block * channels * taps * TAPS;
    const float *add = bias ? bias + block * channels * TAPS : NULL;
    if (taps == 9) {
      contract(x, band->query_plane, m, band->key_plane, channels, 9, band->offset, weight, add, &band->fetch,
               part);
    } else {
      contract(x, band->query_plane, m, band->key_plane, channels, taps, band->offset, weight, add, &band->fetch,
               part);
    }
    for (int t = 0; t < TAPS; t++, y += pitch) {
      for (int i = 0; i < BLOCK; i++) store(y + i * LANES, part[t][i]);
    }
  }
}

/* Logits to weights, over the taps, in place; 0 where no position is, and for the taps beyond T. */
INLINE void softmax(const struct band *band, float *y, int64_t pitch, const float *valid) {
  int64_t taps = band->plan->taps, padded = band->plan->blocks * TAPS;
  for (int i = 0; i < BLOCK; i++, y += LANES, valid += LANES) {
    vec most = load(y) + band->logit_bias[0], sum = {0};
    for (int64_t t = 1; t < taps; t++) most = larger(load(y + t * pitch) + band->logit_bias[t], most);
    for (int64_t t = 0; t < taps; t++) {
      vec e = exp_negative(load(y + t * pitch) + band->logit_bias[t] - most);
      store(y + t * pitch, e);
      sum += e;
    }
    vec inverse = 1.0f / sum;
    ivec here = load(valid) != (vec){0};
    for (int64_t t = 0; t < taps; t++) {
      store(y + t * pitch, (vec)((ivec)(load(y + t * pitch) * inverse) & here));
    }
    for (int64_t t = taps; t < padded; t++) store(y + t * pitch, (vec){0});
  }
}

/* With f_u = sum_t y_t W[c, t, u]: adds sum_u f_u m_c(+ u) + sum_t y_t bias[c, t] to out, and f_u x_c to
 * the products of each input tap u, for one channel, TAPS output taps and a step of places; `fresh`
 * overwrites. */
INLINE void spread(const vec y[TAPS][BLOCK], int64_t taps, const int64_t *offset, const float *weight,
                   const float *bias, const float *m, float *out, const float *x, float *products,
                   int64_t product_plane, int fresh) {
  vec total[BLOCK], factor[BLOCK];
  UNROLL for (int i = 0; i < BLOCK; i++) {
    total[i] = !out || fresh ? (vec){0} : load(out + i * LANES);
    factor[i] = x ? load(x + i * LANES) : (vec){0};
  }
  if (out && bias) {
    UNROLL for (int t = 0; t < TAPS; t++) {
      UNROLL for (int i = 0; i < BLOCK; i++) total[i] += bias[t] * y[t][i];
    }
  }
  for (int64_t u = 0; u < taps; u++, weight += TAPS) {
    vec f[BLOCK];
    UNROLL for (int t = 0; t < TAPS; t++) {
      vec factor_t = broadcast(weight + t);
      UNROLL for (int i = 0; i < BLOCK; i++) f[i] = t == 0 ? factor_t * y[t][i] : f[i] + factor_t * y[t][i];
    }
    UNROLL for (int i = 0; i < BLOCK; i++) {
      if (out) total[i] += f[i] * load(m + offset[u] + i * LANES);
      if (products) {
        float *place = products + u * product_plane + i * LANES;
        store(place, f[i] * factor[i] + (fresh ? (vec){0} : load(place)));
      }
    }
  }
  if (out) UNROLL for (int i = 0; i < BLOCK; i++) store(out + i * LANES, total[i]);
}

#endif
