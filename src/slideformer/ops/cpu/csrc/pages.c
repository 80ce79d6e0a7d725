/* SPDX-License-Identifier: Apache-2.0 */
#include "pages.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

enum { HUGE_PAGE = 1 << 21, WORTH_IT = 1 << 22 };

void use_huge_pages(void *data, size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  if (!data || bytes < WORTH_IT) return;
  uintptr_t first = ((uintptr_t)data + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
  uintptr_t end = ((uintptr_t)data + bytes) / HUGE_PAGE * HUGE_PAGE;
  /* A wish only: a system without them goes on with small ones. */
  if (end > first) madvise((void *)first, end - first, MADV_HUGEPAGE);
#else
  (void)data;
  (void)bytes;
#endif
}

void use_huge_pages_for_map(const struct slideformer_map *map, const struct slideformer_call *call, int64_t channels) {
  const int64_t sizes[] = {call->batch, call->size[0], call->size[1], call->size[2], call->heads};
  int64_t last = channels;
  for (int i = 0; i < 5; i++) last += (sizes[i] - 1) * map->stride[i];
  use_huge_pages(map->data, (size_t)last * (call->dtype == SLIDEFORMER_FLOAT32 ? 4 : 2));
}
