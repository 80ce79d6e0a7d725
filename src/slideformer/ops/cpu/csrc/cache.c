/* SPDX-License-Identifier: Apache-2.0 */
#include "cache.h"

/* Which taps of a position lie in the map, and, where a bias asks, how far they are: equal for equal. */
static int64_t kind(const struct plan *plan, const struct axis *axis, int64_t position) {
  const struct slideformer_call *call = plan->call;
  if (call->border == SLIDEFORMER_ZEROS) return 0;
  int64_t first = 0, inside = 0;
  for (int64_t tap = 0; tap < axis->taps; tap++) {
    int64_t source = axis->start[position] + axis->offset[tap];
    first += source < 0;
    inside += source >= 0 && source < axis->size;
  }
  int64_t distance = call->relative ? axis_relative(axis, position) : 0;
  return (distance * (axis->taps + 1) + first) * (axis->taps + 1) + inside;
}

static int64_t ring_slots(const struct axis *rows) {
  int64_t slots = 1, highest = -1;
  for (int64_t y = 0; y < rows->size; y++) {
    highest = larger_of(highest, axis_highest(rows, y));
    slots = larger_of(slots, highest - rows->needed[y] + 1);
  }
  return slots;
}

static int64_t count_variants(const struct plan *plan) {
  int64_t count = 1;
  for (int64_t x = 1; x < plan->call->width; x++) {
    count += kind(plan, &plan->columns, x) != kind(plan, &plan->columns, x - 1);
  }
  return count;
}

static void number_variants(struct cache *cache) {
  const struct plan *plan = cache->plan;
  int64_t number = 0;
  for (int64_t x = 0; x < plan->call->width; x++) {
    number += x > 0 && kind(plan, &plan->columns, x) != kind(plan, &plan->columns, x - 1);
    if (x == 0 || cache->variant[x - 1] != number) cache->variant_column[number] = x;
    cache->variant[x] = number;
  }
}

static int in_place(const struct slideformer_call *call, int64_t channels) {
  return call->dtype == SLIDEFORMER_FLOAT32 && channels % LANES == 0;
}

size_t NAMED(slideformer_cache)(struct cache *cache, const struct plan *plan, char *scratch) {
  const struct slideformer_call *call = plan->call;
  int64_t taps = plan->taps, padded = plan->blocks * TAPS, width = call->width;
  *cache = (struct cache){.plan = plan, .row_kind = -1};
  cache->keys = round_up(call->channels, LANES);
  cache->values = round_up(call->value_channels, LANES);
  cache->lanes = round_up(taps, LANES);
  cache->width = width + plan->columns.before + plan->columns.after;
  cache->slots = ring_slots(&plan->rows);
  cache->bytes = call->channels * (call->dtype == SLIDEFORMER_FLOAT32 ? 4 : 2);
  cache->variants = count_variants(plan);
  int64_t keys = cache->width * cache->keys, values = cache->width * cache->values;

  struct arena arena = {scratch, 0};
  cache->key = take_floats(&arena, cache->slots * keys);
  cache->value = take_floats(&arena, cache->slots * values);
  cache->outside = take_floats(&arena, larger_of(keys, values));
  int64_t query_copies = in_place(call, call->channels) ? 0 : width * cache->keys;
  int64_t value_copies = in_place(call, call->value_channels) ? 0 : width * cache->values;
  cache->queries = take_floats(&arena, query_copies);
  cache->outputs = take_floats(&arena, value_copies);
  cache->weights = take_floats(&arena, CHUNK * larger_of(cache->lanes, padded));
  cache->key_tap = take(&arena, taps, sizeof(float *));
  cache->value_tap = take(&arena, taps, sizeof(float *));
  cache->logit_offset = take_floats(&arena, cache->variants * cache->lanes);
  cache->variant = take(&arena, width, sizeof(int64_t));
  cache->variant_column = take(&arena, cache->variants, sizeof(int64_t));
  cache->shift_bias = call->shift_bias ? take_floats(&arena, padded * cache->keys) : NULL;
  cache->key_bias = call->key_bias ? take_floats(&arena, cache->lanes) : NULL;
  if (plan->backward) {
    cache->grad_key = take_floats(&arena, cache->slots * keys);
    cache->grad_value = take_floats(&arena, cache->slots * values);
    cache->grad_outside = take_floats(&arena, larger_of(keys, values));
    cache->grad_queries = take_floats(&arena, query_copies);
    cache->grad_outputs = take_floats(&arena, value_copies);
    cache->grad_logits = take_floats(&arena, CHUNK * larger_of(cache->lanes, padded));
    cache->grad_key_tap = take(&arena, taps, sizeof(float *));
    cache->grad_value_tap = take(&arena, taps, sizeof(float *));
    cache->grad_logit_offset = take_floats(&arena, cache->variants * cache->lanes);
    cache->grad_shift_bias = call->shift_bias ? take_floats(&arena, taps * cache->keys) : NULL;
    cache->grad_key_bias = call->key_bias ? take_floats(&arena, cache->lanes) : NULL;
  }
  if (!scratch) return arena.used;
  number_variants(cache);
  memset(cache->outside, 0, (size_t)larger_of(keys, values) * sizeof(float));
  if (plan->backward) {
    memset(cache->grad_outside, 0, (size_t)larger_of(keys, values) * sizeof(float));
  }
  return arena.used;
}

