/* SPDX-License-Identifier: Apache-2.0 */
/* The split of a call into work. What is summed over positions is split by the shapes only, so that results do not
 * depend on the threads. */
#ifndef SLIDEFORMER_PLAN_H
#define SLIDEFORMER_PLAN_H

#include <stddef.h>

#include "axis.h"
#include "slideformer.h"

/* Output taps that are computed at a time: as many sums as a processor has registers for. */
#define TAPS 9

enum { PLANES, ROWS, COLUMNS, AXES };

/* Where one unit sums the gradients of the parameters, in floats from the start: those of all heads,
 * `taps` (T padded) and `table` floats each. */
struct partial {
  int64_t weight, bias, key_bias, logit_bias, size;
  int64_t taps, table;
};

/* A box of positions, a split of each axis, and where its sums for sources that others read too lie, among those of
 * one map. */
struct box {
  const struct split *axis[AXES];
  int64_t side;
};

/* The work on one map is cut into boxes, and each with some of the heads is a piece: as many as a core's cache holds
 * rows of, so that memory is read end to end. Pieces are numbered with the heads running fastest, as in memory; a
 * unit is a run of them that one thread computes in order and, in the backward pass, sums parameter gradients over. */
struct plan {
  const struct slideformer_call *call;
  int backward, deformed;
  int logits, values; /* which halves are computed: both, or one */
  int softmax;        /* whether logits become weights */
  int excludes;       /* whether keys that do not exist are left out of the softmax */
  int64_t taps, blocks; /* T, and blocks of TAPS that hold them */
  int64_t lanes, vectors; /* of a vector, and vectors that hold the D channels */
  struct axis axis[AXES];
  int64_t *tap[AXES]; /* by tap: its index along each axis */
  int64_t boxes, units;
  struct box *box;
  int64_t group, groups; /* heads of a piece, at most, and pieces that take all heads */
  int64_t variants, *variant, *variant_column; /* columns whose taps have the same places are one variant */
  int64_t slots;      /* rows of keys that a box holds at a time */
  int64_t row, width; /* the most positions of a box's row, and columns that they read with those outside */
  const float *weight; /* shift_weight as (blocks, vectors, T input taps, TAPS output taps, lanes) */
  struct partial partial;
  float *partials;
  float *side; /* (B, G, side cells, D + D') sums for sources that several boxes, or two ends of one, read */
  int64_t side_cells;
  size_t scratch_bytes; /* of one thread */
};

/* One of a unit's pieces of work: a box of some heads of one map. */
struct piece {
  int64_t batch, head, heads;
  const struct box *box;
};

/* Cut a call; to be closed even where memory is lacking, which is the only error. */
int plan_open(struct plan *plan, const struct slideformer_call *call, int backward, int64_t lanes);
void plan_close(struct plan *plan);

/* Threads that are worth starting, of those that the call allows. */
int plan_threads(const struct plan *plan);

/* shift_weight (D, T output, T input) in the order in which it is read, zero beyond T and D. */
void plan_pack_weight(const struct plan *plan, float *packed);

/* Add the units' sums in order, so that the gradients do not depend on who made them. */
void plan_add_partials(const struct plan *plan);

/* Entries of the logit bias of one head. */
int64_t plan_bias_size(const struct plan *plan);

int64_t unit_pieces(const struct plan *plan, int64_t unit);
struct piece unit_piece(const struct plan *plan, int64_t unit, int64_t number);

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

/* Packed weights, and where one of them is: output tap t, input tap u, channel c. */
static inline int64_t plan_weights(const struct plan *plan) {
  return plan->blocks * TAPS * plan->taps * plan->vectors * plan->lanes;
}

static inline int64_t weight_place(const struct plan *plan, int64_t t, int64_t u, int64_t c) {
  int64_t row = (t / TAPS * plan->vectors + c / plan->lanes) * plan->taps + u;
  return (row * TAPS + t % TAPS) * plan->lanes + c % plan->lanes;
}

/* Cuts scratch memory into parts that start on cache lines. With no memory it only adds up. */
struct arena {
  char *memory;
  size_t used;
};

static inline void *take(struct arena *arena, int64_t count, size_t size) {
  char *part = arena->memory ? arena->memory + arena->used : NULL;
  /* The odd line keeps arrays of a round size from falling on the same sets of the cache. */
  arena->used += ((size_t)count * size + 127) / 64 * 64;
  return part;
}

static inline float *take_floats(struct arena *arena, int64_t count) {
  return take(arena, count, sizeof(float));
}

#endif
