/* SPDX-License-Identifier: Apache-2.0 */
/* What is added to the logits: a bias, and minus infinity for taps that are left out. The same for all columns whose
 * taps have the same places, and so a small table; but where a mask concerns a row, by position. */
#include "cache.h"

/* The logit bias by relative position, or by tap, of the tap of a position. */
static int64_t bias_place(const struct plan *plan, const int64_t position[AXES], int64_t t) {
  if (!plan->call->relative) return t;
  int64_t place = 0;
  for (int a = 0; a < AXES; a++) {
    const struct axis *axis = &plan->axis[a];
    place = place * (2 * axis->taps - 1) + axis_relative(axis, position[a]) + plan_tap(plan, t, a);
  }
  return place;
}

static int is_there(const struct plan *plan, const int64_t position[AXES], int64_t t) {
  if (t >= plan->taps) return 0;
  for (int a = 0; a < AXES; a++) {
    if (!axis_counts(&plan->axis[a], position[a], plan_tap(plan, t, a))) return 0;
  }
  return 1;
}

static void fill_table(struct cache *cache) {
  const struct plan *plan = cache->plan;
  const float *bias = plan->call->logit_bias;
  for (int64_t i = 0; i < plan->variants * cache->lanes; i++) {
    int64_t position[AXES] = {cache->table_plane, cache->table_row, plan->variant_column[i / cache->lanes]};
    int64_t t = i % cache->lanes;
    float *to = &cache->logit_offset[i];
    *to = is_there(plan, position, t) ? 0 : -INFINITY;
    if (bias && *to == 0) *to = bias[cache->piece.head * plan_bias_size(plan) + bias_place(plan, position, t)];
  }
}

void NAMED(slideformer_offset_flush)(struct cache *cache) {
  const struct plan *plan = cache->plan;
  if (cache->kind[0] < 0 || !plan->backward || !plan->call->logit_bias) return;
  float *partial = plan->partials + cache->unit * plan->partial.size + plan->partial.logit_bias;
  partial += cache->piece.head * plan->partial.table;
  for (int64_t i = 0; i < plan->variants * cache->lanes; i++) {
    int64_t position[AXES] = {cache->table_plane, cache->table_row, plan->variant_column[i / cache->lanes]};
    int64_t t = i % cache->lanes;
    if (is_there(plan, position, t)) partial[bias_place(plan, position, t)] += cache->grad_logit_offset[i];
    cache->grad_logit_offset[i] = 0;
  }
}

static void mask_row(struct cache *cache) {
  int64_t lanes = cache->lanes;
  for (int64_t x = 0; x < cache->count; x++) {
    const float *from = cache->logit_offset + cache->variant[x] * lanes;
    for (int64_t t = 0; t < lanes; t++) cache->masked_offset[x * lanes + t] = from[t];
  }
  for (int64_t t = 0; t < cache->plan->taps; t++) {
    const uint8_t *row = cache->missing_tap[t];
    for (int64_t x = 0; row && x < cache->count; x++) {
      if (row[cache->place[x]]) cache->masked_offset[x * lanes + t] = -INFINITY;
    }
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
    fill_table(cache);
  }
  if (cache->is_masked) mask_row(cache);
}
