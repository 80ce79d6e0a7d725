/* SPDX-License-Identifier: Apache-2.0 */
/* The deformed shift: lanes are channels in all sums over taps, and positions in the softmax (see deformed.c). */
#ifndef SLIDEFORMER_DEFORMED_H
#define SLIDEFORMER_DEFORMED_H

#include "cache.h"

/* sum_u W[c, t, u] x_c m_c(+ u) + x_c bias[t, c], lane by lane and so not yet summed over them, of `pixels`
 * positions in a row, for TAPS output taps. A weight is loaded once for all of these positions. */
INLINE void contract(int pixels, int64_t taps, int64_t vectors, const float *x, const float *const *tap, int64_t at,
                     const float *weight, const float *bias, vec (*part)[LANES]) {
  int64_t pitch = vectors * LANES;
  vec sum[PIXELS][TAPS];
  UNROLL for (int i = 0; i < pixels; i++) UNROLL for (int t = 0; t < TAPS; t++) sum[i][t] = (vec){0};
  for (int64_t c = 0; c < pitch; c += LANES) {
    vec factor[PIXELS];
    UNROLL for (int i = 0; i < pixels; i++) factor[i] = load(x + i * pitch + c);
    for (int64_t u = 0; u < taps; u++, weight += TAPS * LANES) {
      const float *m = tap[u] + at + c;
      vec product[PIXELS];
      UNROLL for (int i = 0; i < pixels; i++) product[i] = factor[i] * load(m + i * pitch);
      UNROLL for (int t = 0; t < TAPS; t++) {
        vec shared = load_once(weight + t * LANES);
        UNROLL for (int i = 0; i < pixels; i++) sum[i][t] += shared * product[i];
      }
    }
    if (bias) {
      UNROLL for (int t = 0; t < TAPS; t++) {
        vec shared = load_once(bias + t * pitch + c);
        UNROLL for (int i = 0; i < pixels; i++) sum[i][t] += shared * factor[i];
      }
    }
  }
  UNROLL for (int t = 0; t < TAPS; t++) UNROLL for (int i = 0; i < pixels; i++) part[t][i] = sum[i][t];
}

/* y_t = sum_c x_c (sum_u W[c, t, u] m_c(+ u) + bias[t, c]) of a chunk of positions: (T padded, CHUNK). */
INLINE void contract_chunk(const struct cache *cache, const float *x, const float *const *tap, int64_t at,
                           int64_t count, int64_t column, float *y) {
  const struct plan *plan = cache->plan;
  int64_t taps = plan->taps, keys = cache->keys;
  for (int64_t block = 0; block < plan->blocks; block++) {
    const float *weight = plan->weight + weight_place(plan, block * TAPS, 0, 0);
    const float *bias = cache->shift_bias ? cache->shift_bias + block * TAPS * keys : NULL;
    for (int64_t first = 0; first < count; first += LANES) {
      int64_t i = 0, some = smaller_of(LANES, count - first);
      vec part[TAPS][LANES];
      for (; i + PIXELS <= some; i += PIXELS) {
        int64_t place = (first + i) * keys;
        if (column >= 0) UNROLL for (int64_t p = 0; p < PIXELS; p++) fetch(cache, column + first + i + p);
        vec(*to)[LANES] = (vec(*)[LANES])(&part[0][i]);
        if (taps == 9 && keys == HEAD32 * LANES) {
          contract(PIXELS, 9, HEAD32, x + place, tap, at + place, weight, bias, to);
        } else {
          contract(PIXELS, taps, keys / LANES, x + place, tap, at + place, weight, bias, to);
        }
      }
      for (; i < some; i++) {
        int64_t place = (first + i) * keys;
        contract(1, taps, keys / LANES, x + place, tap, at + place, weight, bias, (vec(*)[LANES])(&part[0][i]));
      }
      for (int t = 0; t < TAPS; t++) {
        for (i = some; i < LANES; i++) part[t][i] = (vec){0};
        store(y + (block * TAPS + t) * CHUNK + first, sums(part[t]));
      }
    }
  }
}

/* The sum of the queries' channels, by which a key bias counts, of LANES positions or fewer. */
static inline vec query_sums(const struct cache *cache, const float *query, int64_t count) {
  vec sum[LANES];
  for (int64_t i = 0; i < LANES; i++) {
    sum[i] = (vec){0};
    for (int64_t c = 0; i < count && c < cache->keys; c += LANES) sum[i] += load(query + i * cache->keys + c);
  }
  return sums(sum);
}

/* Logits of a chunk to its weights, in place; 0 for the taps beyond T. */
static inline void softmax_chunk(const struct cache *cache, const float *query, int64_t count, float *y) {
  int64_t taps = cache->plan->taps, padded = cache->plan->blocks * TAPS;
  for (int64_t first = 0; first < count; first += LANES, y += LANES) {
    vec query_sum = {0}, most = splat(-INFINITY), sum = {0};
    if (cache->key_bias) query_sum = query_sums(cache, query + first * cache->keys, count - first);
    for (int64_t t = 0; t < taps; t++) {
      vec logit = load(y + t * CHUNK) + cache->logit_offset[t];
      if (cache->key_bias) logit += query_sum * cache->key_bias[t];
      store(y + t * CHUNK, logit);
      most = larger(logit, most);
    }
    for (int64_t t = 0; t < taps; t++) {
      vec e = exp_negative(load(y + t * CHUNK) - most);
      store(y + t * CHUNK, e);
      sum += e;
    }
    vec inverse = 1.0f / sum;
    for (int64_t t = 0; t < taps; t++) store(y + t * CHUNK, load(y + t * CHUNK) * inverse);
    for (int64_t t = taps; t < padded; t++) store(y + t * CHUNK, (vec){0});
  }
}

