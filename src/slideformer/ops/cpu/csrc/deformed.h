/* SPDX-License-Identifier: Apache-2.0 */
/* The deformed shift: lanes are channels in all sums over taps, and positions in the softmax (see deformed.c). */
#ifndef SLIDEFORMER_DEFORMED_H
#define SLIDEFORMER_DEFORMED_H

#include "weights.h"

static const struct line none = {NULL, 0};

static inline struct line line_from(struct line line, int64_t x) {
  if (line.data) line.data += x * line.pitch;
  return line;
}

/* The next vector of channels. */
static inline struct line line_channels(struct line line) {
  if (line.data) line.data += LANES;
  return line;
}

enum { FOLDED = LANES / PIXELS };

/* sum_u W[c, t, u] x_c m_c(+ u) + x_c bias[t, c], folded but not yet summed over all lanes, of `pixels` positions
 * in a row, for TAPS output taps. A weight is loaded once for all of these positions. */
INLINE void contract(int pixels, int64_t taps, int64_t vectors, struct line x, const float *const *tap, int64_t at,
                     const float *weight, const float *bias, vec (*part)[FOLDED]) {
  int64_t pitch = vectors * LANES;
  vec sum[PIXELS][TAPS];
  UNROLL for (int i = 0; i < pixels; i++) UNROLL for (int t = 0; t < TAPS; t++) sum[i][t] = (vec){0};
  for (int64_t c = 0; c < pitch; c += LANES) {
    vec factor[PIXELS];
    UNROLL for (int i = 0; i < pixels; i++) factor[i] = load(x.data + i * x.pitch + c);
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
  UNROLL for (int t = 0; t < TAPS; t++) {
    vec pair[PIXELS];
    UNROLL for (int i = 0; i < pixels; i++) pair[i] = sum[i][t];
    part[t][0] = fold(pixels, pair);
  }
}

/* y_t = sum_c x_c (sum_u W[c, t, u] m_c(+ u) + bias[t, c]) of a chunk of positions: (T padded, CHUNK). Fetches rows
 * ahead, if any. */
INLINE void contract_chunk(const struct cache *cache, struct line x, const float *const *tap, int64_t at,
                           int64_t count, struct ahead *ahead, float *y) {
  const struct plan *plan = cache->plan;
  int64_t taps = plan->taps, keys = cache->keys;
  for (int64_t block = 0; block < plan->blocks; block++) {
    const float *weight = plan->weight + weight_place(plan, block * TAPS, 0, 0);
    const float *bias = cache->shift_bias ? cache->shift_bias + block * TAPS * keys : NULL;
    for (int64_t first = 0; first < count; first += LANES) {
      int64_t i = 0, some = smaller_of(LANES, count - first);
      vec part[TAPS][FOLDED];
      for (; i + PIXELS <= some; i += PIXELS) {
        struct line here = line_from(x, first + i);
        int64_t place = at + (first + i) * keys;
        if (ahead) UNROLL for (int p = 0; p < PIXELS; p++) fetch(ahead, cache->piece.heads, cache->bytes);
        vec(*to)[FOLDED] = (vec(*)[FOLDED])(&part[0][i / PIXELS]);
        if (taps == 9 && keys == HEAD32 * LANES) {
          contract(PIXELS, 9, HEAD32, here, tap, place, weight, bias, to);
        } else {
          contract(PIXELS, taps, keys / LANES, here, tap, place, weight, bias, to);
        }
      }
      for (; i < some; i++) {
        struct line here = line_from(x, first + i);
        int64_t place = at + (first + i) * keys;
        contract(1, taps, keys / LANES, here, tap, place, weight, bias, (vec(*)[FOLDED])(&part[0][i / PIXELS]));
      }
      for (int t = 0; t < TAPS; t++) {
        for (i = ceil_div(some, PIXELS); i < FOLDED; i++) part[t][i] = (vec){0};
        store(y + (block * TAPS + t) * CHUNK + first, sums(PIXELS, part[t]));
      }
    }
  }
}

/* The sum of the queries' channels, by which a key bias counts, of LANES positions or fewer. */
static inline vec query_sums(const struct cache *cache, struct line query, int64_t count) {
  vec sum[LANES];
  for (int64_t i = 0; i < LANES; i++) {
    sum[i] = (vec){0};
    for (int64_t c = 0; i < count && c < cache->keys; c += LANES) sum[i] += load(query.data + i * query.pitch + c);
  }
  return sums(1, sum);
}

/* A chunk's weights are held tap by tap: y[tap][position]; 0 for the taps beyond T and beyond the positions. */
static inline void take_chunk(const struct cache *cache, const float *given, int64_t first, int64_t count, float *y) {
  memset(y, 0, (size_t)(cache->plan->blocks * TAPS * CHUNK) * sizeof(float));
  take_weights(cache, given, first, count, y, CHUNK, 1);
}

static inline void give_chunk(const struct cache *cache, const float *y, int64_t first, int64_t count, float *given) {
  give_weights(cache, y, CHUNK, 1, first, count, given);
}

/* Finish the logits of a chunk and perhaps make them weights, in place; 0 for the taps beyond T. */
static inline void weights_of(const struct cache *cache, struct line query, int64_t count, float *y) {
  int64_t taps = cache->plan->taps, padded = cache->plan->blocks * TAPS;
  float scale = (float)cache->plan->call->scale;
  for (int64_t first = 0; first < count; first += LANES, y += LANES) {
    vec query_sum = {0}, most = splat(-INFINITY), sum = {0};
    if (cache->head.key_bias) query_sum = query_sums(cache, line_from(query, first), count - first);
    for (int64_t t = 0; t < taps; t++) {
      vec logit = load(y + t * CHUNK);
      if (cache->head.key_bias) logit += query_sum * cache->head.key_bias[t];
      logit = logit * scale + cache->head.logit_offset[t];
      store(y + t * CHUNK, logit);
      most = larger(logit, most);
    }
    if (!cache->plan->softmax) continue;
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

/* With f_u = sum_t y_t W[c, t, u], for some input taps and one vector of channels of `pixels` positions in a row: adds
 * f_u m_c(+ u) to out, and f_u x_c to the gradient of m_c(+ u). Results are added in memory: the registers are for f,
 * and a product and its sum stay side by side, so that compilers make one instruction of both everywhere. */
INLINE void spread_taps(int pixels, int some, int64_t pitch, const float *y, const float *weight,
                        const float *const *tap, float *const *grad_tap, int64_t at, struct line x, struct line out) {
  vec f[TOGETHER][SPREAD_PIXELS];
  UNROLL for (int u = 0; u < some; u++) UNROLL for (int i = 0; i < pixels; i++) f[u][i] = (vec){0};
  /* Unrolled, compilers load all first and run out of registers. */
  KEEP_LOOP for (int t = 0; t < TAPS; t++) {
    vec factor[SPREAD_PIXELS];
    UNROLL for (int i = 0; i < pixels; i++) factor[i] = broadcast(y + t * CHUNK + i);
    UNROLL for (int u = 0; u < some; u++) {
      vec shared = load_once(weight + (u * TAPS + t) * LANES);
      UNROLL for (int i = 0; i < pixels; i++) f[u][i] += shared * factor[i];
    }
  }
  UNROLL for (int i = 0; i < pixels && tap; i++) {
    vec total = load(out.data + i * out.pitch);
    UNROLL for (int u = 0; u < some; u++) total += f[u][i] * load(tap[u] + at + i * pitch);
    store(out.data + i * out.pitch, total);
  }
  UNROLL for (int u = 0; u < some && grad_tap; u++) {
    UNROLL for (int i = 0; i < pixels; i++) {
      float *to = grad_tap[u] + at + i * pitch;
      store(to, load(to) + f[u][i] * load(x.data + i * x.pitch));
    }
  }
}

/* Adds sum_t y_t bias[t, c] to out, for one vector of channels. */
INLINE void spread_bias(int pixels, int64_t pitch, const float *y, const float *bias, struct line out) {
  UNROLL for (int i = 0; i < pixels; i++) {
    vec total = load(out.data + i * out.pitch);
    UNROLL for (int t = 0; t < TAPS; t++) total += load(bias + t * pitch) * broadcast(y + t * CHUNK + i);
    store(out.data + i * out.pitch, total);
  }
}

/* The same for all input taps and channels, to an out of zeros if `fresh`; y has the first position in its first
 * lane. */
INLINE void spread(int pixels, int64_t taps, int64_t vectors, const float *y, const float *weight, const float *bias,
                   const float *const *tap, float *const *grad_tap, int64_t at, struct line x, struct line out,
                   int fresh) {
  int64_t pitch = vectors * LANES;
  for (int64_t c = 0; c < pitch; c += LANES, x = line_channels(x), out = line_channels(out)) {
    if (tap && fresh) UNROLL for (int i = 0; i < pixels; i++) store(out.data + i * out.pitch, (vec){0});
    if (tap && bias) spread_bias(pixels, pitch, y, bias + c, out);
#define SPREAD(some)                                                                                                 \
  spread_taps(pixels, some, pitch, y, weight, tap ? tap + u : NULL, grad_tap ? grad_tap + u : NULL, at + c, x, out); \
  u += (some);                                                                                                       \
  weight += (some) * TAPS * LANES
    int64_t u = 0;
    while (u + TOGETHER <= taps) { SPREAD(TOGETHER); }
    while (u + TOGETHER - 1 <= taps) { SPREAD(TOGETHER - 1); }
    while (u < taps) { SPREAD(1); }
#undef SPREAD
  }
}

/* The same for a chunk of positions. Without `out`, or without `grad_tap` and x, that part is left out. */
INLINE void spread_chunk(const struct cache *cache, const float *y, const float *const *tap, float *const *grad_tap,
                         int64_t at, int64_t count, struct line x, struct line out, int fresh) {
  const struct plan *plan = cache->plan;
  int64_t taps = plan->taps, keys = cache->keys;
  for (int64_t block = 0; block < plan->blocks; block++, y += TAPS * CHUNK, fresh = 0) {
    const float *weight = plan->weight + weight_place(plan, block * TAPS, 0, 0);
    const float *bias = out.data && cache->shift_bias ? cache->shift_bias + block * TAPS * keys : NULL;
    int64_t i = 0;
    for (; i + SPREAD_PIXELS <= count; i += SPREAD_PIXELS) {
      struct line from = line_from(x, i), to = line_from(out, i);
      int64_t place = at + i * keys;
      if (taps == 9 && keys == HEAD32 * LANES) {
        spread(SPREAD_PIXELS, 9, HEAD32, y + i, weight, bias, tap, grad_tap, place, from, to, fresh);
      } else {
        spread(SPREAD_PIXELS, taps, keys / LANES, y + i, weight, bias, tap, grad_tap, place, from, to, fresh);
      }
    }
    for (; SPREAD_PIXELS > 2 && i + 2 <= count; i += 2) {
      spread(2, taps, keys / LANES, y + i, weight, bias, tap, grad_tap, at + i * keys, line_from(x, i),
             line_from(out, i), fresh);
    }
    if (i < count) {
      spread(1, taps, keys / LANES, y + i, weight, bias, tap, grad_tap, at + i * keys, line_from(x, i),
             line_from(out, i), fresh);
    }
  }
}

#endif
