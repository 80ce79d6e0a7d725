/* SPDX-License-Identifier: Apache-2.0 */
/* Weights of a chunk of positions from and to the call, where one half of the operator is computed alone. A tap's
 * weights lie `tap` floats apart, and a position's `position`. */
#ifndef SLIDEFORMER_WEIGHTS_H
#define SLIDEFORMER_WEIGHTS_H

#include "cache.h"

static inline void take_weights(const struct cache *cache, const float *given, int64_t first, int64_t count,
                                float *y, int64_t tap, int64_t position) {
  int64_t taps = cache->plan->taps, pitch = cache->plan->call->heads * taps;
  for (int64_t i = 0; i < count; i++) {
    for (int64_t t = 0; t < taps; t++) y[i * position + t * tap] = given[(first + i) * pitch + t];
  }
}

static inline void give_weights(const struct cache *cache, const float *y, int64_t tap, int64_t position,
                                int64_t first, int64_t count, float *given) {
  int64_t taps = cache->plan->taps, pitch = cache->plan->call->heads * taps;
  for (int64_t i = 0; i < count; i++) {
    for (int64_t t = 0; t < taps; t++) given[(first + i) * pitch + t] = y[i * position + t * tap];
  }
}

#endif
