/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of some heads of one map that a thread works on, as float32, and what its gradients add up to. */
#ifndef SLIDEFORMER_CACHE_H
#define SLIDEFORMER_CACHE_H

#include "box.h"
#include "isa.h"
#include "rows.h"

/* Positions whose weights are held at a time, and vectors of the two usual widths of a head. */
enum { CHUNK = 32, HEAD32 = 32 / LANES };

/* A row of positions as float32 in whole vectors, the channels of position x at data + x pitch: the map's
 * own row where it is that already, else a copy with zeros after the last channel. */
struct line {
  float *data;
  int64_t pitch;
};

/* Rows to read next, and rows to write next, on their way into the cache while one is computed: as they lie in
 * memory, all heads of a position and then the next, whatever head is computed. */
struct ahead {
  struct row row[7];
  int reads, rows;
  int64_t position, head; /* up to where they are fetched */
};

/* What is held of one head. Rows of keys and values are float32 with the zeros that windows reach, in rings: line l is
 * at l % slots. */
struct head {
  int64_t number; /* in the call */
  float *key, *value, *grad_key, *grad_value; /* (slots, width, keys or values) */
  float *logit_offset, *grad_logit_offset;    /* (variants, lanes): what is added to the logits */
  float *key_bias, *grad_key_bias;            /* (lanes), or NULL */
};

/* Positions and columns are counted from the first of the piece's box. */
struct cache {
  const struct plan *plan;
  int64_t keys, values, lanes; /* D, D' and T in whole vectors, in floats */
  int64_t width, slots;        /* of a row with its zeros; rows of the ring */
  int64_t loaded, stored;      /* lines of the box so far */
  struct head *heads, head;    /* of the piece, and the one at hand */
  float *outside, *grad_outside; /* a row of zeros that is read for rows out of the map, one to write to */
  int64_t count;  /* positions of a row */
  int64_t *place; /* by position: where its first tap reads, from where the first position's does */
  struct line query, grad_query, output, grad_output; /* of the row and head at hand */
  float *queries, *grad_queries, *outputs, *grad_outputs; /* their (W, keys or values) where not in place */
  float *weights, *grad_logits;  /* (CHUNK, lanes), or of the deformed shift (T padded, CHUNK) */
  float *given_weights, *given_grads; /* of a half: the row's weights, or logits, and their gradients, in the call */
  const float **key_tap, **value_tap; /* (T): where a tap reads for the first position */
  float **grad_key_tap, **grad_value_tap;
  const int64_t *variant; /* by position */
  int64_t kind[2];        /* of the plane and the row that the tables of offsets are for; -1: none */
  float *missing;            /* (slots, width): minus infinity where a key does not exist, else 0 */
  uint8_t *lacks;            /* (slots): whether a row lacks keys */
  const float **missing_tap; /* (T), as key_tap */
  float *masked_offset;        /* (W, lanes): what a mask adds to the logits of the row at hand */
  int is_masked;               /* whether one concerns the row at hand */
  float *shift_bias, *grad_shift_bias; /* (T padded, keys), or NULL */
  int64_t unit, plane, row; /* the unit, and the row of positions at hand */
  int64_t table_plane, table_row; /* one that the table is for */
  struct piece piece, next; /* the piece, and the unit's next, whose box is NULL after the last */
  struct ahead ahead;
  int64_t bytes; /* of a position's channels in the maps */
};

size_t NAMED(slideformer_cache)(struct cache *cache, const struct plan *plan, char *scratch);
/* Start one of a unit's pieces: take the parameters of its heads, and nothing is summed yet. */
void NAMED(slideformer_cache_piece)(struct cache *cache, int64_t unit, int64_t number);
/* Make a row of positions ready: rows of keys and values, what is added to logits, what is fetched next. */
void NAMED(slideformer_cache_row)(struct cache *cache, int64_t plane, int64_t row);
/* Make one of the heads ready: where taps read, and the row's queries and results. */
void NAMED(slideformer_cache_head)(struct cache *cache, int64_t head);
/* Store what was computed of the row and head at hand. */
void NAMED(slideformer_cache_store)(struct cache *cache);

/* Load the lines of keys and values up to the highest that a row of positions reads. */
void NAMED(slideformer_load_lines)(struct cache *cache, int64_t highest);
/* Take aim at what the next row of positions loads and stores. */
void NAMED(slideformer_look_ahead)(struct cache *cache);

/* Make the tables of what is added to the logits ready for the row at hand. */
void NAMED(slideformer_offset_row)(struct cache *cache);
/* Sum the gradients of what was added to logits into the unit's. */
void NAMED(slideformer_offset_flush)(struct cache *cache);

/* Where a row of a box's positions starts in a map, and where a column of one of the lines that it reads is: of the
 * piece's first head. */
static inline struct start position_start(struct piece piece, int64_t plane, int64_t row) {
  return (struct start){{piece.batch, plane, row, piece.box->axis[COLUMNS]->first, piece.head}};
}

static inline struct start line_start(const struct plan *plan, struct piece piece, int64_t line, int64_t column) {
  const struct axis *axis = plan->axis;
  int64_t plane = axis_place(&axis[PLANES], line_source(piece.box, line, PLANES));
  int64_t row = axis_place(&axis[ROWS], line_source(piece.box, line, ROWS));
  return (struct start){{piece.batch, plane, row, axis_place(&axis[COLUMNS], column), piece.head}};
}

/* What is added to the logits of a position, from tap t on. */
INLINE vec offset_at(const struct cache *cache, int64_t x, int64_t t) {
  vec offset = load(cache->head.logit_offset + cache->variant[x] * cache->lanes + t);
  return cache->is_masked ? offset + load(cache->masked_offset + x * cache->lanes + t) : offset;
}

/* Fetch one head of a position of the rows ahead, and move on. A few lines at a time, between the sums: many at once
 * wait for each other. */
INLINE void fetch(struct ahead *ahead, int64_t heads, int64_t bytes) {
  for (int i = 0; i < ahead->rows; i++) {
    const struct row *row = &ahead->row[i];
    const char *line = row->data + ahead->position * row->stride + ahead->head * row->head;
    if (i < ahead->reads) {
      for (int64_t byte = 0; byte < bytes; byte += 64) __builtin_prefetch(line + byte, 0, 2);
    } else {
      for (int64_t byte = 0; byte < bytes; byte += 64) __builtin_prefetch(line + byte, 1, 2);
    }
  }
  if (++ahead->head == heads) {
    ahead->head = 0;
    ahead->position++;
  }
}

#endif
