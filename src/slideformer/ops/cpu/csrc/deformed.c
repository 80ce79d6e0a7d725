/* SPDX-License-Identifier: Apache-2.0 */
/* Forward pass of the deformed shift, a chunk of positions of one row at a time:
 *
 *     logit_t = sum_c sum_u W[c, t, u] (q_c k_c(+ u)) + ...    out_c = sum_u (sum_t A_t W[c, t, u]) v_c(+ u) + ...
 *
 * Lanes are channels, as in memory: a position's row of the map is read unchanged, and each tap
 * of the window is a pointer. The T output taps are as many independent sums in registers; only they are
 * summed over lanes, once for each position. */
#include "deformed.h"

void NAMED(slideformer_deformed_row)(struct cache *cache) {
  const struct plan *plan = cache->plan;
  float *y = cache->weights;
  for (int64_t first = 0; first < cache->count; first += CHUNK) {
    int64_t count = smaller_of(CHUNK, cache->count - first), at = first * cache->keys;
    struct line query = line_from(cache->query, first), output = line_from(cache->output, first);
    if (plan->logits) {
      contract_chunk(cache, query, cache->key_tap, at, count, &cache->ahead, y);
      weights_of(cache, query, count, y);
    }
    if (!plan->logits) take_chunk(cache, cache->given_weights, first, count, y);
    if (!plan->values) give_chunk(cache, y, first, count, cache->given_weights);
    if (plan->values) spread_chunk(cache, y, cache->value_tap, NULL, at, count, none, output, 1);
  }
}
