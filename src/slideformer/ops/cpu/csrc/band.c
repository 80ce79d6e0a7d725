/* SPDX-License-Identifier: Apache-2.0 */
#include "deformed.h"

/* Places of a band: so few that its planes stay in a core's second cache, so many that the rows which
 * two bands have in common, and the last vector, cost little. */
enum { PLACES = 480 };

/* The height of a split's bands that wastes the fewest places of its whole vectors. */
static int64_t best_rows(int64_t rows, int64_t pitch) {
  int64_t best = 1, least = INT64_MAX;
  for (int64_t some = 1; some <= rows && (some == 1 || some * pitch <= PLACES); some++) {
    int64_t cost = rows / some * (round_up(some * pitch, STEP) + STEP / 2) + round_up(rows % some * pitch, STEP);
    if (cost <= least) {
      least = cost;
      best = some;
    }
  }
  return best;
}

size_t NAMED(slideformer_band)(struct band *band, const struct plan *plan, char *scratch) {
  const struct slideformer_call *call = plan->call;
  int64_t channels = call->channels, taps = plan->taps, padded = plan->blocks * TAPS;
  int64_t before = plan->columns.before, highest = ceil_div(call->height, plan->splits);
  *band = (struct band){.plan = plan, .pitch = call->width + before};
  band->rows_most = best_rows(highest, band->pitch);
  band->reach = 2 * plan->rows.before * band->pitch;
  band->length_most = round_up(band->rows_most * band->pitch, STEP);
  /* 16 more keep the planes of neighbouring channels off the same sets of the cache. */
  band->query_plane = round_up(band->length_most + LANES, 64) + 16;
  band->key_plane = round_up(before + band->reach + band->length_most + before + LANES, 64) + 16;
  band->margin = round_up(band->reach + before, 16);
  band->product_plane = band->margin + band->length_most + band->margin + STEP + LANES;

  struct arena arena = {scratch, 0};
  band->query = take_floats(&arena, channels * band->query_plane);
  band->key = take_floats(&arena, channels * band->key_plane);
  band->value = take_floats(&arena, channels * band->key_plane);
  int64_t pitch = plan->backward ? band->length_most : STEP;
  band->weights = take_floats(&arena, padded * pitch);
  band->valid = take_floats(&arena, band->length_most);
  band->key_bias = take_floats(&arena, call->shift_bias || call->key_bias ? padded * channels : 0);
  band->value_bias = take_floats(&arena, call->shift_bias ? padded * channels : 0);
  band->logit_bias = take_floats(&arena, padded);
  band->offset = take(&arena, taps, sizeof(int64_t));
  band->halves = take_floats(&arena, call->dtype == SLIDEFORMER_FLOAT32 ? 0 : call->width * channels);
  if (plan->backward) {
    band->grad_output = take_floats(&arena, channels * band->query_plane);
    band->grad_logits = take_floats(&arena, padded * pitch);
    band->products = take_floats(&arena, taps * band->product_plane);
    band->gathered = take_floats(&arena, band->length_most + band->reach + STEP + LANES);
    band->grad_query = take_floats(&arena, band->length_most);
    band->query_sum = take_floats(&arena, band->length_most);
    band->key_carry = take_floats(&arena, channels * (band->reach + LANES));
    band->value_carry = take_floats(&arena, channels * (band->reach + LANES));
    band->sums = take(&arena, plan->blocks * taps * TAPS, sizeof(vec));
  }
  if (!scratch) return arena.used;
  for (int64_t u = 0; u < taps; u++) {
    int64_t row = plan->rows.offset[u / plan->columns.taps] + plan->rows.before;
    band->offset[u] = row * band->pitch + plan->columns.offset[u % plan->columns.taps];
  }
  for (int64_t c = 0; c < channels; c++) {
    memset(band->key + c * band->key_plane, 0, (size_t)before * sizeof(float));
    memset(band->value + c * band->key_plane, 0, (size_t)before * sizeof(float));
  }
  band->key += before;
  band->value += before;
  if (!call->shift_bias) band->value_bias = NULL;
  if (!call->shift_bias && !call->key_bias) band->key_bias = NULL;
  return arena.used;
}

void NAMED(slideformer_band_head)(struct band *band, int64_t head) {
  const struct slideformer_call *call = band->plan->call;
  int64_t channels = call->channels, taps = band->plan->taps, padded = band->plan->blocks * TAPS;
  for (int64_t t = 0; t < padded; t++) {
    band->logit_bias[t] = call->logit_bias && t < taps ? call->logit_bias[head * taps + t] : 0;
    float key_bias = call->key_bias && t < taps ? call->key_bias[head * taps + t] : 0;
    for (int64_t c = 0; c < channels; c++) {
      int64_t place = (t / TAPS * channels + c) * TAPS + t % TAPS;
      float shift_bias = call->shift_bias && t < taps ? call->shift_bias[c * taps + t] : 0;
      if (band->value_bias) band->value_bias[place] = shift_bias;
      if (band->key_bias) band->key_bias[place] = shift_bias + key_bias;
    }
  }
}

