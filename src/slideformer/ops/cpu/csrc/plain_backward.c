/* SPDX-License-Identifier: Apache-2.0 */
/* Backward pass without deformation, a row of positions at a time. With A and g the output's gradient,
 *
 *     gL_t = A_t (g v_t - sum_s A_s g v_s)     gq = sum_t gL_t k_t     gk_t gets gL_t q     gv_t gets A_t g
 *
 * Sums for keys and values are made in the rings and stored once no later row adds to them. */
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

/* Gradients of the logits of a chunk from those of the weights, in place, and what is summed over positions. */
static void logits_backward(const struct cache *cache, int64_t first, int64_t count) {
  int64_t lanes = cache->lanes;
  for (int64_t x = first; x < first + count; x++) {
    const float *weights = cache->weights + (x - first) * lanes, *query = cache->query + x * cache->keys;
    float *grads = cache->grad_logits + (x - first) * lanes, *grad_query = cache->grad_query + x * cache->keys;
    float *offset = cache->grad_logit_offset + cache->variant[x] * lanes;
    vec mean = {0}, query_sum = {0}, from_bias = {0};
    for (int64_t t = 0; t < lanes; t += LANES) mean += load(weights + t) * load(grads + t);
    mean = sum_lanes(mean);
    for (int64_t c = 0; c < cache->keys && cache->key_bias; c += LANES) query_sum += load(query + c);
    query_sum = sum_lanes(query_sum);
    for (int64_t t = 0; t < lanes; t += LANES) {
      vec grad = load(weights + t) * (load(grads + t) - mean);
      store(grads + t, grad);
      store(offset + t, load(offset + t) + grad);
      if (cache->key_bias) {
        store(cache->grad_key_bias + t, load(cache->grad_key_bias + t) + grad * query_sum);
        from_bias += grad * load(cache->key_bias + t);
      }
    }
    from_bias = sum_lanes(from_bias);
    for (int64_t c = 0; c < cache->keys; c += LANES) store(grad_query + c, from_bias);
  }
}

static void maps_backward(const struct cache *cache, int64_t x, const float *weights, const float *grads) {
  const struct plan *plan = cache->plan;
  int64_t taps = plan->taps, keys = cache->keys, values = cache->values;
  int64_t at_key = plan->columns.start[x] * keys, at_value = plan->columns.start[x] * values;
  const float *query = cache->query + x * keys, *grad_output = cache->grad_output + x * values;
  float *grad_query = cache->grad_query + x * keys;
  if (keys == HEAD32 * LANES && values == keys && !cache->shift_bias) {
    spread(cache, at_key, taps, HEAD32, grads, query, 0, grad_query);
    add(cache->grad_value_tap, at_value, taps, HEAD32, weights, grad_output);
    return;
  }
  for (int64_t c = 0; c < keys; c += LANES) spread(cache, at_key, taps, 1, grads, query + c, c, grad_query + c);
  for (int64_t c = 0; c < values; c += LANES) {
    add(cache->grad_value_tap, at_value + c, taps, 1, weights, grad_output + c);
  }
  for (int64_t t = 0; t < taps && cache->shift_bias; t++) {
    float *to = cache->grad_shift_bias + t * keys;
    for (int64_t c = 0; c < keys; c += LANES) {
      store(to + c, load(to + c) + grads[t] * load(query + c) + weights[t] * load(grad_output + c));
    }
  }
}

static void backward_row(const struct cache *cache, int64_t width) {
  const struct plan *plan = cache->plan;
  int64_t taps = plan->taps, keys = cache->keys, values = cache->values;
  for (int64_t first = 0; first < width; first += CHUNK) {
    int64_t count = smaller_of(CHUNK, width - first);
    float *y = cache->weights, *grads = cache->grad_logits;
    for (int64_t x = first; x < first + count; x++, y += cache->lanes, grads += cache->lanes) {
      int64_t start = plan->columns.start[x];
      const float *bias = cache->shift_bias;
      dots_of_size(cache->query + x * keys, cache->key_tap, start * keys, bias, taps, keys / LANES, y);
      dots_of_size(cache->grad_output + x * values, cache->value_tap, start * values, bias, taps, values / LANES, grads);
    }
    weights_of(cache, first, count, cache->query + first * keys, cache->weights);
    logits_backward(cache, first, count);
    for (int64_t i = 0; i < count; i++) {
      maps_backward(cache, first + i, cache->weights + i * cache->lanes, cache->grad_logits + i * cache->lanes);
    }
  }
}

