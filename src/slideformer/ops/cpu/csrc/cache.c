/* SPDX-License-Identifier: Apache-2.0 */
#include "cache.h"

static int in_place(const struct slideformer_call *call, int64_t channels) {
  return call->dtype == SLIDEFORMER_FLOAT32 && channels % LANES == 0;
}

/* What is held of each head that a piece may have, head after head. */
static void lay_out_heads(struct cache *cache, struct arena *arena) {
  const struct plan *plan = cache->plan;
  int64_t heads = plan->group, keys = cache->slots * cache->width * cache->keys;
  int64_t values = cache->slots * cache->width * cache->values, table = plan->variants * cache->lanes;
  struct head first = {0};
  cache->heads = take(arena, heads, sizeof(struct head));
  first.key = take_floats(arena, heads * keys);
  first.value = take_floats(arena, heads * values);
  first.logit_offset = take_floats(arena, heads * table);
  first.key_bias = take_floats(arena, heads * cache->lanes);
  if (plan->backward) {
    first.grad_key = take_floats(arena, heads * keys);
    first.grad_value = take_floats(arena, heads * values);
    first.grad_logit_offset = take_floats(arena, heads * table);
    first.grad_key_bias = take_floats(arena, heads * cache->lanes);
  }
  if (!arena->memory) return;
  for (int64_t i = 0; i < heads; i++) {
    struct head *head = &cache->heads[i];
    *head = first;
    head->key += i * keys;
    head->value += i * values;
    head->logit_offset += i * table;
    head->key_bias = plan->call->key_bias ? first.key_bias + i * cache->lanes : NULL;
    if (!plan->backward) continue;
    head->grad_key += i * keys;
    head->grad_value += i * values;
    head->grad_logit_offset += i * table;
    head->grad_key_bias += i * cache->lanes;
  }
}

size_t NAMED(slideformer_cache)(struct cache *cache, const struct plan *plan, char *scratch) {
  const struct slideformer_call *call = plan->call;
  int64_t taps = plan->taps, padded = plan->blocks * TAPS, row = plan->row;
  *cache = (struct cache){.plan = plan};
  cache->keys = round_up(call->channels, LANES);
  cache->values = round_up(call->value_channels, LANES);
  cache->lanes = round_up(taps, LANES);
  cache->width = plan->width;
  cache->slots = plan->slots;
  cache->bytes = call->channels * (call->dtype == SLIDEFORMER_FLOAT32 ? 4 : 2);
  int64_t outside = cache->width * larger_of(cache->keys, cache->values);

  struct arena arena = {scratch, 0};
  lay_out_heads(cache, &arena);
  cache->outside = take_floats(&arena, outside);
  int64_t query_copies = in_place(call, call->channels) ? 0 : row * cache->keys;
  int64_t value_copies = in_place(call, call->value_channels) ? 0 : row * cache->values;
  cache->place = take(&arena, row, sizeof(int64_t));
  cache->queries = take_floats(&arena, query_copies);
  cache->outputs = take_floats(&arena, value_copies);
  cache->weights = take_floats(&arena, CHUNK * larger_of(cache->lanes, padded));
  cache->key_tap = take(&arena, taps, sizeof(float *));
  cache->value_tap = take(&arena, taps, sizeof(float *));
  cache->shift_bias = call->shift_bias ? take_floats(&arena, padded * cache->keys) : NULL;
  if (call->key_mask) {
    cache->missing = take_floats(&arena, cache->slots * cache->width + LANES);
    cache->lacks = take(&arena, cache->slots, 1);
    cache->missing_tap = take(&arena, taps, sizeof(float *));
    cache->masked_offset = take_floats(&arena, row * cache->lanes + LANES);
  }
  if (plan->backward) {
    cache->grad_outside = take_floats(&arena, outside);
    cache->grad_queries = take_floats(&arena, query_copies);
    cache->grad_outputs = take_floats(&arena, value_copies);
    cache->grad_logits = take_floats(&arena, CHUNK * larger_of(cache->lanes, padded));
    cache->grad_key_tap = take(&arena, taps, sizeof(float *));
    cache->grad_value_tap = take(&arena, taps, sizeof(float *));
    cache->grad_shift_bias = call->shift_bias ? take_floats(&arena, taps * cache->keys) : NULL;
  }
  if (!scratch) return arena.used;
  clear(cache->outside, outside);
  if (plan->backward) clear(cache->grad_outside, outside);
  return arena.used;
}

