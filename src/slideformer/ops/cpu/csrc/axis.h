/* SPDX-License-Identifier: Apache-2.0 */
/* One axis of the window laid over one axis of the map: the C side of `Axis` in ops/window.py. */
#ifndef SLIDEFORMER_AXIS_H
#define SLIDEFORMER_AXIS_H

#include <stdint.h>

/* Tap i of position p reads the source start[p] + offset[i], which lies outside the map where it is
 * negative or not below size. Offsets are cut at the size of the map, beyond which all is outside:
 * however large the dilation, windows reach at most one map to each side. */
struct axis {
  int64_t size, taps, dilation;
  int clamp;
  int64_t *start;  /* by position */
  int64_t *offset; /* by tap */
  int64_t *needed; /* by position: the lowest source that it or a later one reads */
  int64_t before, after; /* how far windows reach out of the map */
};

int64_t axis_numbers(int64_t size, int64_t taps);
void axis_fill(struct axis *axis, int64_t size, int64_t taps, int64_t dilation, int clamp, int64_t *numbers);

/* Index of the distance of the first tap from its position in [0, 2 K - 2]; tap i has this plus i. */
int64_t axis_relative(const struct axis *axis, int64_t position);

/* First and last source that a position's taps read, cut to the map. */
int64_t axis_lowest(const struct axis *axis, int64_t position);
int64_t axis_highest(const struct axis *axis, int64_t position);

#endif
