/* SPDX-License-Identifier: Apache-2.0 */
/* Backward pass of the deformed shift, a band at a time. With A and g the output's gradient,
 *
 *     gA_t = the contraction of g with v, as q's with k        gL_t = A_t (gA_t - sum_s A_s gA_s)
 *     gq_c = sum_u f_u k_c(+ u),  gk_c(+ u) gets f_u q_c,  f_u = sum_t gL_t W[c, t, u];  gv as gk of g and A
 *     gW[c, t, u] = sum of gL_t q_c k_c(+ u) + A_t g_c v_c(+ u)
 *
 * What gk_c gets is laid out by input tap and then gathered: adding to places that overlap those of the
 * tap before would wait for each store. */
#include "deformed.h"

/* A, and the gradient of the logits, for all places of the band. */
static void weights_of_band(struct band *band) {
  int64_t taps = band->plan->taps, pitch = band->length_most;
  for (int64_t n = 0; n < band->length; n += STEP) {
    float *weights = band->weights + n, *grads = band->grad_logits + n;
    contract_all(band, band->query + n, band->key + n, band->key_bias, weights, pitch);
    softmax(band, weights, pitch, band->valid + n);
    contract_all(band, band->grad_output + n, band->value + n, band->value_bias, grads, pitch);
    for (int i = 0; i < BLOCK; i++, weights += LANES, grads += LANES) {
      vec mean = {0};
      ivec here = load(band->valid + n + i * LANES) != (vec){0};
      for (int64_t t = 0; t < taps; t++) mean += load(weights + t * pitch) * load(grads + t * pitch);
      for (int64_t t = 0; t < taps; t++) {
        vec grad = load(weights + t * pitch) * (load(grads + t * pitch) - mean);
        store(grads + t * pitch, (vec)((ivec)grad & here));
      }
      for (int64_t t = taps; t < band->plan->blocks * TAPS; t++) store(grads + t * pitch, (vec){0});
    }
  }
}

/* Add sum_n y_t(n) x(n) m(n + u), lane by lane, for some input taps and TAPS output taps. */
INLINE void weight_sums(const float *x, const float *m, const float *y, int64_t pitch, int64_t length,
                        const int64_t *offset, int some, vec *to) {
  vec sum[SUMS][TAPS];
  UNROLL for (int u = 0; u < some; u++) UNROLL for (int t = 0; t < TAPS; t++) sum[u][t] = to[u * TAPS + t];
  for (int64_t n = 0; n < length; n += LANES) {
    vec product[SUMS];
    UNROLL for (int u = 0; u < some; u++) product[u] = load(x + n) * load(m + offset[u] + n);
    UNROLL for (int t = 0; t < TAPS; t++) {
      vec factor = load(y + t * pitch + n);
      UNROLL for (int u = 0; u < some; u++) sum[u][t] += factor * product[u];
    }
  }
  UNROLL for (int u = 0; u < some; u++) UNROLL for (int t = 0; t < TAPS; t++) to[u * TAPS + t] = sum[u][t];
}

static void add_weight_sums(const struct band *band, const float *x, const float *m, const float *y_lines) {
  int64_t taps = band->plan->taps, pitch = band->length_most;
  vec *to = band->sums;
  for (int64_t block = 0; block < band->plan->blocks; block++, y_lines += TAPS * pitch) {
    int64_t u = 0;
    for (; u + SUMS <= taps; u += SUMS, to += SUMS * TAPS) {
      weight_sums(x, m, y_lines, pitch, band->length, band->offset + u, SUMS, to);
    }
    for (; u < taps; u++, to += TAPS) weight_sums(x, m, y_lines, pitch, band->length, band->offset + u, 1, to);
  }
}

/* Add a channel's sums, over their lanes, to the unit's gradient of its weights. */
static void add_weight_gradient(const struct band *band, int64_t c, float *partial) {
  const struct plan *plan = band->plan;
  int64_t all = plan->taps * TAPS;
  for (int64_t block = 0; block < plan->blocks; block++) {
    const vec *from = band->sums + block * all;
    float *to = partial + (block * plan->call->channels + c) * all;
    for (int64_t i = 0; i < all; i += LANES) {
      vec group[LANES];
      UNROLL for (int l = 0; l < LANES; l++) group[l] = i + l < all ? from[i + l] : (vec){0};
      store_some(to + i, load_some(to + i, all - i) + sums(group), all - i);
    }
  }
}

