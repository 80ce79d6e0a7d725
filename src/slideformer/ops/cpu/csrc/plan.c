/* SPDX-License-Identifier: Apache-2.0 */
#include "plan.h"

#include <stdlib.h>
#include <string.h>

#include "box.h"

/* No split is so short that the sources around it cost more than an eighth. */
enum { TARGET_PIECES = 24, UNITS = 64, MIN_UNITS = 8, PIECES_PER_THREAD = 6, UNITS_PER_THREAD = 24 };
/* What is held at a time is to stay in a core's cache: the rows of all heads if rows need not be short for it, else
 * those of some heads; of a volume, the planes of one head. */
enum { ROWS_BYTES = 1 << 19, SHORT_ROW = 128, LONG_ROW = 512, PLANES_BYTES = 1 << 20 };
static const int64_t MIN_SPLIT[AXES] = {16, 16, 64};

/* Bytes that a position of one head takes where it is held. */
static int64_t position_bytes(const struct plan *plan) {
  int64_t channels = round_up(plan->call->channels, plan->lanes) + round_up(plan->call->value_channels, plan->lanes);
  return channels * (int64_t)sizeof(float) * (plan->backward ? 2 : 1);
}

static int64_t splits_for_cache(const struct plan *plan, int a) {
  const struct slideformer_call *call = plan->call;
  int64_t planes = axis_reach(&plan->axis[PLANES]) + 1, rows = axis_reach(&plan->axis[ROWS]) + 1;
  if (a == COLUMNS) {
    int64_t columns = ROWS_BYTES / larger_of(1, rows * call->heads * position_bytes(plan));
    return ceil_div(call->size[COLUMNS], smaller_of(LONG_ROW, larger_of(SHORT_ROW, columns)));
  }
  if (a == PLANES || planes == 1) return 1;
  int64_t row = smaller_of(call->size[COLUMNS], LONG_ROW) * (call->channels + call->value_channels);
  return ceil_div(planes * call->size[ROWS] * row * (int64_t)sizeof(float), PLANES_BYTES);
}

/* Without sums the threads may split the work in any way; sums of parameter gradients are split by the shapes
 * only. */
static int64_t wanted_pieces(const struct plan *plan) {
  return plan->backward ? TARGET_PIECES : PIECES_PER_THREAD * larger_of(1, plan->call->threads);
}

/* Enough boxes to keep the threads busy where maps are few: cut along planes first, then rows. */
static int cut_axes(struct plan *plan) {
  const struct slideformer_call *call = plan->call;
  int64_t wanted = ceil_div(wanted_pieces(plan), larger_of(1, call->batch));
  plan->boxes = 1;
  for (int a = 0; a < AXES; a++) {
    struct axis *axis = &plan->axis[a];
    int64_t most = larger_of(1, axis->size / larger_of(MIN_SPLIT[a], 8 * axis_reach(axis)));
    if (!axis_cut(axis, smaller_of(larger_of(wanted, splits_for_cache(plan, a)), most))) return 0;
    wanted = ceil_div(wanted, axis->splits);
    plan->boxes *= axis->splits;
  }
  return 1;
}

/* Taps are in row-major order. */
static int fill_taps(struct plan *plan) {
  plan->tap[PLANES] = malloc((size_t)(AXES * plan->taps) * sizeof(int64_t));
  if (!plan->tap[PLANES]) return 0;
  for (int a = 1; a < AXES; a++) plan->tap[a] = plan->tap[a - 1] + plan->taps;
  for (int64_t t = 0; t < plan->taps; t++) {
    int64_t rest = t;
    for (int a = AXES - 1; a >= 0; rest /= plan->axis[a--].taps) plan->tap[a][t] = rest % plan->axis[a].taps;
  }
  return 1;
}

static int fill_boxes(struct plan *plan) {
  plan->box = malloc((size_t)plan->boxes * sizeof(struct box));
  if (!plan->box) return 0;
  plan->slots = 1;
  for (int64_t number = 0; number < plan->boxes; number++) {
    struct box *box = &plan->box[number];
    int64_t rest = number;
    for (int a = AXES - 1; a >= 0; rest /= plan->axis[a--].splits) {
      box->axis[a] = &plan->axis[a].split[rest % plan->axis[a].splits];
    }
    box->side = plan->side_cells;
    plan->side_cells += box_cells(box);
    plan->slots = larger_of(plan->slots, box_slots(plan, box));
  }
  return 1;
}

