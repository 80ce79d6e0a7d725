/* SPDX-License-Identifier: Apache-2.0 */
#include "box.h"

int64_t box_highest(const struct plan *plan, const struct box *box, int64_t plane, int64_t row) {
  return line_of(box, axis_highest(&plan->axis[PLANES], plane), axis_highest(&plan->axis[ROWS], row));
}

int64_t box_needed(const struct plan *plan, const struct box *box, int64_t plane, int64_t row) {
  const struct split *planes = box->axis[PLANES], *rows = box->axis[ROWS];
  const int64_t *needed = plan->axis[PLANES].needed;
  int64_t line = line_of(box, needed[plane], larger_of(rows->lowest, plan->axis[ROWS].needed[row]));
  if (plane + 1 < planes->end) line = smaller_of(line, line_of(box, needed[plane + 1], rows->lowest));
  return larger_of(0, line);
}

int64_t box_slots(const struct plan *plan, const struct box *box) {
  int64_t slots = 1, highest = 0;
  for (int64_t plane = box->axis[PLANES]->first; plane < box->axis[PLANES]->end; plane++) {
    for (int64_t row = box->axis[ROWS]->first; row < box->axis[ROWS]->end; row++) {
      highest = larger_of(highest, box_highest(plan, box, plane, row));
      slots = larger_of(slots, highest - box_needed(plan, box, plane, row) + 1);
    }
  }
  return slots;
}

static int64_t inner_lines(const struct box *box) {
  return split_inner(box->axis[PLANES]) * split_inner(box->axis[ROWS]);
}

int64_t box_cells(const struct box *box) {
  return box_lines(box) * split_sources(box->axis[COLUMNS]) - inner_lines(box) * split_inner(box->axis[COLUMNS]);
}

static int64_t cut(int64_t x, int64_t most) { return larger_of(0, smaller_of(x, most)); }

int64_t box_cell(const struct box *box, int64_t line, int64_t column) {
  const struct split *planes = box->axis[PLANES], *rows = box->axis[ROWS], *columns = box->axis[COLUMNS];
  int64_t plane = line_source(box, line, PLANES), row = line_source(box, line, ROWS);
  int64_t inner = cut(plane - planes->inner_first, split_inner(planes)) * split_inner(rows); /* inner lines before */
  if (is_inner(planes, plane)) inner += cut(row - rows->inner_first, split_inner(rows));
  int64_t cell = line * split_sources(columns) - inner * split_inner(columns) + column - columns->lowest;
  int skips = is_inner_line(box, line) && column >= columns->inner_end;
  return box->side + cell - (skips ? split_inner(columns) : 0);
}

float *side_key(const struct plan *plan, int64_t map, int64_t cell) {
  int64_t channels = plan->call->channels + plan->call->value_channels;
  return plan->side + map * plan->side_cells * channels + cell * plan->call->channels;
}

float *side_value(const struct plan *plan, int64_t map, int64_t cell) {
  return side_key(plan, map, plan->side_cells) + cell * plan->call->value_channels;
}