/* Add sum_n y_t(n) x(n), or sum_n y_t(n) where x is NULL, for some taps. */
static void add_sums(const struct band *band, const float *y, const float *x, int64_t taps, float *to) {
  for (int64_t t = 0; t < taps; t++, y += band->length_most) {
    vec sum = {0};
    for (int64_t n = 0; n < band->length; n += LANES) sum += x ? load(y + n) * load(x + n) : load(y + n);
    to[t] += sum_lanes(sum)[0];
  }
}

static void add_bias_gradients(const struct band *band, float *partials) {
  const struct plan *plan = band->plan;
  const struct slideformer_call *call = plan->call;
  int64_t channels = call->channels, at = band->piece.head * plan->partial.taps;
  for (int64_t block = 0; block < plan->blocks && call->shift_bias; block++) {
    int64_t lines = block * TAPS * band->length_most;
    for (int64_t c = 0; c < channels; c++) {
      float *to = partials + plan->partial.bias + (block * channels + c) * TAPS;
      add_sums(band, band->grad_logits + lines, band->query + c * band->query_plane, TAPS, to);
      add_sums(band, band->weights + lines, band->grad_output + c * band->query_plane, TAPS, to);
    }
  }
  if (call->key_bias) {
    for (int64_t n = 0; n < band->length; n += LANES) {
      vec sum = {0};
      for (int64_t c = 0; c < channels; c++) sum += load(band->query + c * band->query_plane + n);
      store(band->query_sum + n, sum);
    }
    add_sums(band, band->grad_logits, band->query_sum, plan->taps, partials + plan->partial.key_bias + at);
  }
  if (call->logit_bias) add_sums(band, band->grad_logits, NULL, plan->taps, partials + plan->partial.logit_bias + at);
}

/* `spread` over the band for one channel: products by input tap, and out where it is wanted. */
INLINE void spread_band(const struct band *band, int64_t c, const float *y_lines, const float *bias, const float *m,
                        float *out, const float *x) {
  const struct plan *plan = band->plan;
  int64_t channels = plan->call->channels, taps = plan->taps, pitch = band->length_most;
  float *products = band->products + band->margin;
  for (int64_t block = 0; block < plan->blocks; block++) {
    const float *weight = plan->weight + (block * channels + c) * taps * TAPS;
    const float *add = bias ? bias + (block * channels + c) * TAPS : NULL;
    for (int64_t n = 0; n < band->length; n += STEP) {
      vec y[TAPS][BLOCK];
      UNROLL for (int t = 0; t < TAPS; t++) {
        UNROLL for (int i = 0; i < BLOCK; i++) y[t][i] = load(y_lines + (block * TAPS + t) * pitch + n + i * LANES);
      }
      float *to = out ? out + n : NULL;
      if (taps == 9) {
        spread(y, 9, band->offset, weight, add, m + n, to, x + n, products + n, band->product_plane, 1);
      } else {
        spread(y, taps, band->offset, weight, add, m + n, to, x + n, products + n, band->product_plane, block == 0);
      }
    }
  }
}

/* Add up, for one channel, what each place of keys or values gets from all input taps. The rows that the
 * next band does not add to are then complete and go to the plane, whose own are no longer needed. */
static void gather(const struct band *band, float *carry, float *plane) {
  int64_t taps = band->plan->taps, whole = band->rows * band->pitch;
  const float *products = band->products + band->margin;
  for (int64_t n = 0; n < whole + band->reach; n += LANES) {
    vec sum = {0};
    for (int64_t u = 0; u < taps; u++) sum += load(products + u * band->product_plane + n - band->offset[u]);
    store(band->gathered + n, sum);
  }
  for (int64_t n = 0; n < band->reach; n++) band->gathered[n] += carry[n];
  keep_common_rows(band, plane);
  memcpy(plane + band->reach, band->gathered, (size_t)whole * sizeof(float));
  memcpy(carry, band->gathered + whole, (size_t)band->reach * sizeof(float));
}

