/* SPDX-License-Identifier: Apache-2.0 */
/* The backward pass over a unit's pieces, row by row. Sums for keys and values are made in the rings and
 * stored once no later row adds to them. */
#include "cache.h"

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
      partial[plan->partial.bias + t * call->channels + c] += cache->grad_shift_bias[t * cache->keys + c];
    }
  }
}

void NAMED(slideformer_backward)(const struct plan *plan, int64_t unit, char *scratch) {
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
      (plan->deformed ? NAMED(slideformer_deformed_backward_row) : NAMED(slideformer_plain_backward_row))(&cache);
      NAMED(slideformer_cache_store)(&cache, y);
    }
    store_rows(&cache, split->highest + 1);
    add_bias_gradients(&cache);
  }
}