/* Rows of one map from `first`, `rows` of them, to planes; zeros where the map has none, and between. */
static void load_rows(const struct band *band, const struct slideformer_map *map, int64_t first, int64_t rows,
                      float scale, float *to, int64_t plane, int64_t end) {
  const struct slideformer_call *call = band->plan->call;
  int64_t channels = call->channels, width = call->width;
  for (int64_t i = 0; i < rows; i++, to += band->pitch, end -= band->pitch) {
    int here = first + i >= 0 && first + i < call->height;
    if (here) {
      struct row row = row_of(map, call->dtype, band->piece.batch, first + i, band->piece.head);
      load_planes(row, width, channels, scale, to, plane, band->halves);
    }
    int64_t from = here ? width : 0;
    for (int64_t c = 0; c < channels; c++) {
      for (int64_t x = from; x < band->pitch; x++) to[c * plane + x] = 0;
    }
  }
  for (int64_t c = 0; c < channels; c++) {
    for (int64_t x = 0; x < end; x++) to[c * plane + x] = 0;
  }
}

static void fetch_map(struct fetch *fetch, const struct slideformer_call *call, const struct slideformer_map *map,
                      struct piece piece, int64_t first) {
  struct row row = row_of(map, call->dtype, piece.batch, first, piece.head);
  int64_t size = call->dtype == SLIDEFORMER_FLOAT32 ? 4 : 2;
  fetch->line[fetch->maps] = row.data;
  fetch->stride[fetch->maps] = row.stride;
  fetch->skip[fetch->maps++] = map->stride[1] * size - call->width * row.stride;
  fetch->bytes = call->channels * size;
}

/* Take aim at the rows that the next band loads, of this piece or of the next, and that this one stores. */
static void plan_fetch(struct band *band) {
  const struct plan *plan = band->plan;
  const struct slideformer_call *call = plan->call;
  struct fetch *fetch = &band->fetch;
  struct piece piece = band->piece;
  int64_t first = band->first + band->rows, above = plan->rows.before;
  *fetch = (struct fetch){.width = call->width, .every = larger_of(1, 2 * call->channels / STEP)};
  fetch->left = band->rows * call->width;
  if (first >= piece.split->end) {
    piece = band->next_piece;
    first = piece.split ? piece.split->first : 0;
  }
  if (piece.split) {
    fetch_map(fetch, call, &call->query, piece, first);
    fetch_map(fetch, call, &call->key, piece, first + above);
    fetch_map(fetch, call, &call->value, piece, first + above);
    if (plan->backward) fetch_map(fetch, call, &call->grad_output, piece, first);
  }
  fetch->reads = fetch->maps;
  if (plan->backward) {
    fetch_map(fetch, call, &call->grad_query, band->piece, band->first);
    fetch_map(fetch, call, &call->grad_key, band->piece, band->first - above);
    fetch_map(fetch, call, &call->grad_value, band->piece, band->first - above);
  } else {
    fetch_map(fetch, call, &call->output, band->piece, band->first);
  }
}

void NAMED(slideformer_band_load)(struct band *band, int64_t first) {
  const struct plan *plan = band->plan;
  const struct slideformer_call *call = plan->call;
  int64_t above = plan->rows.before, common = first == band->piece.split->first ? 0 : 2 * above;
  band->first = first;
  band->rows = smaller_of(band->rows_most, band->piece.split->end - first);
  band->length = round_up(band->rows * band->pitch, STEP);
  int64_t skip = common * band->pitch, rows = band->rows + 2 * above - common;
  /* All that a whole number of vectors reads is to be zero, and not what was there before. */
  int64_t key_end = band->length + band->reach + plan->columns.before + LANES;
  load_rows(band, &call->query, first, band->rows, (float)call->scale, band->query, band->query_plane, band->length);
  if (plan->backward) {
    load_rows(band, &call->grad_output, first, band->rows, 1, band->grad_output, band->query_plane, band->length);
  }
  float *keys = band->key + skip, *values = band->value + skip;
  load_rows(band, &call->key, first - above + common, rows, 1, keys, band->key_plane, key_end - skip);
  load_rows(band, &call->value, first - above + common, rows, 1, values, band->key_plane, key_end - skip);
  plan_fetch(band);
  for (int64_t n = 0; n < band->length; n++) {
    band->valid[n] = n < band->rows * band->pitch && n % band->pitch < call->width;
  }
}

void NAMED(slideformer_band_piece)(struct band *band, int64_t unit, int64_t number) {
  band->piece = unit_piece(band->plan, unit, number);
  band->next_piece = (struct piece){0};
  if (number + 1 < unit_pieces(band->plan, unit)) band->next_piece = unit_piece(band->plan, unit, number + 1);
}
