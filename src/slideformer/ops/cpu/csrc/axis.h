/* SPDX-License-Identifier: Apache-2.0 */
/* One axis of the window laid over one axis of the map, the C side of `Axis` in ops/window.py, and its cut into
 * splits that are worked on apart. */
#ifndef SLIDEFORMER_AXIS_H
#define SLIDEFORMER_AXIS_H

#include "slideformer.h"

static inline int64_t smaller_of(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t larger_of(int64_t a, int64_t b) { return a > b ? a : b; }

/* Some positions of an axis, and the sources that they read: of a periodic axis perhaps beyond its ends, where it
 * begins again, of others only those on the map. */
struct split {
  int64_t first, end;             /* positions */
  int64_t lowest, highest;        /* sources that they read */
  int64_t from, to;               /* the same with those outside of the map */
  int64_t inner_first, inner_end; /* sources that nobody else reads: the others' gradients are shared */
};

/* Tap i of position p reads the source start[p] + offset[i]. Offsets are cut at the size of the map, beyond which
 * all is outside: however large the dilation, windows reach at most one map to each side. */
struct axis {
  int64_t size, taps, dilation;
  int border;
  int64_t *start;  /* by position */
  int64_t *needed; /* by position: the lowest source that it or a later one reads */
  int64_t *inner;  /* by place of the map: whether one split reads it, and stores its gradient */
  int64_t *offset; /* by tap */
  int64_t splits;
  struct split *split;
};

/* Both are false where memory is lacking. */
int axis_open(struct axis *axis, int64_t size, int64_t taps, int64_t dilation, int border);
int axis_cut(struct axis *axis, int64_t splits);
void axis_close(struct axis *axis);

/* Distance from the first tap to the last. */
int64_t axis_reach(const struct axis *axis);

/* Which taps of a position are on the map, and, where a bias asks, how far they are: equal for equal. */
int64_t axis_kind(const struct axis *axis, int64_t position, int relative);

/* Index of the distance of the first tap from its position in [0, 2 K - 2]; tap i has this plus i. */
int64_t axis_relative(const struct axis *axis, int64_t position);

/* First and last source that a position's taps read, cut to the map unless it is periodic. */
int64_t axis_lowest(const struct axis *axis, int64_t position);
int64_t axis_highest(const struct axis *axis, int64_t position);


/* The splits that read a place of the map, and as which source; how many. */
enum { MOST_READERS = 9 };
struct reader {
  int64_t split, source;
};
int axis_readers(const struct axis *axis, int64_t place, struct reader found[MOST_READERS]);

/* Whether there is something at a source, and where on the map. */
static inline int axis_holds(const struct axis *axis, int64_t source) {
  return axis->border == SLIDEFORMER_WRAP || (source >= 0 && source < axis->size);
}

static inline int64_t axis_place(const struct axis *axis, int64_t source) {
  return source < 0 ? source + axis->size : source >= axis->size ? source - axis->size : source;
}

/* Whether a tap takes part in the softmax. */
static inline int axis_counts(const struct axis *axis, int64_t position, int64_t tap) {
  return axis->border == SLIDEFORMER_ZEROS || axis_holds(axis, axis->start[position] + axis->offset[tap]);
}

static inline int is_inner(const struct split *split, int64_t source) {
  return source >= split->inner_first && source < split->inner_end;
}

#endif
