/* SPDX-License-Identifier: Apache-2.0 */
#include "plan.h"

#include <stdlib.h>
#include <string.h>

enum { TARGET_PIECES = 32, UNITS = 64, MIN_UNITS = 8, UNITS_PER_THREAD = 6, MIN_ROWS = 16 };

static int64_t reach(const struct axis *axis) { return axis->offset[axis->taps - 1] - axis->offset[0]; }

/* Enough splits to keep many threads busy where maps and heads are few, but none so low that its border
 * costs more than an eighth. */
static int64_t count_splits(const struct plan *plan) {
  const struct slideformer_call *call = plan->call;
  int64_t maps = larger_of(1, call->batch * call->heads);
  int64_t lowest = larger_of(MIN_ROWS, 8 * reach(&plan->rows));
  return larger_of(1, smaller_of(ceil_div(TARGET_PIECES, maps), call->height / lowest));
}

static void fill_splits(struct plan *plan) {
  int64_t height = plan->call->height, n = plan->splits;
  for (int64_t s = 0; s < n; s++) {
    struct split *split = &plan->split[s];
    *split = (struct split){.first = s * height / n, .end = (s + 1) * height / n, .lowest = height, .highest = -1};
    for (int64_t y = split->first; y < split->end; y++) {
      split->lowest = smaller_of(split->lowest, axis_lowest(&plan->rows, y));
      split->highest = larger_of(split->highest, axis_highest(&plan->rows, y));
    }
  }
  int64_t highest = -1, lowest = height;
  for (int64_t s = 0; s < n; s++) {
    plan->split[s].shared_to = highest;
    highest = larger_of(highest, plan->split[s].highest);
  }
  for (int64_t s = n - 1; s >= 0; s--) {
    plan->split[s].shared_from = lowest;
    lowest = smaller_of(lowest, plan->split[s].lowest);
  }
  plan->side_rows = 0;
  for (int64_t s = 0; s < n; s++) {
    struct split *split = &plan->split[s];
    int64_t top = larger_of(0, split->shared_to - split->lowest + 1);
    int64_t bottom = larger_of(0, split->highest - larger_of(split->shared_from, split->shared_to + 1) + 1);
    split->side = plan->side_rows;
    split->side_rows = top + bottom;
    plan->side_rows += split->side_rows;
  }
}

static void size_partial(struct plan *plan) {
  const struct slideformer_call *call = plan->call;
  struct partial *partial = &plan->partial;
  int64_t at = 0;
  partial->taps = plan->blocks * TAPS;
  partial->table = partial->taps;
  if (call->relative) partial->table = (2 * plan->rows.taps - 1) * (2 * plan->columns.taps - 1);
  partial->weight = at;
  if (call->shift_weight) at += plan_weights(plan);
  partial->bias = at;
  if (call->shift_bias) at += plan->taps * call->channels;
  partial->key_bias = at;
  if (call->key_bias) at += partial->taps * call->heads;
  partial->logit_bias = at;
  if (call->logit_bias) at += partial->table * call->heads;
  partial->size = at;
}

static int64_t pieces(const struct plan *plan) { return plan->call->batch * plan->splits * plan->call->heads; }

/* Without sums the threads may split the work in any way; sums of parameter gradients are split by the shapes
 * only, into few enough parts to be small compared with the maps. */
static void count_units(struct plan *plan) {
  int64_t units = UNITS_PER_THREAD * larger_of(1, plan->call->threads);
  if (plan->backward) {
    units = UNITS;
    if (plan->partial.size) {
      const struct slideformer_call *call = plan->call;
      int64_t map = call->batch * call->height * call->width * call->heads * call->channels;
      units = larger_of(MIN_UNITS, smaller_of(units, map / 4 / plan->partial.size));
    }
  }
  plan->units = larger_of(1, smaller_of(pieces(plan), units));
}

static int64_t unit_first(const struct plan *plan, int64_t unit) { return unit * pieces(plan) / plan->units; }

int64_t unit_pieces(const struct plan *plan, int64_t unit) {
  return unit_first(plan, unit + 1) - unit_first(plan, unit);
}

struct piece unit_piece(const struct plan *plan, int64_t unit, int64_t number) {
  int64_t heads = plan->call->heads, piece = unit_first(plan, unit) + number;
  int64_t split = piece / heads;
  return (struct piece){split / plan->splits, piece % heads, &plan->split[split % plan->splits]};
}