static void take_heads(struct cache *cache) {
  const struct slideformer_call *call = cache->plan->call;
  int64_t taps = cache->plan->taps, padded = cache->plan->blocks * TAPS;
  for (int64_t i = 0; i < cache->piece.heads; i++) {
    struct head *head = &cache->heads[i];
    head->number = cache->piece.head + i;
    for (int64_t t = 0; t < cache->lanes && call->key_bias; t++) {
      head->key_bias[t] = t < taps ? call->key_bias[head->number * taps + t] : 0;
    }
    if (!cache->plan->backward) continue;
    clear(head->grad_logit_offset, cache->plan->variants * cache->lanes);
    clear(head->grad_key_bias, cache->lanes);
  }
  for (int64_t i = 0; i < padded * cache->keys && call->shift_bias; i++) {
    int64_t t = i / cache->keys, c = i % cache->keys;
    cache->shift_bias[i] = t < taps && c < call->channels ? call->shift_bias[c * taps + t] : 0;
  }
  if (cache->grad_shift_bias) clear(cache->grad_shift_bias, taps * cache->keys);
}

void NAMED(slideformer_cache_piece)(struct cache *cache, int64_t unit, int64_t number) {
  const struct plan *plan = cache->plan;
  cache->unit = unit;
  cache->piece = unit_piece(plan, unit, number);
  cache->next = number + 1 < unit_pieces(plan, unit) ? unit_piece(plan, unit, number + 1) : (struct piece){0};
  const struct split *columns = cache->piece.box->axis[COLUMNS];
  cache->loaded = cache->stored = 0;
  cache->kind[0] = -1;
  cache->count = columns->end - columns->first;
  const int64_t *start = plan->axis[COLUMNS].start + columns->first;
  for (int64_t x = 0; x < cache->count; x++) cache->place[x] = start[x] - start[0];
  cache->variant = plan->variant + columns->first;
  take_heads(cache);
}

/* A row of the window in the rings: its slot, or -1 where it is outside of the map. */
static int64_t slot_of(const struct cache *cache, int64_t i, int64_t j) {
  const struct axis *planes = &cache->plan->axis[PLANES], *rows = &cache->plan->axis[ROWS];
  int64_t plane = planes->start[cache->plane] + planes->offset[i], row = rows->start[cache->row] + rows->offset[j];
  if (!axis_holds(planes, plane) || !axis_holds(rows, row)) return -1;
  return line_of(cache->piece.box, plane, row) % cache->slots;
}

/* Where the taps of one row of the window read, from tap t on. */
static void aim_tap_row(struct cache *cache, int64_t slot, int64_t t) {
  const struct axis *columns = &cache->plan->axis[COLUMNS];
  const struct split *split = cache->piece.box->axis[COLUMNS];
  const struct head *head = &cache->head;
  int here = slot >= 0;
  for (int64_t tap = 0; tap < columns->taps; tap++, t++) {
    int64_t column = columns->start[split->first] + columns->offset[tap] - split->from;
    if (here) column += slot * cache->width;
    cache->key_tap[t] = (here ? head->key : cache->outside) + column * cache->keys;
    cache->value_tap[t] = (here ? head->value : cache->outside) + column * cache->values;
    if (cache->missing) cache->missing_tap[t] = (here ? cache->missing : cache->outside) + column;
    if (cache->plan->backward) {
      cache->grad_key_tap[t] = (here ? head->grad_key : cache->grad_outside) + column * cache->keys;
      cache->grad_value_tap[t] = (here ? head->grad_value : cache->grad_outside) + column * cache->values;
    }
  }
}

