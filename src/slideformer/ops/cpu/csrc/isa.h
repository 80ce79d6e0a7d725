/* SPDX-License-Identifier: Apache-2.0 */
/* Names of what is compiled once for each instruction set; ISA is the set's name. */
#ifndef SLIDEFORMER_ISA_H
#define SLIDEFORMER_ISA_H

#include "kernels.h"

#define JOIN_NAMES(a, b) a##_##b
#define JOIN(a, b) JOIN_NAMES(a, b)
#define NAMED(name) JOIN(name, ISA)

size_t NAMED(slideformer_deformed_scratch)(const struct plan *plan);
void NAMED(slideformer_deformed)(const struct plan *plan, int64_t unit, char *scratch);
void NAMED(slideformer_deformed_backward)(const struct plan *plan, int64_t unit, char *scratch);

size_t NAMED(slideformer_plain_scratch)(const struct plan *plan);
void NAMED(slideformer_plain)(const struct plan *plan, int64_t unit, char *scratch);
void NAMED(slideformer_plain_backward)(const struct plan *plan, int64_t unit, char *scratch);

#endif
