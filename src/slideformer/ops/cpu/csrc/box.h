/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of keys and values of a box, in order, and where its sums for shared sources lie.
 *
 * A row is numbered by its place among those that the box reads, planes first: its `line`. Most sources of a box are
 * read by nobody else, and their gradients go straight to the result. Those of the others, near its faces, go to the
 * box's cells in the side memory, line by line, and are added up at the end. */
#ifndef SLIDEFORMER_BOX_H
#define SLIDEFORMER_BOX_H

#include "plan.h"

static inline int64_t split_sources(const struct split *split) { return split->highest - split->lowest + 1; }
static inline int64_t split_inner(const struct split *split) { return split->inner_end - split->inner_first; }

static inline int64_t box_lines(const struct box *box) {
  return split_sources(box->axis[PLANES]) * split_sources(box->axis[ROWS]);
}

/* The plane, or the row, of a line: as a source, which may be beyond the end of a periodic axis. */
static inline int64_t line_source(const struct box *box, int64_t line, int axis) {
  int64_t rows = split_sources(box->axis[ROWS]);
  return box->axis[axis]->lowest + (axis == PLANES ? line / rows : line % rows);
}

static inline int64_t line_of(const struct box *box, int64_t plane, int64_t row) {
  return (plane - box->axis[PLANES]->lowest) * split_sources(box->axis[ROWS]) + row - box->axis[ROWS]->lowest;
}

/* Whether the inner columns of a line are nobody else's. */
static inline int is_inner_line(const struct box *box, int64_t line) {
  return is_inner(box->axis[PLANES], line_source(box, line, PLANES)) &&
         is_inner(box->axis[ROWS], line_source(box, line, ROWS));
}

/* The lines that a row of positions reads, and the lowest that it or a later one reads. */
int64_t box_highest(const struct plan *plan, const struct box *box, int64_t plane, int64_t row);
int64_t box_needed(const struct plan *plan, const struct box *box, int64_t plane, int64_t row);

/* Lines that have to be held at a time. */
int64_t box_slots(const struct plan *plan, const struct box *box);

/* Cells of a box in the side memory, and the cell of a source that is not its own. */
int64_t box_cells(const struct box *box);
int64_t box_cell(const struct box *box, int64_t line, int64_t column);

/* A cell's sums for the key and, after all keys', for the value. */
float *side_key(const struct plan *plan, int64_t map, int64_t cell);
float *side_value(const struct plan *plan, int64_t map, int64_t cell);

#endif