float *shared_row(const struct plan *plan, struct piece piece, int64_t row) {
  const struct split *split = piece.split;
  int64_t number = row - split->lowest, top = larger_of(0, split->shared_to - split->lowest + 1);
  if (row > split->shared_to) {
    if (row < split->shared_from) return NULL;
    number = top + row - larger_of(split->shared_from, split->shared_to + 1);
  }
  int64_t map = piece.batch * plan->call->heads + piece.head;
  return plan->side + ((map * plan->side_rows) + split->side + number) * plan->side_row;
}

void plan_pack_weight(const struct plan *plan, float *packed) {
  int64_t channels = plan->call->channels, taps = plan->taps;
  memset(packed, 0, (size_t)plan_weights(plan) * sizeof(float));
  for (int64_t i = 0; i < channels * taps * taps; i++) {
    packed[weight_place(plan, i / taps % taps, i % taps, i / (taps * taps))] = plan->call->shift_weight[i];
  }
}

void plan_add_partials(const struct plan *plan) {
  const struct slideformer_call *call = plan->call;
  int64_t channels = call->channels, taps = plan->taps;
  int64_t table = call->relative ? (2 * plan->rows.taps - 1) * (2 * plan->columns.taps - 1) : taps;
  if (call->shift_weight) memset(call->grad_shift_weight, 0, (size_t)(channels * taps * taps) * sizeof(float));
  if (call->shift_bias) memset(call->grad_shift_bias, 0, (size_t)(channels * taps) * sizeof(float));
  if (call->key_bias) memset(call->grad_key_bias, 0, (size_t)(call->heads * taps) * sizeof(float));
  if (call->logit_bias) memset(call->grad_logit_bias, 0, (size_t)(call->heads * table) * sizeof(float));
  for (int64_t unit = 0; unit < plan->units; unit++) {
    const float *from = plan->partials + unit * plan->partial.size;
    for (int64_t i = 0; i < channels * taps * taps && call->shift_weight; i++) {
      int64_t place = weight_place(plan, i / taps % taps, i % taps, i / (taps * taps));
      call->grad_shift_weight[i] += from[plan->partial.weight + place];
    }
    for (int64_t i = 0; i < channels * taps && call->shift_bias; i++) {
      call->grad_shift_bias[i] += from[plan->partial.bias + i % taps * channels + i / taps];
    }
    for (int64_t i = 0; i < call->heads * taps && call->key_bias; i++) {
      call->grad_key_bias[i] += from[plan->partial.key_bias + i / taps * plan->partial.taps + i % taps];
    }
    for (int64_t i = 0; i < call->heads * table && call->logit_bias; i++) {
      call->grad_logit_bias[i] += from[plan->partial.logit_bias + i / table * plan->partial.table + i % table];
    }
  }
}

int plan_open(struct plan *plan, const struct slideformer_call *call, int backward, int64_t lanes) {
  *plan = (struct plan){.call = call, .backward = backward, .deformed = call->shift_weight != NULL};
  plan->taps = (int64_t)call->kernel_size[0] * call->kernel_size[1];
  plan->blocks = ceil_div(plan->taps, TAPS);
  plan->lanes = lanes;
  plan->vectors = ceil_div(call->channels, lanes);
  int64_t row_numbers = axis_numbers(call->height, call->kernel_size[0]);
  int64_t numbers = row_numbers + axis_numbers(call->width, call->kernel_size[1]);
  int clamp = call->border == SLIDEFORMER_CLAMP;
  plan->numbers = malloc((size_t)numbers * sizeof(int64_t));
  if (!plan->numbers) return SLIDEFORMER_NO_MEMORY;
  axis_fill(&plan->rows, call->height, call->kernel_size[0], call->dilation[0], clamp, plan->numbers);
  axis_fill(&plan->columns, call->width, call->kernel_size[1], call->dilation[1], clamp, plan->numbers + row_numbers);
  plan->splits = count_splits(plan);
  plan->split = malloc((size_t)plan->splits * sizeof(struct split));
  if (!plan->split) return SLIDEFORMER_NO_MEMORY;
  fill_splits(plan);
  if (backward) size_partial(plan);
  count_units(plan);
  plan->side_row = call->width * (call->channels + call->value_channels);
  return SLIDEFORMER_OK;
}

void plan_close(struct plan *plan) {
  free(plan->numbers);
  free(plan->split);
}

int plan_threads(const struct plan *plan) {
  const struct slideformer_call *call = plan->call;
  double positions = (double)call->batch * call->height * call->width * call->heads * call->channels;
  double sums = positions * plan->taps * (plan->deformed ? plan->taps + 1 : 2) * (plan->backward ? 6 : 2);
  /* Below some 500 000 sums a thread is not worth its start. */
  int64_t worth = (int64_t)smaller_of(call->threads, (int64_t)(sums / 5e5) + 1);
  return (int)larger_of(1, smaller_of(worth, plan->units));
}