static void take_head(struct cache *cache, int64_t head) {
  const struct slideformer_call *call = cache->plan->call;
  int64_t taps = cache->plan->taps, padded = cache->plan->blocks * TAPS;
  for (int64_t t = 0; t < cache->lanes && call->key_bias; t++) {
    cache->key_bias[t] = t < taps ? call->key_bias[head * taps + t] : 0;
  }
  for (int64_t i = 0; i < padded * cache->keys && call->shift_bias; i++) {
    int64_t t = i / cache->keys, c = i % cache->keys;
    cache->shift_bias[i] = t < taps && c < call->channels ? call->shift_bias[c * taps + t] : 0;
  }
}

void NAMED(slideformer_cache_piece)(struct cache *cache) {
  const struct plan *plan = cache->plan;
  const struct slideformer_call *call = plan->call;
  cache->loaded = cache->stored = cache->piece.split->lowest;
  cache->row_kind = -1;
  take_head(cache, cache->piece.head);
  if (!plan->backward) return;
  memset(cache->grad_logit_offset, 0, (size_t)(cache->variants * cache->lanes) * sizeof(float));
  if (call->shift_bias) memset(cache->grad_shift_bias, 0, (size_t)(plan->taps * cache->keys) * sizeof(float));
  if (call->key_bias) memset(cache->grad_key_bias, 0, (size_t)cache->lanes * sizeof(float));
}

static int is_inside(const struct axis *axis, int64_t position, int64_t tap) {
  int64_t source = axis->start[position] + axis->offset[tap];
  return source >= 0 && source < axis->size;
}

/* The logit bias by relative position, or by tap, of a position's tap. */
static int64_t bias_place(const struct plan *plan, int64_t y, int64_t x, int64_t t) {
  if (!plan->call->relative) return t;
  int64_t row = axis_relative(&plan->rows, y) + t / plan->columns.taps;
  int64_t column = axis_relative(&plan->columns, x) + t % plan->columns.taps;
  return row * (2 * plan->columns.taps - 1) + column;
}

static int64_t bias_size(const struct plan *plan) {
  if (!plan->call->relative) return plan->taps;
  return (2 * plan->rows.taps - 1) * (2 * plan->columns.taps - 1);
}

static int is_there(const struct plan *plan, int64_t y, int64_t x, int64_t t) {
  if (t >= plan->taps) return 0;
  if (plan->call->border == SLIDEFORMER_ZEROS) return 1;
  return is_inside(&plan->rows, y, t / plan->columns.taps) && is_inside(&plan->columns, x, t % plan->columns.taps);
}

static void fill_offset(struct cache *cache, int64_t y) {
  const struct plan *plan = cache->plan;
  const float *bias = plan->call->logit_bias;
  for (int64_t i = 0; i < cache->variants * cache->lanes; i++) {
    int64_t x = cache->variant_column[i / cache->lanes], t = i % cache->lanes;
    float *to = &cache->logit_offset[i];
    *to = is_there(plan, y, x, t) ? 0 : -INFINITY;
    if (bias && *to == 0) *to = bias[cache->piece.head * bias_size(plan) + bias_place(plan, y, x, t)];
  }
}

void NAMED(slideformer_cache_flush_offset)(struct cache *cache) {
  const struct plan *plan = cache->plan;
  if (cache->row_kind < 0 || !plan->backward || !plan->call->logit_bias) return;
  float *partial = plan->partials + cache->unit * plan->partial.size + plan->partial.logit_bias;
  partial += cache->piece.head * plan->partial.table;
  for (int64_t i = 0; i < cache->variants * cache->lanes; i++) {
    int64_t x = cache->variant_column[i / cache->lanes], t = i % cache->lanes;
    if (is_there(plan, cache->row, x, t)) partial[bias_place(plan, cache->row, x, t)] += cache->grad_logit_offset[i];
    cache->grad_logit_offset[i] = 0;
  }
}

static void load_map_row(const struct cache *cache, const struct slideformer_map *map, int64_t y, int64_t channels,
                         int64_t pitch, float *to) {
  const struct plan *plan = cache->plan;
  struct row row = row_of(map, plan->call->dtype, cache->piece.batch, y, cache->piece.head);
  int64_t width = plan->call->width, before = plan->columns.before * pitch;
  memset(to, 0, (size_t)before * sizeof(float));
  load_row(row, width, channels, to + before, pitch);
  memset(to + before + width * pitch, 0, (size_t)(plan->columns.after * pitch) * sizeof(float));
}

