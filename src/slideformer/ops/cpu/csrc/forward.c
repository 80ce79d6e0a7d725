/* SPDX-License-Identifier: Apache-2.0 */
/* The forward pass over a unit's pieces, row by row. */
#include "cache.h"

void NAMED(slideformer_forward)(const struct plan *plan, int64_t unit, char *scratch) {
  struct cache cache;
  NAMED(slideformer_cache)(&cache, plan, scratch);
  for (int64_t number = 0; number < unit_pieces(plan, unit); number++) {
    NAMED(slideformer_cache_piece)(&cache, unit, number);
    const struct split *planes = cache.piece.box->axis[PLANES], *rows = cache.piece.box->axis[ROWS];
    for (int64_t plane = planes->first; plane < planes->end; plane++) {
      for (int64_t row = rows->first; row < rows->end; row++) {
        NAMED(slideformer_cache_row)(&cache, plane, row);
        for (int64_t head = 0; head < cache.piece.heads; head++) {
          NAMED(slideformer_cache_head)(&cache, head);
          (plan->deformed ? NAMED(slideformer_deformed_row) : NAMED(slideformer_plain_row))(&cache);
          NAMED(slideformer_cache_store)(&cache);
        }
      }
    }
  }
}
