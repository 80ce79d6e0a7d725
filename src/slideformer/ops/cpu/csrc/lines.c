/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of keys and values on their way into the rings, of all heads together as they lie in memory, and what is
 * fetched for the next row meanwhile. */
#include "cache.h"

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
 * where nothing exists. Of each head of the piece, `apart` from the one before. */
static void load_line(const struct cache *cache, const struct slideformer_map *map, int64_t line, int64_t channels,
                      int64_t pitch, float *first) {
  const struct split *split = cache->piece.box->axis[COLUMNS];
  int64_t heads = cache->piece.heads, apart = cache->slots * cache->width * pitch;
  float *to = first;
  for (int64_t x = split->from; x <= split->to;) {
    struct run run = run_from(cache, x);
    if (run.is_there) {
      struct row row = row_of(map, cache->plan->call->dtype, line_start(cache->plan, cache->piece, line, x));
      load_row(row, run.end - x, channels, heads, to, pitch, apart);
    } else {
      for (int64_t head = 0; head < heads; head++) clear(to + head * apart, (run.end - x) * pitch);
    }
    to += (run.end - x) * pitch;
    x = run.end;
  }
  if (!cache->missing || !cache->lacks[line % cache->slots]) return;
  const float *missing = cache->missing + line % cache->slots * cache->width;
  for (int64_t i = 0; i <= split->to - split->from; i++) {
    if (missing[i] == 0) continue;
    for (int64_t head = 0; head < heads; head++) clear(first + head * apart + i * pitch, pitch);
  }
}

void NAMED(slideformer_load_lines)(struct cache *cache, int64_t highest) {
  const struct plan *plan = cache->plan;
  const struct slideformer_call *call = plan->call;
  int64_t keys = cache->width * cache->keys, values = cache->width * cache->values;
  for (; cache->loaded <= highest; cache->loaded++) {
    int64_t line = cache->loaded, slot = line % cache->slots;
    if (cache->missing) load_missing(cache, line);
    if (plan->logits) load_line(cache, &call->key, line, call->channels, cache->keys, cache->heads->key + slot * keys);
    if (plan->values) {
      load_line(cache, &call->value, line, call->value_channels, cache->values, cache->heads->value + slot * values);
    }
    for (int64_t head = 0; head < cache->piece.heads && plan->backward; head++) {
      if (plan->logits) clear(cache->heads[head].grad_key + slot * keys, keys);
      if (plan->values) clear(cache->heads[head].grad_value + slot * values, values);
    }
  }
}

static void look_at(struct cache *cache, const struct slideformer_map *map, struct start start) {
  cache->ahead.row[cache->ahead.rows++] = row_of(map, cache->plan->call->dtype, start);
}

/* The row of positions after the one at hand, of this piece or of the next, whose box may be NULL. */
static struct piece next_row(const struct cache *cache, int64_t *plane, int64_t *row) {
  struct piece piece = cache->piece;
  *plane = cache->plane;
  *row = cache->row + 1;
  if (*row < piece.box->axis[ROWS]->end) return piece;
  *row = piece.box->axis[ROWS]->first;
  if (++*plane < piece.box->axis[PLANES]->end) return piece;
  piece = cache->next;
  *plane = piece.box ? piece.box->axis[PLANES]->first : 0;
  *row = piece.box ? piece.box->axis[ROWS]->first : 0;
  return piece;
}

void NAMED(slideformer_look_ahead)(struct cache *cache) {
  const struct plan *plan = cache->plan;
  const struct slideformer_call *call = plan->call;
  cache->ahead = (struct ahead){.rows = 0};
  int64_t plane, row;
  struct piece positions = next_row(cache, &plane, &row), lines = cache->piece;
  struct start start = {{0}};
  if (cache->loaded == box_lines(lines.box)) lines = cache->next;
  if (lines.box) {
    int64_t line = cache->loaded == box_lines(cache->piece.box) ? 0 : cache->loaded;
    start = line_start(plan, lines, line, lines.box->axis[COLUMNS]->lowest);
    if (plan->logits) look_at(cache, &call->key, start);
    if (plan->values) look_at(cache, &call->value, start);
  }
  if (positions.box) {
    start = position_start(positions, plane, row);
    if (plan->logits) look_at(cache, &call->query, start);
    if (plan->backward && plan->values) look_at(cache, &call->grad_output, start);
  }
  cache->ahead.reads = cache->ahead.rows;
  if (positions.box) {
    if (!plan->backward && plan->values) look_at(cache, &call->output, start);
    if (plan->backward && plan->logits) look_at(cache, &call->grad_query, start);
  }
  if (!plan->backward) return;
  start = line_start(plan, cache->piece, cache->stored, cache->piece.box->axis[COLUMNS]->lowest);
  if (plan->logits) look_at(cache, &call->grad_key, start);
  if (plan->values) look_at(cache, &call->grad_value, start);
}
