/* SPDX-License-Identifier: Apache-2.0 */
#include "axis.h"

#include <stdlib.h>
#include <string.h>

static int64_t first_tap(const struct axis *axis, int64_t position) { return axis->start[position] + axis->offset[0]; }

static int64_t last_tap(const struct axis *axis, int64_t position) {
  return axis->start[position] + axis->offset[axis->taps - 1];
}

/* Positions of one remainder form a grid of their own, in which the window slides inward. */
static void slide_inward(struct axis *axis) {
  int64_t remainder = 0, place = 0, whole = axis->size / axis->dilation, rest = axis->size % axis->dilation;
  for (int64_t position = 0; position < axis->size; position++) {
    int64_t length = whole + (remainder < rest);
    int64_t first = larger_of(0, smaller_of(place - axis->taps / 2, length - axis->taps));
    axis->start[position] = first * axis->dilation + remainder;
    if (++remainder == axis->dilation) {
      remainder = 0;
      place++;
    }
  }
}

int axis_open(struct axis *axis, int64_t size, int64_t taps, int64_t dilation, int border) {
  *axis = (struct axis){.size = size, .taps = taps, .dilation = dilation, .border = border};
  axis->start = malloc((size_t)(3 * size + taps) * sizeof(int64_t));
  if (!axis->start) return 0;
  axis->needed = axis->start + size;
  axis->inner = axis->start + 2 * size;
  axis->offset = axis->start + 3 * size;
  for (int64_t tap = 0; tap < taps; tap++) {
    int64_t offset = (border == SLIDEFORMER_CLAMP ? tap : tap - taps / 2) * dilation;
    axis->offset[tap] = larger_of(-size, smaller_of(size, offset));
  }
  for (int64_t position = 0; position < size; position++) axis->start[position] = position;
  if (border == SLIDEFORMER_CLAMP) slide_inward(axis);
  int64_t lowest = size;
  for (int64_t position = size - 1; position >= 0; position--) {
    lowest = smaller_of(lowest, axis_lowest(axis, position));
    axis->needed[position] = lowest;
  }
  return 1;
}

void axis_close(struct axis *axis) {
  free(axis->start);
  free(axis->split);
}

static void fill_split(const struct axis *axis, struct split *split) {
  for (int64_t position = split->first; position < split->end; position++) {
    split->lowest = smaller_of(split->lowest, axis_lowest(axis, position));
    split->highest = larger_of(split->highest, axis_highest(axis, position));
    split->from = smaller_of(split->from, first_tap(axis, position));
    split->to = larger_of(split->to, last_tap(axis, position));
  }
}

/* A periodic source beyond an end is read at its place, too, and so is never inner. */
static void find_inner(const int64_t *readers, const struct axis *axis, struct split *split) {
  int64_t source = split->lowest;
  while (source <= split->highest && readers[axis_place(axis, source)] > 1) source++;
  split->inner_first = split->inner_end = source;
  while (split->inner_end <= split->highest && readers[axis_place(axis, split->inner_end)] == 1) split->inner_end++;
}

int axis_cut(struct axis *axis, int64_t splits) {
  axis->splits = splits;
  axis->split = malloc((size_t)splits * sizeof(struct split));
  if (!axis->split) return 0;
  int64_t *readers = axis->inner; /* counted first */
  memset(readers, 0, (size_t)axis->size * sizeof(int64_t));
  for (int64_t s = 0; s < splits; s++) {
    struct split *split = &axis->split[s];
    *split = (struct split){.first = s * axis->size / splits, .end = (s + 1) * axis->size / splits};
    split->lowest = split->from = 2 * axis->size;
    split->highest = split->to = -2 * axis->size;
    fill_split(axis, split);
    for (int64_t source = split->lowest; source <= split->highest; source++) readers[axis_place(axis, source)]++;
  }
  for (int64_t s = 0; s < splits; s++) find_inner(readers, axis, &axis->split[s]);
  memset(axis->inner, 0, (size_t)axis->size * sizeof(int64_t));
  for (int64_t s = 0; s < splits; s++) {
    const struct split *split = &axis->split[s];
    for (int64_t source = split->inner_first; source < split->inner_end; source++) axis->inner[source] = 1;
  }
  return 1;
}

int64_t axis_reach(const struct axis *axis) { return axis->offset[axis->taps - 1] - axis->offset[0]; }

int64_t axis_kind(const struct axis *axis, int64_t position, int relative) {
  int64_t first = 0, inside = axis->taps, distance = relative ? axis_relative(axis, position) : 0;
  int excludes = axis->border == SLIDEFORMER_MASK || axis->border == SLIDEFORMER_CLAMP;
  if (excludes && (first_tap(axis, position) < 0 || last_tap(axis, position) >= axis->size)) {
    inside = 0;
    for (int64_t tap = 0; tap < axis->taps; tap++) {
      first += axis->start[position] + axis->offset[tap] < 0;
      inside += axis_holds(axis, axis->start[position] + axis->offset[tap]);
    }
  }
  return (distance * (axis->taps + 1) + first) * (axis->taps + 1) + inside;
}

int64_t axis_relative(const struct axis *axis, int64_t position) {
  if (axis->border != SLIDEFORMER_CLAMP) return axis->taps - 1 - axis->taps / 2;
  int64_t distance = position - axis->start[position];
  /* Rounded up, as its negative is rounded down. A window that slid stays on the position's own grid. */
  return axis->taps - 1 - (distance + axis->dilation - 1) / axis->dilation;
}

int64_t axis_lowest(const struct axis *axis, int64_t position) {
  int64_t first = first_tap(axis, position);
  return axis->border == SLIDEFORMER_WRAP ? first : larger_of(0, first);
}

int64_t axis_highest(const struct axis *axis, int64_t position) {
  int64_t last = last_tap(axis, position);
  return axis->border == SLIDEFORMER_WRAP ? last : smaller_of(axis->size - 1, last);
}

int axis_readers(const struct axis *axis, int64_t place, struct reader found[MOST_READERS]) {
  int count = 0;
  for (int64_t round = -1; round <= 1; round++) {
    int64_t source = place + round * axis->size;
    if (round && axis->border != SLIDEFORMER_WRAP) continue;
    /* Splits are so much longer than windows that only neighbours of the split where a source lies read it. */
    int64_t own = larger_of(0, smaller_of(source * axis->splits / axis->size, axis->splits - 1));
    for (int64_t s = larger_of(0, own - 1); s <= smaller_of(own + 1, axis->splits - 1); s++) {
      const struct split *split = &axis->split[s];
      if (split->lowest <= source && source <= split->highest) found[count++] = (struct reader){s, source};
    }
  }
  return count;
}
