/* SPDX-License-Identifier: Apache-2.0 */
/* Backward pass of the deformed shift, a chunk of positions of one row at a time. With A and g the
 * output's gradient,
 *
 *     gA_t = the contraction of g with v, as q's with k        gL_t = A_t (gA_t - sum_s A_s gA_s)
 *     gq_c = sum_u f_u k_c(+ u),  gk_c(+ u) gets f_u q_c,  f_u = sum_t gL_t W[c, t, u];  gv as gk of g and A
 *     gW[c, t, u] = sum of gL_t q_c k_c(+ u) + A_t g_c v_c(+ u) */
#include "deformed.h"

/* Gradients of the unscaled logits from those of the weights, in place, and of what is added to logits. */
static void logits_backward(const struct cache *cache, struct line query, int64_t count, struct line grad_query) {
  float scale = (float)cache->plan->call->scale;
  int64_t taps = cache->plan->taps, padded = cache->plan->blocks * TAPS;
  int softmax = cache->plan->softmax; /* else the gradients are those of the logits */
  for (int64_t first = 0; first < count; first += LANES) {
    const float *weights = cache->weights + first;
    float *grads = cache->grad_logits + first;
    int64_t some = smaller_of(LANES, count - first);
    vec mean = {0}, from_bias = {0}, query_sum = {0};
    if (cache->head.key_bias) query_sum = query_sums(cache, line_from(query, first), some);
    for (int64_t t = 0; t < taps && softmax; t++) mean += load(weights + t * CHUNK) * load(grads + t * CHUNK);
    for (int64_t t = 0; t < taps; t++) {
      /* Lanes beyond the positions have no gradient: theirs are sums over no channel. */
      vec grad = load(grads + t * CHUNK);
      if (softmax) grad = load(weights + t * CHUNK) * (grad - mean);
      if (cache->plan->call->logit_bias) cache->head.grad_logit_offset[t] += sum_lanes(grad)[0];
      grad *= scale;
      store(grads + t * CHUNK, grad);
      if (cache->head.key_bias) {
        cache->head.grad_key_bias[t] += sum_lanes(grad * query_sum)[0];
        from_bias += grad * cache->head.key_bias[t];
      }
    }
    for (int64_t t = taps; t < padded; t++) store(grads + t * CHUNK, (vec){0});
    for (int64_t i = 0; i < some; i++) {
      float *to = grad_query.data + (first + i) * grad_query.pitch;
      for (int64_t c = 0; c < cache->keys; c += LANES) store(to + c, splat(from_bias[i]));
    }
  }
}

/* Add sum_i y_t(i) x_c(i) m_c(i + u) for one vector of channels, some input taps and TAPS output taps. */
INLINE void weight_sums(int some, int64_t pitch, const float *y, struct line x, const float *const *tap, int64_t at,
                        int64_t count, float *to) {
  vec sum[SUMS][TAPS];
  const float *m[SUMS];
  UNROLL for (int u = 0; u < some; u++) {
    m[u] = tap[u] + at;
    UNROLL for (int t = 0; t < TAPS; t++) sum[u][t] = load(to + (u * TAPS + t) * LANES);
  }
  for (int64_t i = 0; i < count; i++) {
    vec factor = load(x.data + i * x.pitch), product[SUMS];
    UNROLL for (int u = 0; u < some; u++) product[u] = factor * load(m[u] + i * pitch);
    UNROLL for (int t = 0; t < TAPS; t++) {
      vec shared = broadcast(y + t * CHUNK + i);
      UNROLL for (int u = 0; u < some; u++) sum[u][t] += shared * product[u];
    }
  }
  UNROLL for (int u = 0; u < some; u++) {
    UNROLL for (int t = 0; t < TAPS; t++) store(to + (u * TAPS + t) * LANES, sum[u][t]);
  }
}

static void add_weight_sums(const struct cache *cache, const float *y, struct line x, const float *const *tap,
                            int64_t at, int64_t count, float *to) {
  int64_t taps = cache->plan->taps, keys = cache->keys;
  for (int64_t block = 0; block < cache->plan->blocks; block++, y += TAPS * CHUNK) {
    for (int64_t c = 0; c < keys; c += LANES) {
      struct line channels = {x.data + c, x.pitch};
      int64_t u = 0;
      for (; u + SUMS <= taps; u += SUMS, to += SUMS * TAPS * LANES) {
        if (keys == HEAD32 * LANES) {
          weight_sums(SUMS, HEAD32 * LANES, y, channels, tap + u, at + c, count, to);
        } else {
          weight_sums(SUMS, keys, y, channels, tap + u, at + c, count, to);
        }
      }
      for (; u < taps; u++, to += TAPS * LANES) weight_sums(1, keys, y, channels, tap + u, at + c, count, to);
    }
  }
}

/* Add sum_i y_t(i) x_c(i). */
static void add_bias_sums(const struct cache *cache, const float *y, struct line x, int64_t count) {
  int64_t keys = cache->keys;
  for (int64_t t = 0; t < cache->plan->taps; t++, y += CHUNK) {
    for (int64_t c = 0; c < keys; c += LANES) {
      vec sum = load(cache->grad_shift_bias + t * keys + c);
      for (int64_t i = 0; i < count; i++) sum += y[i] * load(x.data + i * x.pitch + c);
      store(cache->grad_shift_bias + t * keys + c, sum);
    }
  }
}

void NAMED(slideformer_deformed_backward_row)(struct cache *cache) {
  const struct plan *plan = cache->plan;
  float *sums = plan->partials + cache->unit * plan->partial.size + plan->partial.weight;
  float *weights = cache->weights, *grads = cache->grad_logits;
  for (int64_t first = 0; first < cache->count; first += CHUNK) {
    int64_t count = smaller_of(CHUNK, cache->count - first), at = first * cache->keys;
    struct line query = line_from(cache->query, first), grad_query = line_from(cache->grad_query, first);
    struct line grad_output = line_from(cache->grad_output, first);
    if (plan->softmax) {
      contract_chunk(cache, query, cache->key_tap, at, count, &cache->ahead, weights);
      weights_of(cache, query, count, weights);
    }
    if (!plan->logits) take_chunk(cache, cache->given_weights, first, count, weights);
    if (!plan->values) take_chunk(cache, cache->given_grads, first, count, grads);
    if (plan->values) contract_chunk(cache, grad_output, cache->value_tap, at, count, NULL, grads);
    if (!plan->logits) give_chunk(cache, grads, first, count, cache->given_grads);
    if (plan->logits) {
      logits_backward(cache, query, count, grad_query);
      spread_chunk(cache, grads, cache->key_tap, cache->grad_key_tap, at, count, query, grad_query, 0);
      add_weight_sums(cache, grads, query, cache->key_tap, at, count, sums);
      if (cache->shift_bias) add_bias_sums(cache, grads, query, count);
    }
    if (plan->values) {
      spread_chunk(cache, weights, NULL, cache->grad_value_tap, at, count, grad_output, none, 0);
      add_weight_sums(cache, weights, grad_output, cache->value_tap, at, count, sums);
      if (cache->shift_bias) add_bias_sums(cache, weights, grad_output, count);
    }
  }
}