/* With f_u = sum_t y_t W[c, t, u], for some input taps and one vector of channels: adds f_u m_c(+ u) to
 * out, and f_u x_c to the gradient of m_c(+ u). */
INLINE void spread_taps(int pixels, int some, int64_t taps, int64_t pitch, const vec y[PIXELS][TAPS],
                        const float *weight, const float *const *tap, float *const *grad_tap, int64_t at,
                        const vec x[PIXELS], vec out[PIXELS]) {
  vec f[TOGETHER][PIXELS];
  (void)taps;
  UNROLL for (int t = 0; t < TAPS; t++) {
    UNROLL for (int u = 0; u < some; u++) {
      vec shared = load_once(weight + (u * TAPS + t) * LANES);
      UNROLL for (int i = 0; i < pixels; i++) f[u][i] = t == 0 ? shared * y[i][t] : f[u][i] + shared * y[i][t];
    }
  }
  UNROLL for (int u = 0; u < some; u++) {
    UNROLL for (int i = 0; i < pixels; i++) {
      if (tap) out[i] += f[u][i] * load(tap[u] + at + i * pitch);
      if (grad_tap) {
        float *to = grad_tap[u] + at + i * pitch;
        store(to, load(to) + f[u][i] * x[i]);
      }
    }
  }
}

/* The same for all input taps and channels of `pixels` positions; y has the position in its first lane. */
INLINE void spread(int pixels, int64_t taps, int64_t vectors, const float *y, const float *weight, const float *bias,
                   const float *const *tap, float *const *grad_tap, int64_t at, const float *x, float *out,
                   int fresh) {
  int64_t pitch = vectors * LANES;
  vec factor[PIXELS][TAPS];
  UNROLL for (int i = 0; i < pixels; i++) UNROLL for (int t = 0; t < TAPS; t++) factor[i][t] = broadcast(y + t * CHUNK + i);
  for (int64_t c = 0; c < pitch; c += LANES) {
    vec total[PIXELS], other[PIXELS];
    UNROLL for (int i = 0; i < pixels; i++) {
      total[i] = !out || fresh ? (vec){0} : load(out + i * pitch + c);
      other[i] = x ? load(x + i * pitch + c) : (vec){0};
    }
    if (out && bias) {
      UNROLL for (int t = 0; t < TAPS; t++) {
        vec shared = load_once(bias + t * pitch + c);
        UNROLL for (int i = 0; i < pixels; i++) total[i] += shared * factor[i][t];
      }
    }
    int64_t u = 0;
    for (; u + TOGETHER <= taps; u += TOGETHER, weight += TOGETHER * TAPS * LANES) {
      spread_taps(pixels, TOGETHER, taps, pitch, factor, weight, tap ? tap + u : NULL, grad_tap ? grad_tap + u : NULL,
                  at + c, other, total);
    }
    for (; u < taps; u++, weight += TAPS * LANES) {
      spread_taps(pixels, 1, taps, pitch, factor, weight, tap ? tap + u : NULL, grad_tap ? grad_tap + u : NULL, at + c,
                  other, total);
    }
    if (out) UNROLL for (int i = 0; i < pixels; i++) store(out + i * pitch + c, total[i]);
  }
}

/* The same for a chunk of positions. Without `out`, or without `grad_tap` and x, that part is left out. */
INLINE void spread_chunk(const struct cache *cache, const float *y, const float *const *tap, float *const *grad_tap,
                         int64_t at, int64_t count, const float *x, float *out, int fresh) {
  const struct plan *plan = cache->plan;
  int64_t taps = plan->taps, keys = cache->keys;
  for (int64_t block = 0; block < plan->blocks; block++, y += TAPS * CHUNK, fresh = 0) {
    const float *weight = plan->weight + weight_place(plan, block * TAPS, 0, 0);
    const float *bias = out && cache->shift_bias ? cache->shift_bias + block * TAPS * keys : NULL;
    int64_t i = 0;
    for (; i + PIXELS <= count; i += PIXELS) {
      const float *x_here = x ? x + i * keys : NULL;
      float *out_here = out ? out + i * keys : NULL;
      if (taps == 9 && keys == HEAD32 * LANES) {
        spread(PIXELS, 9, HEAD32, y + i, weight, bias, tap, grad_tap, at + i * keys, x_here, out_here, fresh);
      } else {
        spread(PIXELS, taps, keys / LANES, y + i, weight, bias, tap, grad_tap, at + i * keys, x_here, out_here, fresh);
      }
    }
    for (; i < count; i++) {
      spread(1, taps, keys / LANES, y + i, weight, bias, tap, grad_tap, at + i * keys, x ? x + i * keys : NULL,
             out ? out + i * keys : NULL, fresh);
    }
  }
}

#endif
