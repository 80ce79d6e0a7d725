/* SPDX-License-Identifier: Apache-2.0 */
/* Backward pass without deformation, a row of positions at a time. With A and g the output's gradient,
 *
 *     gL_t = A_t (g v_t - sum_s A_s g v_s)     gq = sum_t gL_t k_t     gk_t gets gL_t q     gv_t gets A_t g */
#include "plain.h"

/* Sums of one position, for some vectors of its channels. */
INLINE void spread(const struct cache *cache, int64_t at, int64_t taps, int64_t vectors, const float *grads,
                   const float *query, int64_t c, float *grad_query) {
  vec sum[8], factor[8];
  UNROLL for (int v = 0; v < vectors; v++) {
    sum[v] = load(grad_query + v * LANES);
    factor[v] = load(query + v * LANES);
  }
  for (int64_t t = 0; t < taps; t++) {
    const float *key = cache->key_tap[t] + at + c;
    float *grad_key = cache->grad_key_tap[t] + at + c;
    UNROLL for (int v = 0; v < vectors; v++) {
      vec seen = load(key + v * LANES);
      if (cache->shift_bias) seen += load(cache->shift_bias + t * cache->keys + c + v * LANES);
      sum[v] += grads[t] * seen;
      store(grad_key + v * LANES, load(grad_key + v * LANES) + grads[t] * factor[v]);
    }
  }
  UNROLL for (int v = 0; v < vectors; v++) store(grad_query + v * LANES, sum[v]);
}

/* Add y_t x to the place of each tap, for some vectors of channels. */
INLINE void add(float *const *tap, int64_t at, int64_t taps, int64_t vectors, const float *y, const float *x) {
  vec factor[8];
  UNROLL for (int v = 0; v < vectors; v++) factor[v] = load(x + v * LANES);
  for (int64_t t = 0; t < taps; t++) {
    float *to = tap[t] + at;
    UNROLL for (int v = 0; v < vectors; v++) store(to + v * LANES, load(to + v * LANES) + y[t] * factor[v]);
  }
}

/* x where another is not minus infinity, else 0. */
INLINE vec where_finite(vec other, vec x) { return (vec)((ivec)x & (other > splat(-INFINITY))); }

/* Gradients of the unscaled logits of a chunk from those of the weights, in place, and what is summed over them. */
static void logits_backward(const struct cache *cache, int64_t first, int64_t count) {
  float scale = (float)cache->plan->call->scale;
  int64_t lanes = cache->lanes;
  int softmax = cache->plan->softmax; /* else the gradients are those of the logits */
  for (int64_t x = first; x < first + count; x++) {
    const float *weights = cache->weights + (x - first) * lanes, *query = cache->query.data + x * cache->query.pitch;
    float *grads = cache->grad_logits + (x - first) * lanes;
    float *grad_query = cache->grad_query.data + x * cache->grad_query.pitch;
    float *offset = cache->head.grad_logit_offset + cache->variant[x] * lanes;
    vec mean = {0}, query_sum = {0}, from_bias = {0};
    for (int64_t t = 0; t < lanes && softmax; t += LANES) mean += load(weights + t) * load(grads + t);
    mean = sum_lanes(mean);
    for (int64_t c = 0; c < cache->keys && cache->head.key_bias; c += LANES) query_sum += load(query + c);
    query_sum = sum_lanes(query_sum);
    for (int64_t t = 0; t < lanes; t += LANES) {
      vec grad = load(grads + t);
      grad = softmax ? load(weights + t) * (grad - mean) : where_finite(offset_at(cache, x, t), grad);
      store(offset + t, load(offset + t) + grad);
      grad *= scale;
      store(grads + t, grad);
      if (cache->head.key_bias) {
        store(cache->head.grad_key_bias + t, load(cache->head.grad_key_bias + t) + grad * query_sum);
        from_bias += grad * load(cache->head.key_bias + t);
      }
    }
    from_bias = sum_lanes(from_bias);
    for (int64_t c = 0; c < cache->keys; c += LANES) store(grad_query + c, from_bias);
  }
}

