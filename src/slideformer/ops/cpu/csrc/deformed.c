/* SPDX-License-Identifier: Apache-2.0 */
/* Forward pass of the deformed shift:
 *
 *     logit_t = sum_c sum_u W[c, t, u] (q_c k_c(+ u)) + ...    out_c = sum_u (sum_t A_t W[c, t, u]) v_c(+ u) + ...
 *
 * Lanes are pixels, and a weight is broadcast: no lane is ever summed over, and the T output taps are as
 * many independent sums in registers. */
#include "deformed.h"

size_t NAMED(slideformer_deformed_scratch)(const struct plan *plan) {
  struct band band;
  return NAMED(slideformer_band)(&band, plan, NULL);
}

static void attend(struct band *band, int64_t n) {
  const struct plan *plan = band->plan;
  int64_t channels = plan->call->channels, taps = plan->taps;
  contract_all(band, band->query + n, band->key + n, band->key_bias, band->weights, STEP);
  softmax(band, band->weights, STEP, band->valid + n);
  for (int64_t block = 0; block < plan->blocks; block++) {
    const float *weight = plan->weight + block * channels * taps * TAPS;
    const float *bias = band->value_bias ? band->value_bias + block * channels * TAPS : NULL;
    vec y[TAPS][BLOCK];
    UNROLL for (int t = 0; t < TAPS; t++) {
      UNROLL for (int i = 0; i < BLOCK; i++) y[t][i] = load(band->weights + (block * TAPS + t) * STEP + i * LANES);
    }
    /* The queries have served: their planes take the output. */
    float *out = band->query + n;
    const float *value = band->value + n;
    for (int64_t c = 0; c < channels; c++, out += band->query_plane, value += band->key_plane) {
      if (c % band->fetch.every == 0) fetch_position(&band->fetch);
      if (taps == 9) {
        spread(y, 9, band->offset, weight, bias, value, out, NULL, NULL, 0, 1);
      } else {
        spread(y, taps, band->offset, weight, bias, value, out, NULL, NULL, 0, block == 0);
      }
      weight += taps * TAPS;
      if (bias) bias += TAPS;
    }
  }
}

void NAMED(slideformer_deformed)(const struct plan *plan, int64_t unit, char *scratch) {
  const struct slideformer_call *call = plan->call;
  struct band band;
  NAMED(slideformer_band)(&band, plan, scratch);
  for (int64_t number = 0; number < unit_pieces(plan, unit); number++) {
    NAMED(slideformer_band_piece)(&band, unit, number);
    NAMED(slideformer_band_head)(&band, band.piece.head);
    for (int64_t y = band.piece.split->first; y < band.piece.split->end; y += band.rows_most) {
      NAMED(slideformer_band_load)(&band, y);
      for (int64_t n = 0; n < band.length; n += STEP) attend(&band, n);
      for (int64_t i = 0; i < band.rows; i++) {
        struct row row = row_of(&call->output, call->dtype, band.piece.batch, y + i, band.piece.head);
        store_planes(band.query + i * band.pitch, band.query_plane, call->width, call->channels, 1, row, band.halves);
      }
      for (int64_t c = 0; c < call->channels; c++) {
        keep_common_rows(&band, band.key + c * band.key_plane);
        keep_common_rows(&band, band.value + c * band.key_plane);
      }
    }
  }
}
