/* SPDX-License-Identifier: Apache-2.0 */
/* Forward pass without deformation: T products of D channels for the logits, and T for the output.
 *
 * Lanes are channels while products are made and the taps of one position in the softmax. So each
 * position has a window of its own, and borders and dilation cost nothing. */
#include "plain.h"

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

static void logits_chunk(struct cache *cache, int64_t first, int64_t count, float *y) {
  int64_t taps = cache->plan->taps, keys = cache->keys;
  for (int64_t x = first; x < first + count; x++, y += cache->lanes) {
    const float *query = cache->query.data + x * cache->query.pitch;
    fetch(&cache->ahead, cache->piece.heads, cache->bytes);
    dots_of_size(query, cache->key_tap, cache->place[x] * keys, cache->shift_bias, taps, keys / LANES, y);
  }
}

static void values_chunk(const struct cache *cache, int64_t first, int64_t count, const float *y) {
  int64_t taps = cache->plan->taps, values = cache->values;
  for (int64_t x = first; x < first + count; x++, y += cache->lanes) {
    int64_t at = cache->place[x] * values;
    float *out = cache->output.data + x * cache->output.pitch;
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

void NAMED(slideformer_plain_row)(struct cache *cache) {
  const struct plan *plan = cache->plan;
  for (int64_t first = 0; first < cache->count; first += CHUNK) {
    int64_t count = smaller_of(CHUNK, cache->count - first);
    float *y = cache->weights;
    if (plan->logits) {
      logits_chunk(cache, first, count, y);
      weights_of(cache, first, count, y);
    }
    if (!plan->logits) take_chunk(cache, cache->given_weights, first, count, y);
    if (!plan->values) give_chunk(cache, y, first, count, cache->given_weights);
    if (plan->values) values_chunk(cache, first, count, y);
  }
}
