/* SPDX-License-Identifier: Apache-2.0 */
/* The backward pass over a unit's pieces, row by row. Sums for keys and values are made in the rings and
 * stored once no later row adds to them. */
#include "cache.h"

/* Store a line's columns from x on to the result, of all heads together as they lie in memory. */
static void store_inner(const struct cache *cache, int64_t line, int64_t x, int64_t end) {
  const struct plan *plan = cache->plan;
  const struct slideformer_call *call = plan->call;
  if (x >= end) return;
  int64_t column = line % cache->slots * cache->width + x - cache->piece.box->axis[COLUMNS]->from;
  int64_t ring = cache->slots * cache->width, heads = cache->piece.heads;
  struct start start = line_start(plan, cache->piece, line, x);
  if (plan->logits) {
    store_row(cache->heads->grad_key + column * cache->keys, cache->keys, ring * cache->keys, end - x, call->channels,
              heads, row_of(&call->grad_key, call->dtype, start));
  }
  if (plan->values) {
    store_row(cache->heads->grad_value + column * cache->values, cache->values, ring * cache->values, end - x,
              call->value_channels, heads, row_of(&call->grad_value, call->dtype, start));
  }
}

/* Store columns that others read too in the side memory. */
static void store_shared(const struct cache *cache, int64_t line, int64_t x, int64_t end) {
  const struct plan *plan = cache->plan;
  const struct slideformer_call *call = plan->call;
  if (x >= end) return;
  int64_t column = line % cache->slots * cache->width + x - cache->piece.box->axis[COLUMNS]->from;
  int64_t cell = box_cell(cache->piece.box, line, x);
  for (int64_t i = 0; i < cache->piece.heads; i++) {
    const struct head *head = &cache->heads[i];
    int64_t map = cache->piece.batch * call->heads + head->number;
    struct row key = row_of_floats(side_key(plan, map, cell), call->channels);
    struct row value = row_of_floats(side_value(plan, map, cell), call->value_channels);
    if (plan->logits) {
      store_row(head->grad_key + column * cache->keys, cache->keys, 0, end - x, call->channels, 1, key);
    }
    if (plan->values) {
      store_row(head->grad_value + column * cache->values, cache->values, 0, end - x, call->value_channels, 1, value);
    }
  }
}

/* Keys that do not exist have no gradients. */
static void clear_missing(const struct cache *cache, int64_t line) {
  int64_t first = line % cache->slots * cache->width;
  const struct split *split = cache->piece.box->axis[COLUMNS];
  for (int64_t column = first; column <= first + split->to - split->from; column++) {
    if (cache->missing[column] == 0) continue;
    for (int64_t head = 0; head < cache->piece.heads; head++) {
      clear(cache->heads[head].grad_key + column * cache->keys, cache->keys);
      clear(cache->heads[head].grad_value + column * cache->values, cache->values);
    }
  }
}

/* Store the gradients of lines of keys and values before `end`. */
static void store_lines(struct cache *cache, int64_t end) {
  const struct split *columns = cache->piece.box->axis[COLUMNS];
  for (; cache->stored < end; cache->stored++) {
    if (cache->missing && cache->lacks[cache->stored % cache->slots]) clear_missing(cache, cache->stored);
    int is_inner = is_inner_line(cache->piece.box, cache->stored);
    int64_t first = is_inner ? columns->inner_first : columns->highest + 1;
    int64_t last = is_inner ? columns->inner_end : columns->highest + 1;
    store_shared(cache, cache->stored, columns->lowest, first);
    store_inner(cache, cache->stored, first, last);
    store_shared(cache, cache->stored, last, columns->highest + 1);
  }
}

/* Add a piece's sums to the unit's. */
static void add_bias_gradients(struct cache *cache) {
  const struct plan *plan = cache->plan;
  const struct slideformer_call *call = plan->call;
  float *partial = plan->partials + cache->unit * plan->partial.size;
  NAMED(slideformer_offset_flush)(cache);
  for (int64_t i = 0; i < cache->piece.heads && call->key_bias; i++) {
    const struct head *head = &cache->heads[i];
    float *key_bias = partial + plan->partial.key_bias + head->number * plan->partial.taps;
    for (int64_t t = 0; t < plan->taps; t++) key_bias[t] += head->grad_key_bias[t];
  }
  for (int64_t t = 0; t < plan->taps && call->shift_bias; t++) {
    float *shift_bias = partial + plan->partial.bias + t * call->channels;
    for (int64_t c = 0; c < call->channels; c++) shift_bias[c] += cache->grad_shift_bias[t * cache->keys + c];
  }
}

void NAMED(slideformer_backward)(const struct plan *plan, int64_t unit, char *scratch) {
  struct cache cache;
  NAMED(slideformer_cache)(&cache, plan, scratch);
  for (int64_t number = 0; number < unit_pieces(plan, unit); number++) {
    NAMED(slideformer_cache_piece)(&cache, unit, number);
    const struct box *box = cache.piece.box;
    const struct split *planes = box->axis[PLANES], *rows = box->axis[ROWS];
    for (int64_t plane = planes->first; plane < planes->end; plane++) {
      for (int64_t row = rows->first; row < rows->end; row++) {
        store_lines(&cache, smaller_of(cache.loaded, box_needed(plan, box, plane, row)));
        NAMED(slideformer_cache_row)(&cache, plane, row);
        for (int64_t head = 0; head < cache.piece.heads; head++) {
          NAMED(slideformer_cache_head)(&cache, head);
          (plan->deformed ? NAMED(slideformer_deformed_backward_row) : NAMED(slideformer_plain_backward_row))(&cache);
          NAMED(slideformer_cache_store)(&cache);
        }
      }
    }
    store_lines(&cache, box_lines(box));
    add_bias_gradients(&cache);
  }
}
