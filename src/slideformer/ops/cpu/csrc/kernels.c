/* SPDX-License-Identifier: Apache-2.0 */
#include "cache.h"

static size_t scratch_bytes(const struct plan *plan) {
  struct cache cache;
  return NAMED(slideformer_cache)(&cache, plan, NULL);
}

static void unit(const struct plan *plan, int64_t number, char *scratch) {
  (plan->backward ? NAMED(slideformer_backward) : NAMED(slideformer_forward))(plan, number, scratch);
}

/* The sum of all cells of a source, a key's channels and then a value's. */
static void add_cells(const struct plan *plan, int64_t map, const int64_t place[AXES], float *total) {
  const struct slideformer_call *call = plan->call;
  const struct axis *axis = plan->axis;
  struct reader plane[MOST_READERS], row[MOST_READERS], column[MOST_READERS];
  int planes = axis_readers(&axis[PLANES], place[PLANES], plane), rows = axis_readers(&axis[ROWS], place[ROWS], row);
  int columns = axis_readers(&axis[COLUMNS], place[COLUMNS], column);
  memset(total, 0, (size_t)(call->channels + call->value_channels) * sizeof(float));
  for (int i = 0; i < planes * rows * columns; i++) {
    const struct reader *p = &plane[i / (rows * columns)], *r = &row[i / columns % rows], *c = &column[i % columns];
    int64_t number = (p->split * axis[ROWS].splits + r->split) * axis[COLUMNS].splits + c->split;
    const struct box *box = &plan->box[number];
    int64_t cell = box_cell(box, line_of(box, p->source, r->source), c->source);
    const float *key = side_key(plan, map, cell), *value = side_value(plan, map, cell);
    for (int64_t k = 0; k < call->channels && plan->logits; k++) total[k] += key[k];
    for (int64_t k = 0; k < call->value_channels && plan->values; k++) total[call->channels + k] += value[k];
  }
}

static void join(const struct plan *plan, int64_t map, char *scratch) {
  const struct slideformer_call *call = plan->call;
  const struct axis *axis = plan->axis;
  int64_t batch = map / call->heads, head = map % call->heads, size = call->size[PLANES] * call->size[ROWS];
  float *total = (float *)scratch;
  for (int64_t line = 0; line < size; line++) {
    int64_t plane = line / call->size[ROWS], row = line % call->size[ROWS];
    int is_inner = axis[PLANES].inner[plane] && axis[ROWS].inner[row];
    for (int64_t x = 0; x < call->size[COLUMNS]; x++) {
      if (is_inner && axis[COLUMNS].inner[x]) continue;
      add_cells(plan, map, (int64_t[AXES]){plane, row, x}, total);
      struct start start = {{batch, plane, row, x, head}};
      struct row key = row_of(&call->grad_key, call->dtype, start);
      struct row value = row_of(&call->grad_value, call->dtype, start);
      if (plan->logits) store_row(total, 0, 0, 1, call->channels, 1, key);
      if (plan->values) store_row(total + call->channels, 0, 0, 1, call->value_channels, 1, value);
    }
  }
}

const struct kernels NAMED(slideformer) = {LANES, scratch_bytes, unit, join};
