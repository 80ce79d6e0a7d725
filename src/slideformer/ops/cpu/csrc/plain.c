/* SPDX-License-Identifier: Apache-2.0 */
/* Forward pass without deformation: T products of D channels for the logits, and T for the output.
 *
 * Lanes are channels while products are made and the taps of one position in the softmax. So each
 * position has a window of its own, and borders and dilation cost nothing. */
#include "plain.h"

size_t NAMED(slideformer_plain_scratch)(const struct plan *plan) {
  struct cache cache;
  return NAMED(slideformer_cache)(&cache, plan, NULL);
}

/* out = sum_t y_t (m_t + bias_t), for some vectors of channels. */
INLINE void mix(const float *y, const float *const *tap, int64_t at, const float *bias, int64_t pitch, int64_t taps,
                int64_t vectors, float *out) {
  vec sum[8];
  UNROLL for (int v = 0; v < vectors; v++) sum[v] = (vec){0};
  for (int64_t t = 0; t < taps; t++) {
    UNROLL for (int v = 0; v < vectors; v++) {
      vec seen = load(tap[t] + at + v * LANES);
      if (bias) seen += load(bias + t * pitch + v * LANES);
      sum[v] += y[t] * seen;
    }
  }
  UNROLL for (int v = 0; v < vectors; v++) store(out + v * LANES, sum[v]);
}

static void attend_row(const struct cache *cache, int64_t width) {
  const struct plan *plan = cache->plan;
  int64_t taps = plan->taps, keys = cache->keys, values = cache->values;
  for (int64_t first = 0; first < width; first += CHUNK) {
    int64_t count = smaller_of(CHUNK, width - first);
    float *y = cache->weights;
    for (int64_t x = first; x < first + count; x++, y += cache->lanes) {
      int64_t at = plan->columns.start[x] * keys;
      dots_of_size(cache->query + x * keys, cache->key_tap, at, cache->shift_bias, taps, keys / LANES, y);
    }
    weights_of(cache, first, count, cache->query + first * keys, cache->weights);
    y = cache->weights;
    for (int64_t x = first; x < first + count; x++, y += cache->lanes) {
      int64_t at = plan->columns.start[x] * values;
      float *out = cache->output + x * values;
      if (values == HEAD32 * LANES && !cache->shift_bias) {
        if (taps == 9) {
          mix(y, cache->value_tap, at, NULL, 0, 9, HEAD32, out);
        } else {
          mix(y, cache->value_tap, at, NULL, 0, taps, HEAD32, out);
        }
      } else {
        for (int64_t c = 0; c < values; c += LANES) {
          const float *bias = cache->shift_bias ? cache->shift_bias + c : NULL;
          mix(y, cache->value_tap, at + c, bias, values, taps, 1, out + c);
        }
      }
    }
  }
}

void NAMED(slideformer_plain)(const struct plan *plan, int64_t unit, char *scratch) {
  const struct slideformer_call *call = plan->call;
  struct cache cache;
  NAMED(slideformer_cache)(&cache, plan, scratch);
  for (int64_t number = 0; number < unit_pieces(plan, unit); number++) {
    cache.piece = unit_piece(plan, unit, number);
    NAMED(slideformer_cache_piece)(&cache);
    for (int64_t y = cache.piece.split->first; y < cache.piece.split->end; y++) {
      NAMED(slideformer_cache_row)(&cache, y);
      attend_row(&cache, call->width);
      struct row row = row_of(&call->output, call->dtype, cache.piece.batch, y, cache.piece.head);
      store_row(cache.output, cache.values, call->width, call->value_channels, row);
    }
  }
}
