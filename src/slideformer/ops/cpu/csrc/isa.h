/* SPDX-License-Identifier: Apache-2.0 */
/* Names of what is compiled once for each instruction set; ISA is the set's name. */
#ifndef SLIDEFORMER_ISA_H
#define SLIDEFORMER_ISA_H

#include "kernels.h"

#define JOIN_NAMES(a, b) a##_##b
#define JOIN(a, b) JOIN_NAMES(a, b)
#define NAMED(name) JOIN(name, ISA)

struct cache;

void NAMED(slideformer_forward)(const struct plan *plan, int64_t unit, char *scratch);
void NAMED(slideformer_backward)(const struct plan *plan, int64_t unit, char *scratch);

/* A row of positions that the cache has made ready. */
void NAMED(slideformer_deformed_row)(struct cache *cache);
void NAMED(slideformer_deformed_backward_row)(struct cache *cache);
void NAMED(slideformer_plain_row)(struct cache *cache);
void NAMED(slideformer_plain_backward_row)(struct cache *cache);

#endif