static void aim_taps(struct cache *cache) {
  const struct axis *axis = cache->plan->axis;
  cache->is_masked = 0;
  for (int64_t i = 0, t = 0; i < axis[PLANES].taps; i++) {
    for (int64_t j = 0; j < axis[ROWS].taps; j++, t += axis[COLUMNS].taps) {
      int64_t slot = slot_of(cache, i, j);
      if (slot >= 0 && cache->plan->excludes) cache->is_masked |= cache->lacks[slot];
      aim_tap_row(cache, slot, t);
    }
  }
}

/* The row of the head at hand in a map. */
static struct row row_at_hand(const struct cache *cache, const struct slideformer_map *map) {
  struct start start = position_start(cache->piece, cache->plane, cache->row);
  start.index[4] = cache->head.number;
  return row_of(map, cache->plan->call->dtype, start);
}

/* A row of a map, to read or to write: in place, or in `copy`, to which it is loaded if it is to be read. */
static struct line aim_row(const struct cache *cache, const struct slideformer_map *map, int64_t channels, float *copy,
                           int is_read) {
  struct row row = row_at_hand(cache, map);
  if (in_place(cache->plan->call, channels)) return (struct line){(float *)row.data, map->stride[3]};
  int64_t pitch = round_up(channels, LANES);
  if (is_read) load_row(row, cache->count, channels, 1, copy, pitch, 0);
  return (struct line){copy, pitch};
}

static void store_line(const struct cache *cache, struct line line, const struct slideformer_map *map,
                       int64_t channels) {
  if (in_place(cache->plan->call, channels)) return;
  store_row(line.data, line.pitch, 0, cache->count, channels, 1, row_at_hand(cache, map));
}

/* The row and head at hand in the dense weights of the call, or in their gradients. */
static float *aim_weights(const struct cache *cache, float *weights) {
  if (!weights) return NULL;
  const struct plan *plan = cache->plan;
  int64_t place = cache->piece.batch;
  place = place * plan->axis[PLANES].size + cache->plane;
  place = place * plan->axis[ROWS].size + cache->row;
  place = place * plan->axis[COLUMNS].size + cache->piece.box->axis[COLUMNS]->first;
  return weights + (place * plan->call->heads + cache->head.number) * plan->taps;
}

void NAMED(slideformer_cache_row)(struct cache *cache, int64_t plane, int64_t row) {
  cache->plane = plane;
  cache->row = row;
  NAMED(slideformer_load_lines)(cache, box_highest(cache->plan, cache->piece.box, plane, row));
  NAMED(slideformer_look_ahead)(cache);
  cache->head = cache->heads[0];
  aim_taps(cache);
  if (cache->plan->logits) NAMED(slideformer_offset_row)(cache);
}

void NAMED(slideformer_cache_head)(struct cache *cache, int64_t head) {
  const struct plan *plan = cache->plan;
  const struct slideformer_call *call = plan->call;
  cache->head = cache->heads[head];
  if (head) aim_taps(cache);
  if (plan->logits) cache->query = aim_row(cache, &call->query, call->channels, cache->queries, 1);
  if (plan->backward) {
    if (plan->logits) cache->grad_query = aim_row(cache, &call->grad_query, call->channels, cache->grad_queries, 0);
    if (plan->values) {
      cache->grad_output = aim_row(cache, &call->grad_output, call->value_channels, cache->grad_outputs, 1);
    }
  } else if (plan->values) {
    cache->output = aim_row(cache, &call->output, call->value_channels, cache->outputs, 0);
  }
  cache->given_weights = aim_weights(cache, call->weights);
  cache->given_grads = aim_weights(cache, call->grad_weights);
}

void NAMED(slideformer_cache_store)(struct cache *cache) {
  const struct plan *plan = cache->plan;
  const struct slideformer_call *call = plan->call;
  if (plan->backward) {
    if (plan->logits) store_line(cache, cache->grad_query, &call->grad_query, call->channels);
  } else if (plan->values) {
    store_line(cache, cache->output, &call->output, call->value_channels);
  }
}