/* A row of a map, to read or to write: in place, or in `copy`, to which it is loaded if it is to be read. */
static struct line line_of(const struct cache *cache, const struct slideformer_map *map, int64_t y, int64_t channels,
                           float *copy, int is_read) {
  const struct slideformer_call *call = cache->plan->call;
  struct row row = row_of(map, call->dtype, cache->piece.batch, y, cache->piece.head);
  if (in_place(call, channels)) return (struct line){(float *)row.data, map->stride[2]};
  int64_t pitch = round_up(channels, LANES);
  if (is_read) load_row(row, call->width, channels, copy, pitch);
  return (struct line){copy, pitch};
}

static void store_line(const struct cache *cache, struct line line, const struct slideformer_map *map, int64_t y,
                       int64_t channels) {
  const struct slideformer_call *call = cache->plan->call;
  if (in_place(call, channels)) return;
  struct row row = row_of(map, call->dtype, cache->piece.batch, y, cache->piece.head);
  store_row(line.data, line.pitch, call->width, channels, row);
}

static void look_ahead(struct cache *cache, const struct slideformer_map *map, int64_t y) {
  const struct slideformer_call *call = cache->plan->call;
  if (y < 0 || y >= call->height) return;
  cache->ahead.row[cache->ahead.rows++] = row_of(map, call->dtype, cache->piece.batch, y, cache->piece.head);
}

/* Take aim at what the next row of positions loads, and at what this one stores. */
static void aim(struct cache *cache, int64_t y) {
  const struct plan *plan = cache->plan;
  const struct slideformer_call *call = plan->call;
  cache->ahead.rows = 0;
  look_ahead(cache, &call->query, y + 1);
  look_ahead(cache, &call->key, cache->loaded);
  look_ahead(cache, &call->value, cache->loaded);
  if (plan->backward) look_ahead(cache, &call->grad_output, y + 1);
  cache->ahead.reads = cache->ahead.rows;
  if (!plan->backward) {
    look_ahead(cache, &call->output, y);
    return;
  }
  look_ahead(cache, &call->grad_query, y);
  look_ahead(cache, &call->grad_key, cache->stored);
  look_ahead(cache, &call->grad_value, cache->stored);
}

void NAMED(slideformer_cache_row)(struct cache *cache, int64_t y) {
  const struct plan *plan = cache->plan;
  const struct slideformer_call *call = plan->call;
  int64_t keys = cache->width * cache->keys, values = cache->width * cache->values;
  for (; cache->loaded <= axis_highest(&plan->rows, y); cache->loaded++) {
    int64_t slot = cache->loaded % cache->slots;
    load_map_row(cache, &call->key, cache->loaded, call->channels, cache->keys, cache->key + slot * keys);
    load_map_row(cache, &call->value, cache->loaded, call->value_channels, cache->values, cache->value + slot * values);
    if (plan->backward) {
      memset(cache->grad_key + slot * keys, 0, (size_t)keys * sizeof(float));
      memset(cache->grad_value + slot * values, 0, (size_t)values * sizeof(float));
    }
  }
  for (int64_t t = 0; t < plan->taps; t++) {
    int64_t source = plan->rows.start[y] + plan->rows.offset[t / plan->columns.taps];
    int64_t column = plan->columns.before + plan->columns.offset[t % plan->columns.taps];
    int here = source >= 0 && source < call->height;
    int64_t slot = here ? source % cache->slots : 0;
    int64_t key = slot * keys + column * cache->keys, value = slot * values + column * cache->values;
    cache->key_tap[t] = (here ? cache->key : cache->outside) + key;
    cache->value_tap[t] = (here ? cache->value : cache->outside) + value;
    if (plan->backward) {
      cache->grad_key_tap[t] = (here ? cache->grad_key : cache->grad_outside) + key;
      cache->grad_value_tap[t] = (here ? cache->grad_value : cache->grad_outside) + value;
    }
  }
  int64_t row_kind = kind(plan, &plan->rows, y);
  if (row_kind != cache->row_kind) {
    NAMED(slideformer_cache_flush_offset)(cache);
    cache->row_kind = row_kind;
    cache->row = y;
    fill_offset(cache, y);
  }
  cache->query = line_of(cache, &call->query, y, call->channels, cache->queries, 1);
  if (plan->backward) {
    cache->grad_query = line_of(cache, &call->grad_query, y, call->channels, cache->grad_queries, 0);
    cache->grad_output = line_of(cache, &call->grad_output, y, call->value_channels, cache->grad_outputs, 1);
  } else {
    cache->output = line_of(cache, &call->output, y, call->value_channels, cache->outputs, 0);
  }
  aim(cache, y);
}

void NAMED(slideformer_cache_store)(struct cache *cache, int64_t y) {
  const struct slideformer_call *call = cache->plan->call;
  if (cache->plan->backward) {
    store_line(cache, cache->grad_query, &call->grad_query, y, call->channels);
  } else {
    store_line(cache, cache->output, &call->output, y, call->value_channels);
  }
}
