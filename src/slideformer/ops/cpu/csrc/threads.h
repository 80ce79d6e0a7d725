/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SLIDEFORMER_THREADS_H
#define SLIDEFORMER_THREADS_H

#include "plan.h"

typedef void work(const struct plan *plan, int64_t number, char *scratch);

/* Run work number 0 to count - 1 on some threads, each with scratch memory of its own. Threads live for
 * the call only: there is no pool that a fork could break. Fewer than asked for do as well. */
void run_threads(const struct plan *plan, work *work, int64_t count, int threads, char *scratch);

#endif
