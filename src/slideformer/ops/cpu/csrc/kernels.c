/* SPDX-License-Identifier: Apache-2.0 */
#include "cache.h"

static size_t scratch_bytes(const struct plan *plan) {
  struct cache cache;
  return NAMED(slideformer_cache)(&cache, plan, NULL);
}

static void unit(const struct plan *plan, int64_t number, char *scratch) {
  (plan->backward ? NAMED(slideformer_backward) : NAMED(slideformer_forward))(plan, number, scratch);
}

static void join(const struct plan *plan, int64_t map, char *scratch) {
  const struct slideformer_call *call = plan->call;
  int64_t batch = map / call->heads, head = map % call->heads;
  int64_t keys = call->width * call->channels;
  (void)scratch;
  for (int64_t y = 0; y < call->height; y++) {
    float *total = NULL;
    for (int64_t s = 0; s < plan->splits; s++) {
      const struct split *split = &plan->split[s];
      if (y < split->lowest || y > split->highest) continue;
      float *row = shared_row(plan, (struct piece){batch, head, split}, y);
      if (!row) break;
      for (int64_t i = 0; total && i < plan->side_row; i++) total[i] += row[i];
      if (!total) total = row;
    }
    if (!total) continue;
    struct row key = row_of(&call->grad_key, call->dtype, batch, y, head);
    struct row value = row_of(&call->grad_value, call->dtype, batch, y, head);
    store_row(total, call->channels, call->width, call->channels, key);
    store_row(total + keys, call->value_channels, call->width, call->value_channels, value);
  }
}

const struct kernels NAMED(slideformer) = {LANES, scratch_bytes, unit, join};
