/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SLIDEFORMER_THREADS_H
#define SLIDEFORMER_THREADS_H

#include "plan.h"

typedef void work(const struct plan *plan, int64_t number, char *scratch);

/* Run work number 0 to count - 1 on some threads, each with scratch memory of its own. They are those of
 * the caller's OpenMP, if the call names it: between two of its own loops these wait busily for a while,
 * and others would have to share the processors with them. Else they live for this call only. Neither way
 * is there a pool of ours that a fork could break. Fewer threads than asked for do as well. */
void run_threads(const struct plan *plan, work *work, int64_t count, int threads, char *scratch);

#endif
