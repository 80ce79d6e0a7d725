/* SPDX-License-Identifier: Apache-2.0 */
/* Attention without deformation: lanes are channels, or the taps of one position (see plain.c). */
#ifndef SLIDEFORMER_PLAIN_H
#define SLIDEFORMER_PLAIN_H

#include <float.h>

#include "weights.h"

/* y_t = sum_c x_c (m_t,c + bias_t,c), LANES taps at a time: one vector for each tap, then all summed in
 * one tree. `at` is the column's place in the taps' rows. */
INLINE void dots(const float *x, const float *const *tap, int64_t at, const float *bias, int64_t taps,
                 int64_t vectors, float *y) {
  UNROLL for (int64_t group = 0; group < taps; group += LANES) {
    vec sum[LANES];
    UNROLL for (int l = 0; l < LANES; l++) {
      sum[l] = (vec){0};
      if (group + l < taps) {
        const float *m = tap[group + l] + at;
        for (int64_t v = 0; v < vectors; v++) {
          vec seen = load(m + v * LANES);
          if (bias) seen += load(bias + ((group + l) * vectors + v) * LANES);
          sum[l] += load(x + v * LANES) * seen;
        }
      }
    }
    store(y + group, sums(1, sum));
  }
}

static inline void dots_of_size(const float *x, const float *const *tap, int64_t at, const float *bias, int64_t taps,
                                int64_t vectors, float *y) {
  if (bias) {
    for (int64_t group = 0; group < taps; group += LANES) {
      int64_t some = taps - group < LANES ? taps - group : LANES;
      dots(x, tap + group, at, bias + group * vectors * LANES, some, vectors, y + group);
    }
  } else if (taps == 9 && vectors == HEAD32) {
    dots(x, tap, at, NULL, 9, HEAD32, y);
  } else if (taps == 49 && vectors == HEAD32) {
    dots(x, tap, at, NULL, 49, HEAD32, y);
  } else {
    for (int64_t group = 0; group < taps; group += LANES) {
      int64_t some = taps - group < LANES ? taps - group : LANES;
      if (some == LANES) {
        dots(x, tap + group, at, NULL, LANES, vectors, y + group);
      } else {
        dots(x, tap + group, at, NULL, some, vectors, y + group);
      }
    }
  }
}

/* A chunk's weights are held position by position: y[position][tap]. */
static inline void take_chunk(const struct cache *cache, const float *given, int64_t first, int64_t count, float *y) {
  memset(y, 0, (size_t)(count * cache->lanes) * sizeof(float));
  take_weights(cache, given, first, count, y, 1, cache->lanes);
}

static inline void give_chunk(const struct cache *cache, const float *y, int64_t first, int64_t count, float *given) {
  give_weights(cache, y, 1, cache->lanes, first, count, given);
}

/* x, but where an offset is minus infinity that itself: a tap that is left out stays so for a query of NaN. */
INLINE vec or_minus_infinity(vec offset, vec x) {
  ivec left_out = offset == splat(-INFINITY);
  return (vec)(((ivec)offset & left_out) | ((ivec)x & ~left_out));
}

/* Finish the logits of a chunk of positions and perhaps make them weights, in place. */
static inline void weights_of(const struct cache *cache, int64_t first, int64_t count, float *y) {
  float scale = (float)cache->plan->call->scale;
  int64_t lanes = cache->lanes;
  for (int64_t x = first; x < first + count; x++, y += lanes) {
    const float *query = cache->query.data + x * cache->query.pitch;
    vec query_sum = {0}, most = splat(-INFINITY), sum = {0};
    if (cache->head.key_bias) {
      for (int64_t c = 0; c < cache->keys; c += LANES) query_sum += load(query + c);
      query_sum = sum_lanes(query_sum);
    }
    for (int64_t t = 0; t < lanes; t += LANES) {
      vec logit = load(y + t);
      if (cache->head.key_bias) logit += query_sum * load(cache->head.key_bias + t);
      vec offset = offset_at(cache, x, t);
      logit = or_minus_infinity(offset, logit * scale + offset);
      store(y + t, logit);
      most = larger(logit, most);
    }
    if (!cache->plan->softmax) continue;
    most = largest_lane(most);
    if (cache->is_masked) most = larger(splat(-FLT_MAX), most); /* a position that sees nothing has no weights */
    for (int64_t t = 0; t < lanes; t += LANES) {
      vec e = exp_negative(load(y + t) - most);
      store(y + t, e);
      sum += e;
    }
    sum = sum_lanes(sum);
    vec inverse = 1.0f / (cache->is_masked ? larger(splat(FLT_MIN), sum) : sum);
    for (int64_t t = 0; t < lanes; t += LANES) store(y + t, load(y + t) * inverse);
  }
}

#endif