static void store_grad(const struct cache *cache, const struct slideformer_map *map, const float *from, int64_t pitch,
                       int64_t y, int64_t channels, float *shared) {
  const struct slideformer_call *call = cache->plan->call;
  struct row row = row_of(map, call->dtype, cache->piece.batch, y, cache->piece.head);
  if (shared) row = row_of_floats(shared, channels);
  store_row(from + cache->plan->columns.before * pitch, pitch, call->width, channels, row);
}

/* Store the gradients of rows of keys and values before `end`. */
static void store_rows(struct cache *cache, int64_t end) {
  const struct slideformer_call *call = cache->plan->call;
  for (; cache->stored < end; cache->stored++) {
    int64_t y = cache->stored, slot = y % cache->slots * cache->width;
    float *shared = shared_row(cache->plan, cache->piece, y);
    float *shared_value = shared ? shared + call->width * call->channels : NULL;
    store_grad(cache, &call->grad_key, cache->grad_key + slot * cache->keys, cache->keys, y, call->channels, shared);
    store_grad(cache, &call->grad_value, cache->grad_value + slot * cache->values, cache->values, y,
               call->value_channels, shared_value);
  }
}

/* Add a piece's sums to the unit's. */
static void add_bias_gradients(struct cache *cache) {
  const struct plan *plan = cache->plan;
  const struct slideformer_call *call = plan->call;
  float *partial = plan->partials + cache->unit * plan->partial.size;
  float *key_bias = partial + plan->partial.key_bias + cache->piece.head * plan->partial.taps;
  NAMED(slideformer_cache_flush_offset)(cache);
  for (int64_t t = 0; t < plan->taps; t++) {
    if (call->key_bias) key_bias[t] += cache->grad_key_bias[t];
    for (int64_t c = 0; c < call->channels && call->shift_bias; c++) {
      int64_t place = (t / TAPS * call->channels + c) * TAPS + t % TAPS;
      partial[plan->partial.bias + place] += cache->grad_shift_bias[t * cache->keys + c];
    }
  }
}

void NAMED(slideformer_plain_backward)(const struct plan *plan, int64_t unit, char *scratch) {
  const struct slideformer_call *call = plan->call;
  struct cache cache;
  NAMED(slideformer_cache)(&cache, plan, scratch);
  cache.unit = unit;
  for (int64_t number = 0; number < unit_pieces(plan, unit); number++) {
    cache.piece = unit_piece(plan, unit, number);
    const struct split *split = cache.piece.split;
    NAMED(slideformer_cache_piece)(&cache);
    for (int64_t y = split->first; y < split->end; y++) {
      store_rows(&cache, smaller_of(cache.loaded, plan->rows.needed[y]));
      NAMED(slideformer_cache_row)(&cache, y);
      struct row row = row_of(&call->grad_output, call->dtype, cache.piece.batch, y, cache.piece.head);
      load_row(row, call->width, call->value_channels, 1, cache.grad_output, cache.values);
      backward_row(&cache, call->width);
      float scale = (float)call->scale;
      for (int64_t i = 0; i < call->width * cache.keys; i++) cache.grad_query[i] *= scale;
      row = row_of(&call->grad_query, call->dtype, cache.piece.batch, y, cache.piece.head);
      store_row(cache.grad_query, cache.keys, call->width, call->channels, row);
    }
    store_rows(&cache, split->highest + 1);
    add_bias_gradients(&cache);
  }
}
