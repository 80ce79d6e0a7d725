/* SPDX-License-Identifier: Apache-2.0 */
#include "axis.h"

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

int64_t axis_numbers(int64_t size, int64_t taps) { return 2 * size + taps; }

void axis_fill(struct axis *axis, int64_t size, int64_t taps, int64_t dilation, int clamp, int64_t *numbers) {
  *axis = (struct axis){.size = size, .taps = taps, .dilation = dilation, .clamp = clamp};
  axis->start = numbers;
  axis->needed = numbers + size;
  axis->offset = numbers + 2 * size;
  for (int64_t tap = 0; tap < taps; tap++) {
    int64_t offset = (clamp ? tap : tap - taps / 2) * dilation;
    axis->offset[tap] = most(-size, least(size, offset));
  }
  for (int64_t position = 0; position < size; position++) {
    axis->start[position] = position;
    if (clamp) {
      /* Positions of one remainder form a grid of their own, in which the window slides inward. */
      int64_t remainder = position % dilation, place = position / dilation;
      int64_t length = (size - remainder + dilation - 1) / dilation;
      int64_t first = most(0, least(place - taps / 2, length - taps));
      axis->start[position] = first * dilation + remainder;
    }
    axis->before = most(axis->before, -(axis->start[position] + axis->offset[0]));
    axis->after = most(axis->after, axis->start[position] + axis->offset[taps - 1] - (size - 1));
  }
  int64_t lowest = size;
  for (int64_t position = size - 1; position >= 0; position--) {
    lowest = least(lowest, axis_lowest(axis, position));
    axis->needed[position] = lowest;
  }
}

int64_t axis_relative(const struct axis *axis, int64_t position) {
  int64_t distance = position - axis->start[position];
  /* Rounded up, as its negative is rounded down. A window that slid stays on the position's own grid. */
  return axis->taps - 1 - (distance + axis->dilation - 1) / axis->dilation;
}

int64_t axis_lowest(const struct axis *axis, int64_t position) {
  return most(0, axis->start[position] + axis->offset[0]);
}

int64_t axis_highest(const struct axis *axis, int64_t position) {
  return least(axis->size - 1, axis->start[position] + axis->offset[axis->taps - 1]);
}