static int64_t longest_row(const struct plan *plan, int padded) {
  int64_t longest = 1;
  for (int64_t s = 0; s < plan->axis[COLUMNS].splits; s++) {
    const struct split *split = &plan->axis[COLUMNS].split[s];
    longest = larger_of(longest, padded ? split->to - split->from + 1 : split->end - split->first);
  }
  return longest;
}

/* Fewer heads a piece where their rows do not fit, or where there would be fewer pieces than wanted. */
static void group_heads(struct plan *plan) {
  const struct slideformer_call *call = plan->call;
  plan->row = longest_row(plan, 0);
  plan->width = longest_row(plan, 1);
  int64_t fit = larger_of(1, ROWS_BYTES / larger_of(1, plan->slots * plan->width * position_bytes(plan)));
  int64_t wanted = ceil_div(wanted_pieces(plan), larger_of(1, call->batch * plan->boxes));
  plan->groups = smaller_of(call->heads, larger_of(ceil_div(call->heads, fit), wanted));
  plan->groups = larger_of(1, plan->groups);
  plan->group = ceil_div(call->heads, plan->groups);
  plan->groups = ceil_div(call->heads, larger_of(1, plan->group));
}

static int fill_variants(struct plan *plan) {
  const struct axis *columns = &plan->axis[COLUMNS];
  plan->variant = malloc((size_t)(2 * columns->size) * sizeof(int64_t));
  if (!plan->variant) return 0;
  plan->variant_column = plan->variant + columns->size;
  int64_t before = 0;
  for (int64_t x = 0; x < columns->size; x++) {
    int64_t kind = axis_kind(columns, x, plan->call->relative);
    if (x == 0 || kind != before) plan->variant_column[plan->variants++] = x;
    plan->variant[x] = plan->variants - 1;
    before = kind;
  }
  return 1;
}

