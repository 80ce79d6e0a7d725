/* SPDX-License-Identifier: Apache-2.0 */
/* What is added to the logits: a bias, and minus infinity for taps that are left out. The same for all columns whose
 * taps have the same places, and so a small table; what a mask leaves out comes to it by position. */
#include "cache.h"

/* A position that represents all of a variant, and the places of its taps in a logit bias by relative position. */
struct stand_in {
  int64_t position[AXES], relative[AXES];
};

static struct stand_in stand_in(const struct cache *cache, int64_t variant) {
  const struct plan *plan = cache->plan;
  struct stand_in it = {{cache->table_plane, cache->table_row, plan->variant_column[variant]}, {0}};
  for (int a = 0; a < AXES && plan->call->relative; a++) it.relative[a] = axis_relative(&plan->axis[a], it.position[a]);
  return it;
}

static int64_t bias_place(const struct plan *plan, const struct stand_in *it, int64_t t) {
  if (!plan->call->relative) return t;
  int64_t place = 0;
  for (int a = 0; a < AXES; a++) {
    place = place * (2 * plan->axis[a].taps - 1) + it->relative[a] + plan->tap[a][t];
  }
  return place;
}

static int is_there(const struct plan *plan, const struct stand_in *it, int64_t t) {
  for (int a = 0; a < AXES; a++) {
    if (!axis_counts(&plan->axis[a], it->position[a], plan->tap[a][t])) return 0;
  }
  return 1;
}

static void fill_table(const struct cache *cache, const struct head *head) {
  const struct plan *plan = cache->plan;
  const float *bias = plan->call->logit_bias;
  if (bias) bias += head->number * plan_bias_size(plan);
  float *to = head->logit_offset;
  for (int64_t variant = 0; variant < plan->variants; variant++, to += cache->lanes) {
    struct stand_in it = stand_in(cache, variant);
    for (int64_t t = 0; t < cache->lanes; t++) {
      int there = t < plan->taps && is_there(plan, &it, t);
      to[t] = !there ? -INFINITY : bias ? bias[bias_place(plan, &it, t)] : 0;
    }
  }
}

static void flush_table(const struct cache *cache, const struct head *head) {
  const struct plan *plan = cache->plan;
  float *partial = plan->partials + cache->unit * plan->partial.size + plan->partial.logit_bias;
  partial += head->number * plan->partial.table;
  float *from = head->grad_logit_offset;
  for (int64_t variant = 0; variant < plan->variants; variant++, from += cache->lanes) {
    struct stand_in it = stand_in(cache, variant);
    for (int64_t t = 0; t < plan->taps; t++) {
      if (is_there(plan, &it, t)) partial[bias_place(plan, &it, t)] += from[t];
    }
  }
  clear(head->grad_logit_offset, plan->variants * cache->lanes);
}

void NAMED(slideformer_offset_flush)(struct cache *cache) {
  if (cache->kind[0] < 0 || !cache->plan->backward || !cache->plan->call->logit_bias) return;
  for (int64_t head = 0; head < cache->piece.heads; head++) flush_table(cache, &cache->heads[head]);
}

typedef float four __attribute__((vector_size(16), aligned(4), may_alias));

/* Minus infinity for the taps of a position that read nothing. Taps of one row of the window lie side by side where
 * they are not dilated: they are copied by fours, each over what the one before has too many of. */
static void mask_position(const struct cache *cache, int64_t x, int64_t together, float *to) {
  int64_t taps = cache->plan->taps, place = cache->place[x];
  for (int64_t t = 0; t < taps; t += together) {
    const float *from = cache->missing_tap[t] + place;
    for (int64_t i = 0; i < together; i += 4) *(four *)(to + t + i) = *(const four *)(from + i);
  }
  for (int64_t t = taps; t < cache->lanes; t += 4) *(four *)(to + t) = (four){0};
}

static void mask_row(struct cache *cache) {
  const struct axis *columns = &cache->plan->axis[COLUMNS];
  /* Where a window is longer than the map, its outermost offsets are cut to one. */
  int side_by_side = columns->dilation == 1 && axis_reach(columns) == columns->taps - 1;
  for (int64_t x = 0; x < cache->count; x++) {
    mask_position(cache, x, side_by_side ? columns->taps : 1, cache->masked_offset + x * cache->lanes);
  }
}

void NAMED(slideformer_offset_row)(struct cache *cache) {
  const struct plan *plan = cache->plan;
  int64_t plane = axis_kind(&plan->axis[PLANES], cache->plane, plan->call->relative);
  int64_t row = axis_kind(&plan->axis[ROWS], cache->row, plan->call->relative);
  if (plane != cache->kind[0] || row != cache->kind[1]) {
    NAMED(slideformer_offset_flush)(cache);
    cache->kind[0] = plane;
    cache->kind[1] = row;
    cache->table_plane = cache->plane;
    cache->table_row = cache->row;
    for (int64_t head = 0; head < cache->piece.heads; head++) fill_table(cache, &cache->heads[head]);
  }
  if (cache->is_masked) mask_row(cache);
}
