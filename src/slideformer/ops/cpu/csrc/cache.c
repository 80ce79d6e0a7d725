/* SPDX-License-Identifier: Apache-2.0 */
#include "cache.h"

static int in_place(const struct slideformer_call *call, int64_t channels) {
  return call->dtype == SLIDEFORMER_FLOAT32 && channels % LANES == 0;
}

static int64_t longest_row(const struct plan *plan, int padded) {
  int64_t longest = 1;
  for (int64_t s = 0; s < plan->axis[COLUMNS].splits; s++) {
    const struct split *split = &plan->axis[COLUMNS].split[s];
    longest = larger_of(longest, padded ? split->to - split->from + 1 : split->end - split->first);
  }
  return longest;
}

size_t NAMED(slideformer_cache)(struct cache *cache, const struct plan *plan, char *scratch) {
  const struct slideformer_call *call = plan->call;
  int64_t taps = plan->taps, padded = plan->blocks * TAPS, row = longest_row(plan, 0);
  *cache = (struct cache){.plan = plan};
  cache->keys = round_up(call->channels, LANES);
  cache->values = round_up(call->value_channels, LANES);
  cache->lanes = round_up(taps, LANES);
  cache->width = longest_row(plan, 1);
  cache->slots = plan->slots;
  cache->bytes = call->channels * (call->dtype == SLIDEFORMER_FLOAT32 ? 4 : 2);
  int64_t keys = cache->width * cache->keys, values = cache->width * cache->values;

  struct arena arena = {scratch, 0};
  cache->key = take_floats(&arena, cache->slots * keys);
  cache->value = take_floats(&arena, cache->slots * values);
  cache->outside = take_floats(&arena, larger_of(keys, values));
  int64_t query_copies = in_place(call, call->channels) ? 0 : row * cache->keys;
  int64_t value_copies = in_place(call, call->value_channels) ? 0 : row * cache->values;
  cache->place = take(&arena, row, sizeof(int64_t));
  cache->queries = take_floats(&arena, query_copies);
  cache->outputs = take_floats(&arena, value_copies);
  cache->weights = take_floats(&arena, CHUNK * larger_of(cache->lanes, padded));
  cache->key_tap = take(&arena, taps, sizeof(float *));
  cache->value_tap = take(&arena, taps, sizeof(float *));
  cache->logit_offset = take_floats(&arena, plan->variants * cache->lanes);
  cache->shift_bias = call->shift_bias ? take_floats(&arena, padded * cache->keys) : NULL;
  cache->key_bias = call->key_bias ? take_floats(&arena, cache->lanes) : NULL;
  if (call->key_mask) {
    cache->missing = take_floats(&arena, cache->slots * cache->width + LANES);
    cache->lacks = take(&arena, cache->slots, 1);
    cache->missing_tap = take(&arena, taps, sizeof(float *));
    cache->masked_offset = take_floats(&arena, row * cache->lanes + LANES);
  }
  if (plan->backward) {
    cache->grad_key = take_floats(&arena, cache->slots * keys);
    cache->grad_value = take_floats(&arena, cache->slots * values);
    cache->grad_outside = take_floats(&arena, larger_of(keys, values));
    cache->grad_queries = take_floats(&arena, query_copies);
    cache->grad_outputs = take_floats(&arena, value_copies);
    cache->grad_logits = take_floats(&arena, CHUNK * larger_of(cache->lanes, padded));
    cache->grad_key_tap = take(&arena, taps, sizeof(float *));
    cache->grad_value_tap = take(&arena, taps, sizeof(float *));
    cache->grad_logit_offset = take_floats(&arena, plan->variants * cache->lanes);
    cache->grad_shift_bias = call->shift_bias ? take_floats(&arena, taps * cache->keys) : NULL;
    cache->grad_key_bias = call->key_bias ? take_floats(&arena, cache->lanes) : NULL;
  }
  if (!scratch) return arena.used;
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

void NAMED(slideformer_cache_piece)(struct cache *cache, int64_t unit, int64_t number) {
  const struct plan *plan = cache->plan;
  cache->unit = unit;
  cache->piece = unit_piece(plan, unit, number);
  cache->next = number + 1 < unit_pieces(plan, unit) ? unit_piece(plan, unit, number + 1) : (struct piece){0};
  const struct slideformer_call *call = plan->call;
  const struct split *columns = cache->piece.box->axis[COLUMNS];
  cache->loaded = cache->stored = 0;
  cache->kind[0] = -1;
  cache->count = columns->end - columns->first;
  const int64_t *start = plan->axis[COLUMNS].start + columns->first;
  for (int64_t x = 0; x < cache->count; x++) cache->place[x] = start[x] - start[0];
  cache->variant = plan->variant + columns->first;
  take_head(cache, cache->piece.head);
  if (!plan->backward) return;
  memset(cache->grad_logit_offset, 0, (size_t)(plan->variants * cache->lanes) * sizeof(float));
  if (call->shift_bias) memset(cache->grad_shift_bias, 0, (size_t)(plan->taps * cache->keys) * sizeof(float));
  if (call->key_bias) memset(cache->grad_key_bias, 0, (size_t)cache->lanes * sizeof(float));
}

/* A run of a line's columns that lie side by side on the map, or out of it. */
struct run {
  int64_t end;
  int is_there;
};

static struct run run_from(const struct cache *cache, int64_t x) {
  const struct axis *columns = &cache->plan->axis[COLUMNS];
  int64_t end = cache->piece.box->axis[COLUMNS]->to + 1;
  if (axis_holds(columns, x)) return (struct run){smaller_of(end, x + columns->size - axis_place(columns, x)), 1};
  return (struct run){x < 0 ? smaller_of(0, end) : end, 0};
}

static void load_missing(struct cache *cache, int64_t line) {
  const struct axis *axis = cache->plan->axis;
  const struct split *split = cache->piece.box->axis[COLUMNS];
  float *to = cache->missing + line % cache->slots * cache->width;
  uint8_t *lacks = cache->lacks + line % cache->slots;
  *lacks = 0;
  for (int64_t x = split->from; x <= split->to;) {
    struct run run = run_from(cache, x);
    int64_t count = run.end - x;
    const int64_t *at = line_start(cache->plan, cache->piece, line, x).index;
    const uint8_t *row = cache->plan->call->key_mask;
    if (run.is_there) row += ((at[0] * axis[PLANES].size + at[1]) * axis[ROWS].size + at[2]) * axis[COLUMNS].size + at[3];
    for (int64_t i = 0; i < count; i++) to[i] = run.is_there && !row[i] ? -INFINITY : 0;
    *lacks |= run.is_there && memchr(row, 0, (size_t)count);
    to += count;
    x = run.end;
  }
}

/* A line of a map as it is read: with the map's other end around a periodic axis, else with zeros, and with zeros
 * where nothing exists. */
static void load_line(const struct cache *cache, const struct slideformer_map *map, int64_t line, int64_t channels,
                      int64_t pitch, float *to) {
  const struct split *split = cache->piece.box->axis[COLUMNS];
  float *first = to;
  for (int64_t x = split->from; x <= split->to;) {
    struct run run = run_from(cache, x);
    if (run.is_there) {
      struct row row = row_of(map, cache->plan->call->dtype, line_start(cache->plan, cache->piece, line, x));
      load_row(row, run.end - x, channels, to, pitch);
    } else {
      memset(to, 0, (size_t)((run.end - x) * pitch) * sizeof(float));
    }
    to += (run.end - x) * pitch;
    x = run.end;
  }
  if (!cache->missing || !cache->lacks[line % cache->slots]) return;
  const float *missing = cache->missing + line % cache->slots * cache->width;
  for (int64_t i = 0; i <= split->to - split->from; i++) {
    if (missing[i] < 0) clear(first + i * pitch, pitch);
  }
}

static void load_lines(struct cache *cache, int64_t highest) {
  const struct plan *plan = cache->plan;
  const struct slideformer_call *call = plan->call;
  int64_t keys = cache->width * cache->keys, values = cache->width * cache->values;
  for (; cache->loaded <= highest; cache->loaded++) {
    int64_t line = cache->loaded, slot = line % cache->slots;
    if (cache->missing) load_missing(cache, line);
    if (plan->logits) load_line(cache, &call->key, line, call->channels, cache->keys, cache->key + slot * keys);
    if (plan->values) {
      load_line(cache, &call->value, line, call->value_channels, cache->values, cache->value + slot * values);
    }
    if (plan->backward && plan->logits) memset(cache->grad_key + slot * keys, 0, (size_t)keys * sizeof(float));
    if (plan->backward && plan->values) memset(cache->grad_value + slot * values, 0, (size_t)values * sizeof(float));
  }
}

/* Where the taps of one row of the window read, from tap t on. */
static void aim_tap_row(struct cache *cache, int64_t plane, int64_t row, int64_t t) {
  const struct axis *axis = cache->plan->axis, *columns = &axis[COLUMNS];
  const struct split *split = cache->piece.box->axis[COLUMNS];
  int here = axis_holds(&axis[PLANES], plane) && axis_holds(&axis[ROWS], row);
  int64_t slot = here ? line_of(cache->piece.box, plane, row) % cache->slots : 0;
  if (here && cache->plan->excludes) cache->is_masked |= cache->lacks[slot];
  for (int64_t tap = 0; tap < columns->taps; tap++, t++) {
    int64_t column = slot * cache->width + columns->start[split->first] + columns->offset[tap] - split->from;
    cache->key_tap[t] = (here ? cache->key : cache->outside) + column * cache->keys;
    cache->value_tap[t] = (here ? cache->value : cache->outside) + column * cache->values;
    if (cache->missing) cache->missing_tap[t] = (here ? cache->missing : cache->outside) + column;
    if (cache->plan->backward) {
      cache->grad_key_tap[t] = (here ? cache->grad_key : cache->grad_outside) + column * cache->keys;
      cache->grad_value_tap[t] = (here ? cache->grad_value : cache->grad_outside) + column * cache->values;
    }
  }
}

static void aim_taps(struct cache *cache) {
  const struct axis *planes = &cache->plan->axis[PLANES], *rows = &cache->plan->axis[ROWS];
  cache->is_masked = 0;
  for (int64_t i = 0, t = 0; i < planes->taps; i++) {
    for (int64_t j = 0; j < rows->taps; j++, t += cache->plan->axis[COLUMNS].taps) {
      aim_tap_row(cache, planes->start[cache->plane] + planes->offset[i], rows->start[cache->row] + rows->offset[j], t);
    }
  }
}

/* A row of a map, to read or to write: in place, or in `copy`, to which it is loaded if it is to be read. */
static struct line aim_row(const struct cache *cache, const struct slideformer_map *map, int64_t channels, float *copy,
                           int is_read) {
  const struct slideformer_call *call = cache->plan->call;
  struct row row = row_of(map, call->dtype, position_start(cache->piece, cache->plane, cache->row));
  if (in_place(call, channels)) return (struct line){(float *)row.data, map->stride[3]};
  int64_t pitch = round_up(channels, LANES);
  if (is_read) load_row(row, cache->count, channels, copy, pitch);
  return (struct line){copy, pitch};
}

static void store_row_of(const struct cache *cache, struct line line, const struct slideformer_map *map,
                         int64_t channels) {
  const struct slideformer_call *call = cache->plan->call;
  if (in_place(call, channels)) return;
  struct row row = row_of(map, call->dtype, position_start(cache->piece, cache->plane, cache->row));
  store_row(line.data, line.pitch, cache->count, channels, row);
}

static void look_ahead(struct cache *cache, const struct slideformer_map *map, struct start start) {
  cache->ahead.row[cache->ahead.rows++] = row_of(map, cache->plan->call->dtype, start);
}

/* What is read next: rows of keys and values, and of positions, of this piece or the next. */
static void aim_reads(struct cache *cache) {
  const struct plan *plan = cache->plan;
  const struct slideformer_call *call = plan->call;
  struct piece piece = cache->piece;
  int64_t line = cache->loaded, plane = cache->plane, row = cache->row + 1;
  if (line == box_lines(piece.box)) {
    piece = cache->next;
    line = 0;
  }
  if (piece.box) {
    struct start start = line_start(plan, piece, line, piece.box->axis[COLUMNS]->lowest);
    if (plan->logits) look_ahead(cache, &call->key, start);
    if (plan->values) look_ahead(cache, &call->value, start);
  }
  piece = cache->piece;
  if (row == piece.box->axis[ROWS]->end) {
    row = piece.box->axis[ROWS]->first;
    plane++;
  }
  if (plane == piece.box->axis[PLANES]->end) {
    piece = cache->next;
    plane = piece.box ? piece.box->axis[PLANES]->first : 0;
    row = piece.box ? piece.box->axis[ROWS]->first : 0;
  }
  if (piece.box) {
    struct start start = position_start(piece, plane, row);
    if (plan->logits) look_ahead(cache, &call->query, start);
    if (plan->backward && plan->values) look_ahead(cache, &call->grad_output, start);
  }
}

/* Take aim at what the next row of positions loads, and at what this one stores. */
static void aim_ahead(struct cache *cache) {
  const struct plan *plan = cache->plan;
  const struct slideformer_call *call = plan->call;
  struct start here = position_start(cache->piece, cache->plane, cache->row);
  int64_t lowest = cache->piece.box->axis[COLUMNS]->lowest;
  struct start stored = line_start(plan, cache->piece, cache->stored, lowest);
  cache->ahead.rows = 0;
  aim_reads(cache);
  cache->ahead.reads = cache->ahead.rows;
  if (!plan->backward && plan->values) look_ahead(cache, &call->output, here);
  if (plan->backward && plan->logits) look_ahead(cache, &call->grad_query, here);
  if (plan->backward && plan->logits) look_ahead(cache, &call->grad_key, stored);
  if (plan->backward && plan->values) look_ahead(cache, &call->grad_value, stored);
}

/* The row at hand in the dense weights of the call, or in their gradients. */
static float *aim_weights(const struct cache *cache, float *weights) {
  if (!weights) return NULL;
  const struct plan *plan = cache->plan;
  int64_t place = cache->piece.batch;
  place = place * plan->axis[PLANES].size + cache->plane;
  place = place * plan->axis[ROWS].size + cache->row;
  place = place * plan->axis[COLUMNS].size + cache->piece.box->axis[COLUMNS]->first;
  return weights + (place * plan->call->heads + cache->piece.head) * plan->taps;
}

void NAMED(slideformer_cache_row)(struct cache *cache, int64_t plane, int64_t row) {
  const struct plan *plan = cache->plan;
  const struct slideformer_call *call = plan->call;
  cache->plane = plane;
  cache->row = row;
  load_lines(cache, box_highest(plan, cache->piece.box, plane, row));
  aim_taps(cache);
  if (plan->logits) NAMED(slideformer_offset_row)(cache);
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
  aim_ahead(cache);
}

void NAMED(slideformer_cache_store)(struct cache *cache) {
  const struct plan *plan = cache->plan;
  const struct slideformer_call *call = plan->call;
  if (plan->backward) {
    if (plan->logits) store_row_of(cache, cache->grad_query, &call->grad_query, call->channels);
  } else if (plan->values) {
    store_row_of(cache, cache->output, &call->output, call->value_channels);
  }
}
