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
  int64_t width = cache->plan->call->width, keys = cache->keys;
  for (int64_t first = 0; first < width; first += CHUNK) {
    int64_t count = smaller_of(CHUNK, width - first), at = cache->plan->columns.start[first] * keys;
    struct line query = line_from(cache->query, first), output = line_from(cache->output, first);
    contract_chunk(cache, query, cache->key_tap, at, count, first, cache->weights);
    softmax_chunk(cache, query, count, cache->weights);
    spread_chunk(cache, cache->weights, cache->value_tap, NULL, at, count, none, output, 1);
  }
}
