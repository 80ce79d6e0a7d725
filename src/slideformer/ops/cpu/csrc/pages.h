/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SLIDEFORMER_PAGES_H
#define SLIDEFORMER_PAGES_H

#include <stddef.h>

#include "slideformer.h"

/* Ask for huge pages for memory that is written next. The system hands out fresh memory a page at a time, with the
 * first write to each, which with pages of 4 KiB is a good part of the time that a large output takes. */
void use_huge_pages(void *data, size_t bytes);
void use_huge_pages_for_map(const struct slideformer_map *map, const struct slideformer_call *call, int64_t channels);

#endif
