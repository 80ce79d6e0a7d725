/* SPDX-License-Identifier: Apache-2.0 */
/* What is compiled once for each instruction set. */
#ifndef SLIDEFORMER_KERNELS_H
#define SLIDEFORMER_KERNELS_H

#include "plan.h"

struct kernels {
  int64_t lanes; /* of a vector */
  size_t (*scratch_bytes)(const struct plan *plan);
  void (*unit)(const struct plan *plan, int64_t unit, char *scratch);
  /* Add up what splits left for the rows of one map that they share. */
  void (*join)(const struct plan *plan, int64_t map, char *scratch);
};

extern const struct kernels slideformer_baseline, slideformer_avx2, slideformer_avx512;

#endif