static void size_partial(struct plan *plan) {
  const struct slideformer_call *call = plan->call;
  struct partial *partial = &plan->partial;
  int64_t at = 0;
  partial->taps = plan->blocks * TAPS;
  partial->table = partial->taps;
  if (call->relative) partial->table = plan_bias_size(plan);
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

static int64_t pieces(const struct plan *plan) { return plan->call->batch * plan->boxes * plan->groups; }

static int64_t positions(const struct slideformer_call *call) {
  return call->batch * call->size[PLANES] * call->size[ROWS] * call->size[COLUMNS] * call->heads;
}

/* Sums of parameter gradients are few enough to be small compared with the maps. */
static void count_units(struct plan *plan) {
  int64_t units = plan->backward ? UNITS : UNITS_PER_THREAD * larger_of(1, plan->call->threads);
  if (plan->partial.size) {
    const struct slideformer_call *call = plan->call;
    units = larger_of(MIN_UNITS, smaller_of(units, positions(call) * call->channels / 4 / plan->partial.size));
  }
  plan->units = larger_of(1, smaller_of(pieces(plan), units));
}

static int64_t unit_first(const struct plan *plan, int64_t unit) { return unit * pieces(plan) / plan->units; }

int64_t unit_pieces(const struct plan *plan, int64_t unit) {
  return unit_first(plan, unit + 1) - unit_first(plan, unit);
}

struct piece unit_piece(const struct plan *plan, int64_t unit, int64_t number) {
  int64_t piece = unit_first(plan, unit) + number, head = piece % plan->groups * plan->group;
  int64_t box = piece / plan->groups;
  int64_t heads = smaller_of(plan->group, plan->call->heads - head);
  return (struct piece){box / plan->boxes, head, heads, &plan->box[box % plan->boxes]};
}

int64_t plan_bias_size(const struct plan *plan) {
  if (!plan->call->relative) return plan->taps;
  int64_t size = 1;
  for (int a = 0; a < AXES; a++) size *= 2 * plan->axis[a].taps - 1;
  return size;
}

void plan_pack_weight(const struct plan *plan, float *packed) {
  int64_t channels = plan->call->channels, taps = plan->taps;
  memset(packed, 0, (size_t)plan_weights(plan) * sizeof(float));
  const float *from = plan->call->shift_weight;
  for (int64_t c = 0; c < channels; c++) {
    for (int64_t t = 0; t < taps; t++) {
      float *to = packed + weight_place(plan, t, 0, c);
      for (int64_t u = 0; u < taps; u++) to[u * TAPS * plan->lanes] = *from++;
    }
  }
}

void plan_add_partials(const struct plan *plan) {
  const struct slideformer_call *call = plan->call;
  const struct partial *partial = &plan->partial;
  int64_t channels = call->channels, taps = plan->taps, table = plan_bias_size(plan);
  float *total = plan->partials;
  for (int64_t unit = 1; unit < plan->units; unit++) {
    const float *next = plan->partials + unit * partial->size;
    for (int64_t i = 0; i < partial->size; i++) total[i] += next[i];
  }
  float *to = call->grad_shift_weight;
  for (int64_t c = 0; c < channels && call->shift_weight; c++) {
    for (int64_t t = 0; t < taps; t++) {
      const float *from = total + partial->weight + weight_place(plan, t, 0, c);
      for (int64_t u = 0; u < taps; u++) *to++ = from[u * TAPS * plan->lanes];
    }
  }
  for (int64_t i = 0; i < channels * taps && call->shift_bias; i++) {
    call->grad_shift_bias[i] = total[partial->bias + i % taps * channels + i / taps];
  }
  for (int64_t i = 0; i < call->heads * taps && call->key_bias; i++) {
    call->grad_key_bias[i] = total[partial->key_bias + i / taps * partial->taps + i % taps];
  }
  for (int64_t i = 0; i < call->heads * table && call->logit_bias; i++) {
    call->grad_logit_bias[i] = total[partial->logit_bias + i / table * partial->table + i % table];
  }
}

int plan_open(struct plan *plan, const struct slideformer_call *call, int backward, int64_t lanes) {
  *plan = (struct plan){.call = call, .backward = backward, .deformed = call->shift_weight != NULL};
  plan->logits = call->part != SLIDEFORMER_VALUES;
  plan->values = call->part == SLIDEFORMER_WHOLE || call->part == SLIDEFORMER_VALUES;
  plan->softmax = call->part == SLIDEFORMER_WHOLE || call->part == SLIDEFORMER_WEIGHTS;
  plan->taps = 1;
  for (int a = 0; a < AXES; a++) {
    plan->taps *= call->kernel_size[a];
    plan->excludes |= call->key_mask && call->border[a] != SLIDEFORMER_ZEROS;
    if (!axis_open(&plan->axis[a], call->size[a], call->kernel_size[a], call->dilation[a], call->border[a])) {
      return SLIDEFORMER_NO_MEMORY;
    }
  }
  plan->blocks = ceil_div(plan->taps, TAPS);
  plan->lanes = lanes;
  plan->vectors = ceil_div(call->channels, lanes);
  if (!fill_taps(plan) || !cut_axes(plan) || !fill_boxes(plan) || !fill_variants(plan)) return SLIDEFORMER_NO_MEMORY;
  group_heads(plan);
  if (backward) size_partial(plan);
  count_units(plan);
  return SLIDEFORMER_OK;
}

void plan_close(struct plan *plan) {
  for (int a = 0; a < AXES; a++) axis_close(&plan->axis[a]);
  free(plan->tap[PLANES]);
  free(plan->box);
  free(plan->variant);
}

int plan_threads(const struct plan *plan) {
  const struct slideformer_call *call = plan->call;
  double products = (double)positions(call) * larger_of(call->channels, call->value_channels);
  double sums = products * plan->taps * (plan->deformed ? plan->taps + 1 : 2) * (plan->backward ? 6 : 2);
  /* Below some 500 000 sums a thread is not worth its start. */
  int64_t worth = (int64_t)smaller_of(call->threads, (int64_t)(sums / 5e5) + 1);
  return (int)larger_of(1, smaller_of(worth, plan->units));
}