/* Complete rows of the gradients of keys and values, from `row` of the map on. */
static void store_rows(const struct band *band, const float *keys, const float *values, int64_t plane, int64_t row,
                       int64_t rows) {
  const struct slideformer_call *call = band->plan->call;
  const struct piece piece = band->piece;
  for (int64_t i = 0; i < rows; i++, row++, keys += band->pitch, values += band->pitch) {
    if (row < 0 || row >= call->height) continue;
    struct row key = row_of(&call->grad_key, call->dtype, piece.batch, row, piece.head);
    struct row value = row_of(&call->grad_value, call->dtype, piece.batch, row, piece.head);
    float *shared = shared_row(band->plan, piece, row);
    if (shared) {
      key = row_of_floats(shared, call->channels);
      value = row_of_floats(shared + call->width * call->channels, call->channels);
    }
    store_planes(keys, plane, call->width, call->channels, 1, key, band->halves);
    store_planes(values, plane, call->width, call->channels, 1, value, band->halves);
  }
}

static void backward_band(struct band *band, float *partials) {
  const struct plan *plan = band->plan;
  const struct slideformer_call *call = plan->call;
  int64_t channels = call->channels, taps = plan->taps;
  weights_of_band(band);
  add_bias_gradients(band, partials);
  for (int64_t u = 0; u < taps; u++) {
    float *line = band->products + u * band->product_plane;
    memset(line, 0, (size_t)band->margin * sizeof(float));
    int64_t end = band->margin + band->length;
    memset(line + end, 0, (size_t)(band->product_plane - end) * sizeof(float));
  }
  for (int64_t c = 0; c < channels; c++) {
    float *query = band->query + c * band->query_plane, *key = band->key + c * band->key_plane;
    float *value = band->value + c * band->key_plane, *grad = band->grad_output + c * band->query_plane;
    memset(band->sums, 0, (size_t)(plan->blocks * taps * TAPS) * sizeof(vec));
    add_weight_sums(band, query, key, band->grad_logits);
    spread_band(band, c, band->grad_logits, band->key_bias, key, band->grad_query, query);
    memcpy(query, band->grad_query, (size_t)band->length * sizeof(float));
    gather(band, band->key_carry + c * (band->reach + LANES), key);
    add_weight_sums(band, grad, value, band->weights);
    spread_band(band, c, band->weights, NULL, NULL, NULL, grad);
    gather(band, band->value_carry + c * (band->reach + LANES), value);
    add_weight_gradient(band, c, partials + plan->partial.weight);
  }
  for (int64_t i = 0; i < band->rows; i++) {
    struct row row = row_of(&call->grad_query, call->dtype, band->piece.batch, band->first + i, band->piece.head);
    const float *from = band->query + i * band->pitch;
    store_planes(from, band->query_plane, call->width, channels, (float)call->scale, row, band->halves);
  }
  int64_t row = band->first - plan->rows.before;
  store_rows(band, band->key + band->reach, band->value + band->reach, band->key_plane, row, band->rows);
}

void NAMED(slideformer_deformed_backward)(const struct plan *plan, int64_t unit, char *scratch) {
  struct band band;
  NAMED(slideformer_band)(&band, plan, scratch);
  float *partials = plan->partials + unit * plan->partial.size;
  int64_t carry = band.reach + LANES;
  for (int64_t number = 0; number < unit_pieces(plan, unit); number++) {
    NAMED(slideformer_band_piece)(&band, unit, number);
    const struct split *split = band.piece.split;
    NAMED(slideformer_band_head)(&band, band.piece.head);
    memset(band.key_carry, 0, (size_t)(plan->call->channels * carry) * sizeof(float));
    memset(band.value_carry, 0, (size_t)(plan->call->channels * carry) * sizeof(float));
    for (int64_t y = split->first; y < split->end; y += band.rows_most) {
      NAMED(slideformer_band_load)(&band, y);
      backward_band(&band, partials);
    }
    int64_t row = split->end - plan->rows.before;
    store_rows(&band, band.key_carry, band.value_carry, carry, row, 2 * plan->rows.before);
  }
}