static void keys_backward(const struct cache *cache, int64_t x, const float *grads) {
  int64_t taps = cache->plan->taps, keys = cache->keys, at = cache->place[x] * keys;
  const float *query = cache->query.data + x * cache->query.pitch;
  float *grad_query = cache->grad_query.data + x * cache->grad_query.pitch;
  if (keys == HEAD32 * LANES && !cache->shift_bias) {
    spread(cache, at, taps, HEAD32, grads, query, 0, grad_query);
  } else {
    for (int64_t c = 0; c < keys; c += LANES) spread(cache, at, taps, 1, grads, query + c, c, grad_query + c);
  }
}

static void values_backward(const struct cache *cache, int64_t x, const float *weights) {
  int64_t taps = cache->plan->taps, values = cache->values, at = cache->place[x] * values;
  const float *grad_output = cache->grad_output.data + x * cache->grad_output.pitch;
  if (values == HEAD32 * LANES) {
    add(cache->grad_value_tap, at, taps, HEAD32, weights, grad_output);
  } else {
    for (int64_t c = 0; c < values; c += LANES) {
      add(cache->grad_value_tap, at + c, taps, 1, weights, grad_output + c);
    }
  }
}

/* Add y_t x to a shift's bias. */
static void bias_backward(const struct cache *cache, const float *y, const float *x) {
  for (int64_t t = 0; t < cache->plan->taps && cache->shift_bias; t++) {
    float *to = cache->grad_shift_bias + t * cache->keys;
    for (int64_t c = 0; c < cache->keys; c += LANES) store(to + c, load(to + c) + y[t] * load(x + c));
  }
}

/* Weights of a chunk, or those that are given, and gradients of weights, or of logits. */
static void chunk_backward(struct cache *cache, int64_t first, int64_t count) {
  const struct plan *plan = cache->plan;
  int64_t taps = plan->taps, keys = cache->keys, values = cache->values;
  float *y = cache->weights, *grads = cache->grad_logits;
  for (int64_t x = first; x < first + count; x++, y += cache->lanes, grads += cache->lanes) {
    const float *bias = cache->shift_bias;
    fetch(&cache->ahead, cache->piece.heads, cache->bytes);
    if (plan->softmax) {
      const float *query = cache->query.data + x * cache->query.pitch;
      dots_of_size(query, cache->key_tap, cache->place[x] * keys, bias, taps, keys / LANES, y);
    }
    if (plan->values) {
      const float *grad_output = cache->grad_output.data + x * cache->grad_output.pitch;
      dots_of_size(grad_output, cache->value_tap, cache->place[x] * values, bias, taps, values / LANES, grads);
    }
  }
  if (plan->softmax) weights_of(cache, first, count, cache->weights);
  if (!plan->values) take_chunk(cache, cache->given_grads, first, count, cache->grad_logits);
  if (!plan->logits) {
    take_chunk(cache, cache->given_weights, first, count, cache->weights);
    give_chunk(cache, cache->grad_logits, first, count, cache->given_grads);
  }
}

void NAMED(slideformer_plain_backward_row)(struct cache *cache) {
  const struct plan *plan = cache->plan;
  for (int64_t first = 0; first < cache->count; first += CHUNK) {
    int64_t count = smaller_of(CHUNK, cache->count - first);
    chunk_backward(cache, first, count);
    if (plan->logits) logits_backward(cache, first, count);
    for (int64_t i = 0; i < count; i++) {
      const float *weights = cache->weights + i * cache->lanes, *grads = cache->grad_logits + i * cache->lanes;
      if (plan->logits) {
        keys_backward(cache, first + i, grads);
        bias_backward(cache, grads, cache->query.data + (first + i) * cache->query.pitch);
      }
      if (plan->values) {
        values_backward(cache, first + i, weights);
        bias_backward(cache, weights, cache->grad_output.data + (first + i) * cache->grad_output.pitch);
      }
    }
  }
}
